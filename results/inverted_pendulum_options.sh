#!/bin/sh
# sh results/inverted_pendulum_options.sh NAME [FOLDER]
# The runs, evaluations and pictures of results/NAME, a setting with options of ours, made anew in
# another folder. The same command goes on where it was stopped. Needs the extra `sweep`.
set -e
steps=10000 mbpo_seeds=5 rmbpo_seeds=5 noise=
options="--correlated-noise --start-spread 0.6 0 0.6 0"
pessimism="--kl-target-nats 0.5"
rollouts="--rollout-schedule 15 --rollout-rows 10000"
case $1 in
inverted_pendulum_small_step)
  options="$options --entropy-rows 1000 --sac-lr 0.0001"
  mbpo_seeds=7 rmbpo_seeds=7 ;;
inverted_pendulum_entropy) options="$options --entropy-rows 1000" ;;
inverted_pendulum_three_updates)
  options="$options --updates-per-step 3 $rollouts"
  rmbpo_seeds=7 ;;
inverted_pendulum_kl_target) rmbpo_seeds=4 ;;
inverted_pendulum_correlated_kl_target) options="$options --updates-per-step 2 $rollouts" ;;
inverted_pendulum_correlated)
  options="$options --updates-per-step 2 $rollouts"
  pessimism="--eta 0.2" ;;
inverted_pendulum_two_updates)
  options="--start-spread 0.6 0 0.6 0 --target-entropy=-0.3 --updates-per-step 2 $rollouts"
  pessimism="--eta 0.05" ;;
inverted_pendulum_noise)
  options="--action-noise truncated_normal:0.6" pessimism="--eta 0.05"
  noise="action_noise=0.33333333" # times that of training: the task's own
  steps=20000 mbpo_seeds=2 rmbpo_seeds=4 ;;
*)
  echo "$0: expected the name of a folder results/inverted_pendulum_*, got '$1'" >&2
  exit 2 ;;
esac
out=${2:-runs/results/$1}
settings="--env inverted_pendulum --total-env-steps $steps --threads 1 --compile $options"
masses="pole_mass=5,50,75,100,125,150,160,170,180,200,220 $noise"
few="pole_mass=5,100,160,200 $noise"
python -m rmbpo_fast.sweep $settings --distort $masses --out "$out/mbpo" --algo mbpo --seeds $mbpo_seeds
python -m rmbpo_fast.sweep $settings --distort $masses --out "$out/rmbpo" $pessimism --seeds $rmbpo_seeds
python -m rmbpo_fast.evaluate "$out/*/*-seed-*" --distort $masses --out "$out/evaluations"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/policies/*" --distort $few --episodes 5 --out "$out/checkpoints"
python -m rmbpo_fast.study.average "$out/*/*-seed-*"
python -m rmbpo_fast.evaluate "$out/*/*-seed-*/averaged/policy.safetensors" --distort $masses --out "$out/averaged"
python -m rmbpo_fast.study.summary "$out"
