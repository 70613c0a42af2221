"""Goes on with a run's policy in imagination alone: adversary, rollouts, policy updates, in rounds.

What an adversary of a given strength makes of one policy, apart from what new real data change:
p_theta and the real data stay those of the run's newest checkpoint. A round is what 250 real steps
are in training, but for the real steps and p_theta's fit; g_psi begins anew. On a CPU.

python -m rmbpo_fast.study.imagine_on RUN_DIR --out OUT_DIR --drop-target 0.06
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from rmbpo_fast.algo.rollout import horizon_at
from rmbpo_fast.errors import run_command
from rmbpo_fast.kernels.backend import choose_backend
from rmbpo_fast.run.agent import build_adversary, imagined_capacity
from rmbpo_fast.run.files import load_run, write_config
from rmbpo_fast.run.loop import adversary_phase, end_epoch, imagine_all, make_steps
from rmbpo_fast.run.metrics import Metrics


@dataclass(frozen=True)
class Arguments:
    """Policies of all rounds go to OUT_DIR/policies/, metrics and settings beside them."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, with a checkpoint."""
    out: Path
    """Folder of what comes of it, as a run's."""
    eta: float | None = None
    """As train's. Without it and without a target there is no adversary: p_theta's rollouts."""
    drop_target: float | None = None
    """As train's."""
    rounds: int = 20
    """Adversary fits, each with its rollouts and policy updates."""
    threads: int = 1
    """CPU threads of PyTorch."""


def run(arguments: Arguments) -> None:
    """Writes what a run writes, real steps counted on by those that a round stands for."""
    agent, step = load_run(arguments.run)
    config = agent.config
    eta, drop_target = arguments.eta, arguments.drop_target
    config = config.replace(
        algo="mbpo" if eta is None and drop_target is None else "rmbpo",
        eta=config.adversary.eta if eta is None else eta,
        kl_target_nats=None,
        drop_target=drop_target,
        run_dir=arguments.out,
        threads=arguments.threads,
        keep_policies=arguments.rounds,
    )
    torch.set_num_threads(arguments.threads)
    device = torch.device("cpu")
    machine = choose_backend("auto", device, config.run.precision)
    agent.config = config
    sizes = (agent.envs.obs_size, agent.envs.action_size)
    agent.adversary = build_adversary(config, sizes, device)
    horizon = horizon_at(step // config.task.epoch_steps, config.rollout)
    agent.players[0].imagined.resize_(imagined_capacity(config, horizon))
    arguments.out.mkdir(parents=True)
    write_config(arguments.out, config, machine, agent.task)
    metrics = Metrics(arguments.out, agent.metrics_header())
    steps = make_steps(agent)
    for number in range(1, arguments.rounds + 1):
        joined = adversary_phase(agent, steps, metrics)
        with metrics.watch.phase("rollout"):
            metrics.add({"rollout/imagined_steps": imagine_all(agent, steps, horizon, joined)})
        with metrics.watch.phase("sac"):
            for _ in range(config.model.fit_every_steps):
                metrics.add(steps.update(config.sac.updates_per_step))
        agent.progress.env_step += config.model.fit_every_steps
        row = end_epoch(agent, steps, metrics, arguments.out)
        share = row.get("adversary/newest_drop_share", 0.0)
        print(
            f"round {number}/{arguments.rounds}  return {row['eval/return_mean']:.1f} +- "
            f"{row['eval/return_std']:.1f}  {100 * share:.1f} % of V  {row['time/epoch_s']:.0f} s",
            flush=True,
        )
    metrics.close()


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, or 1 for a failure."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m rmbpo_fast.study.imagine_on")
    return run_command(lambda: run(arguments), "stopped")


if __name__ == "__main__":
    sys.exit(main())
