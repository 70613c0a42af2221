"""Whole episodes of a policy in its task, nominal or distorted: what a policy is judged by."""

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from rmbpo_fast.config import TaskConfig
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.seeding import generator_for, seed_for
from rmbpo_fast.worlds.distortion import distorted_task
from rmbpo_fast.worlds.envs import Envs
from rmbpo_fast.worlds.tasks import find_task

Act = Callable[[Tensor], Tensor]  # obs [N, S] -> action [N, A] in [-1, 1], on the CPU


def check_changes(config: TaskConfig, changes: Mapping[str, float]) -> None:
    """Raises ConfigError for a distortion that the task can't have, or that would do nothing."""
    distorted_task(find_task(config.env), changes)
    if "action_noise" in changes and config.noise[1] == 0:
        raise ConfigError("action_noise multiplies the task's own noise, and this task has none")


def evaluation_envs(
    config: TaskConfig, num_envs: int, seed: int, changes: Mapping[str, float] | None = None
) -> Envs:
    """The task's environments, apart from those that a run learns from.

    Args:
        seed: of resets and action noise; the same seed gives the same ones whatever the physics.
        changes: distortions (see `distortion.Physics`); none if absent.
    """
    changes = changes or {}
    kind, scale = config.noise
    return Envs(
        distorted_task(find_task(config.env), changes),
        num_envs,
        kind,
        scale * changes.get("action_noise", 1.0),
        seed_for(seed, "eval resets") % 2**31,
        generator_for(seed, "eval noise"),
    )


def play(
    act: Act,
    config: TaskConfig,
    episodes: int,
    seed: int,
    changes: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Undiscounted returns [episodes] of a policy, the task's action noise included.

    All episodes are stepped together, one environment each, and only the first episode of each
    counts: waiting for any `episodes` to end would favour short ones. Arguments as
    `evaluation_envs`'s.
    """
    envs = evaluation_envs(config, episodes, seed, changes)
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
