#!/bin/sh
# sh results/inverted_pendulum_options.sh NAME [FOLDER]
# The runs, evaluations and pictures of results/NAME, a setting with options of ours, made anew in
# another folder. The same command goes on where it was stopped. Needs the extra `sweep`.
set -e
options="--correlated-noise --start-spread 0.6 0 0.6 0"
mbpo_seeds=5 rmbpo_seeds=5
case $1 in
inverted_pendulum_small_step)
  options="$options --entropy-rows 1000 --sac-lr 0.0001"
  mbpo_seeds=7 rmbpo_seeds=7 ;;
inverted_pendulum_entropy) options="$options --entropy-rows 1000" ;;
inverted_pendulum_three_updates)
  options="$options --updates-per-step 3 --horizon-min 15 --horizon-max 15 --rollout-rows 10000"
  rmbpo_seeds=7 ;;
*)
  echo "$0: expected inverted_pendulum_small_step, _entropy or _three_updates, got '$1'" >&2
  exit 2 ;;
esac
out=${2:-runs/results/$1}
settings="--env inverted_pendulum --total-env-steps 10000 --threads 1 --compile $options"
masses="pole_mass=5,50,75,100,125,150,160,170,180,200,220"
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/mbpo" --algo mbpo --seeds $mbpo_seeds
python -m rmbpo_fast.sweep $settings --distort "$masses" --out "$out/rmbpo" --kl-target-nats 0.5 --seeds $rmbpo_seeds
python -m rmbpo_fast.evaluate "$out/*/*-seed-*" --distort "$masses" --out "$out/evaluations"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/policies/*" --distort pole_mass=5,100,160,200 --episodes 5 --out "$out/checkpoints"
python -m rmbpo_fast.study.average "$out/*/*-seed-*"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/averaged/policy.safetensors" --distort "$masses" --out "$out/averaged"
python -m rmbpo_fast.study.summary "$out"
