"""Deterministic returns of a policy. `python -m rmbpo_fast.evaluate RUN_DIR --episodes 10`."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from rmbpo_fast.config import TaskConfig, read_config
from rmbpo_fast.envs import Envs
from rmbpo_fast.errors import RmbpoError, print_error
from rmbpo_fast.policy import Policy
from rmbpo_fast.seeding import generator_for, seed_for
from rmbpo_fast.tasks import find_task


def evaluate(
    act: Callable[[Tensor], Tensor], config: TaskConfig, episodes: int, seed: int
) -> np.ndarray:
    """Undiscounted returns [episodes] of the policy `act` in the task, its action noise included.

    All episodes are stepped together, one environment each, and only the first episode of each
    counts: waiting for any `episodes` to end would favour short ones.

    Args:
        act: obs [N, S] -> action [N, A] in [-1, 1], on the CPU.
        seed: of resets and noise; the same seed gives the same episodes.
    """
    envs = Envs(
        find_task(config.env),
        episodes,
        config.action_noise,
        config.action_noise_scale,
        seed_for(seed, "eval resets") % 2**31,
        generator_for(seed, "eval noise"),
    )
    first: dict[int, float] = {}
    try:
        while len(first) < episodes:
            envs.step(act(envs.obs))
            for episode in envs.episodes:
                first.setdefault(episode.env, episode.episode_return)
            envs.episodes.clear()
    finally:
        envs.close()
    return np.array([first[i] for i in range(episodes)])


@dataclass(frozen=True)
class Arguments:
    """Return of a finished run's policy in its own task."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of the run."""
    episodes: int = 10
    """Episodes, stepped together."""
    seed: int = 0
    """Seed of resets and action noise."""


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m rmbpo_fast.evaluate")
    try:
        if arguments.episodes < 1:
            raise RmbpoError(f"--episodes must be at least 1, not {arguments.episodes}")
        policy = Policy.load(arguments.run_dir)
        config = read_config(arguments.run_dir)
        torch.set_num_threads(1)
        returns = evaluate(policy.unit_action, config.task, arguments.episodes, arguments.seed)
    except (RmbpoError, OSError) as error:
        print_error(error)
        return 1
    print(
        f"{policy.env_id}: return {returns.mean():.1f} +- {returns.std():.1f} "
        f"over {len(returns)} episodes (min {returns.min():.1f}, max {returns.max():.1f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
