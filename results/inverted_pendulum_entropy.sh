#!/bin/sh
# The runs, evaluations and pictures of results/inverted_pendulum_entropy, made anew in another folder.
# The same command goes on where it was stopped. Needs the extra `sweep`.
set -e
out=${1:-runs/results/inverted_pendulum_entropy}
settings="--env inverted_pendulum --total-env-steps 10000 --threads 1 --compile"
options="--correlated-noise --start-spread 0.6 0 0.6 0 --entropy-rows 1000"
masses="pole_mass=5,50,75,100,125,150,160,170,180,200,220"
python -m rmbpo_fast.sweep $settings $options --distort "$masses" --out "$out/mbpo" --algo mbpo --seeds 5
python -m rmbpo_fast.sweep $settings $options --distort "$masses" --out "$out/rmbpo" --kl-target-nats 0.5 --seeds 5
python -m rmbpo_fast.evaluate "$out/*/*-seed-*" --distort "$masses" --out "$out/evaluations"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/policies/*" --distort pole_mass=5,100,160,200 --episodes 5 --out "$out/checkpoints"
python results/average.py "$out/*/*-seed-*"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/averaged/policy.safetensors" --distort "$masses" --out "$out/averaged"
python results/summary.py "$out"
