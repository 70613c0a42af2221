#!/bin/sh
# The runs, evaluations and pictures of results/hopper, made anew in another folder. Each command shows
# what it will take and goes on where it was stopped. Needs the extra `sweep`.
set -e
out=${1:-runs/results/hopper}
settings="--env hopper --total-env-steps 125000 --compile"
masses="torso_mass=2.5,3,3.5,4,4.5,5,5.5,6"
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/mbpo" --algo mbpo --seeds 1
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/rmbpo" --seeds 1
python -m rmbpo_fast.evaluate "$out/*/*-seed-*" --distort "$masses" --out "$out/evaluations"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/policies/*" --distort "$masses" --out "$out/checkpoints"
python -m rmbpo_fast.study.summary "$out"
