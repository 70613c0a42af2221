"""Whole episodes of a policy in its task, nominal or distorted: what a policy is judged by."""

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor

from rmbpo_fast.config import TaskConfig
from rmbpo_fast.errors import ConfigError, NoInstance
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
        num_envs: at most; one where the task allows no more instances.
        seed: of resets and action noise; the same seed gives the same ones whatever the physics.
        changes: distortions (see `distortion.Physics`); none if absent.
    Raises:
        NoInstance: not even one can be made now.
    """
    changes = changes or {}
    kind, scale = config.noise
    task = distorted_task(find_task(config.env), changes)

    def make(num_envs: int) -> Envs:
        return Envs(
            task,
            num_envs,
            kind,
            scale * changes.get("action_noise", 1.0),
            seed_for(seed, "eval resets") % 2**31,
            generator_for(seed, "eval noise"),
        )

    try:
        return make(num_envs)
    except NoInstance as fault:
        if not fault.made:
            raise
    return make(1)


def play(
    act: Act,
    config: TaskConfig,
    episodes: int,
    seed: int,
    changes: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Undiscounted returns [episodes] of a policy, the task's action noise included.

    All episodes are stepped together, one environment each, and only the first episode of each
    counts: waiting for any `episodes` to end would favour short ones. Where there is one
    environment they are played one after the other. Arguments as `evaluation_envs`'s.
    """
    envs = evaluation_envs(config, episodes, seed, changes)
    rounds = episodes // len(envs.obs)
    found: list[list[float]] = [[] for _ in envs.obs]
    try:
        while min(map(len, found)) < rounds:
            envs.step(act(envs.obs))
            for episode in envs.episodes:
                found[episode.env].append(episode.episode_return)
            envs.episodes.clear()
    finally:
        envs.close()
    return np.array([returns[:rounds] for returns in found]).ravel()
