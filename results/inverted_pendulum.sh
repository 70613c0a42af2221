#!/bin/sh
# The runs, evaluations and pictures of results/inverted_pendulum, made anew in another folder. Each
# command shows what it will take and goes on where it was stopped. Needs the extra `sweep`.
set -e
out=${1:-runs/results/inverted_pendulum}
settings="--env inverted_pendulum --total-env-steps 10000 --threads 1 --compile"
masses="pole_mass=5,50,75,100,125,150,160,170,180,200,220"
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/mbpo" --algo mbpo --seeds 5
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/rmbpo" --eta 0.02 0.05 0.1 0.2 --seeds 2
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/rmbpo" --eta 0.05 --seeds 5
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/full" --eta 0.05 --adversary paper --seeds 2
python -m rmbpo_fast.evaluate "$out/*/*-seed-*" --distort "$masses" --out "$out/evaluations"
python -m rmbpo_fast.evaluate "$out/mbpo/*/policies/*" "$out/rmbpo/eta-0.05-*/policies/*" \
  --distort pole_mass=5,50,100,160 --out "$out/checkpoints"
python -m rmbpo_fast.study.summary "$out"
