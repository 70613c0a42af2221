"""What is known of each task: who steps it, which numbers it shows, when it ends."""

import difflib
import importlib
import inspect
import math
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import envpool
import gymnasium
import torch
from gymnasium.envs.registration import load_env_creator
from torch import Tensor

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds import termination


@dataclass(frozen=True)
class Task:
    """Facts about one task.

    Attributes:
        name: short name, used for the run's folder.
        env_id: the id that EnvPool or Gymnasium registers.
        backend: "envpool" or "gymnasium".
        rule: ending rule on states, None where it isn't known.
        obs_size: leading observations kept (MBPO's truncated Ant and Humanoid); None keeps all.
        clipped_from: index of the first observed velocity, which the task clips to +-10.
        make_kwargs: settings handed to EnvPool or Gymnasium.
        changes: of the physics, which Gymnasium's tasks take as they are made.
        max_episode_steps: after which Gymnasium ends an episode; None is the simulator's own.
        limit_is_ours: the task has none, so that evaluations would not end.
    """

    name: str
    env_id: str
    backend: str
    rule: termination.Rule | None = None
    obs_size: int | None = None
    clipped_from: int | None = None
    make_kwargs: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, float] = field(default_factory=dict)
    max_episode_steps: int | None = None
    limit_is_ours: bool = False

    def obs_bounds(self, obs_size: int) -> tuple[Tensor, Tensor]:
        """Lowest and highest observable value per dimension, [S] each.

        Predictions are clipped to them as the environment clips its own observations (ours).
        """
        high = torch.full((obs_size,), math.inf)
        if self.clipped_from is not None:
            high[self.clipped_from :] = 10.0
        return -high, high


# family: (short name, id behind the short name, facts)
_KNOWN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "invertedpendulum": (
        "inverted_pendulum",
        "InvertedPendulum-v2",
        {"rule": termination.inverted_pendulum},
    ),
    "hopper": ("hopper", "Hopper-v3", {"rule": termination.hopper, "clipped_from": 5}),
    "halfcheetah": (
        "halfcheetah",
        "HalfCheetah-v3",
        {"rule": termination.never, "make_kwargs": {"reset_noise_scale": 0.005}},
    ),
    "walker2d": ("walker2d", "Walker2d-v3", {"rule": termination.walker2d, "clipped_from": 8}),
    "ant": ("ant", "Ant-v3", {"rule": termination.ant, "obs_size": 27}),
    "humanoid": ("humanoid", "Humanoid-v3", {"rule": termination.humanoid, "obs_size": 45}),
}

# Gymnasium's classes whose states are those of a family
_CLASSES = {
    "InvertedPendulumEnv": "invertedpendulum",
    "HopperEnv": "hopper",
    "HalfCheetahEnv": "halfcheetah",
    "Walker2dEnv": "walker2d",
    "AntEnv": "ant",
    "HumanoidEnv": "humanoid",
}
_LIMIT = 1_000  # steps of an episode where a task has no limit of its own
_TRIED_STEPS = 1_000


def task_family(env: str) -> str:
    """`hopper`, `Hopper-v3` and `Hopper-v5` are one family and share a preset: `hopper`."""
    name, _, version = env.rpartition("-v")
    return (name if name and version.isdigit() else env).replace("_", "").lower()


def with_module(env: str) -> str:
    """`module:Id-v0` for an id that a user's module has registered in this process, else env.

    Under this name another process finds the task, too.
    """
    spec = gymnasium.registry.get(env)
    if spec is None or spec.entry_point is None:
        return env
    where = spec.entry_point
    module = where.partition(":")[0] if isinstance(where, str) else where.__module__
    known = module.partition(".")[0] in ("gymnasium", "__main__") or find_spec(module) is None
    return env if known else f"{module}:{env}"


def _import(module: str, env: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever the user's module raises
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"--env {env}: can't import {module} ({reason})") from error


def find_task(env: str) -> Task:
    """The task behind a short name, an EnvPool id or a Gymnasium id.

    As for `gymnasium.make`, `module:Id-v0` imports the module that registers the id first.

    Raises:
        ConfigError: no such task (with the nearest names), or a module that can't be imported.
    """
    module, _, name = env.rpartition(":")
    if module:
        if name not in gymnasium.registry:
            _import(module, env)
        return find_task(name)
    family = _KNOWN.get(task_family(env))
    if family is not None:
        name, default_id, facts = family
        if env == name:
            return Task(name, default_id, "envpool", **facts)
        if env in envpool.list_all_envs():
            return Task(env, env, "envpool", **facts)
    if env in gymnasium.registry:
        return _gymnasium_task(env)
    short_names = [name for name, _, _ in _KNOWN.values()]
    pool_ids = [name for name in envpool.list_all_envs() if task_family(name) in _KNOWN]
    names = {name.lower(): name for name in (*gymnasium.registry, *pool_ids, *short_names)}
    near = difflib.get_close_matches(env.lower(), names, n=5, cutoff=0.5)
    hint = ", ".join(names[n] for n in near) if near else ", ".join(short_names)
    raise ConfigError(f"--env {env}: no such task; nearest: {hint}")


def _gymnasium_task(env: str) -> Task:
    limit = gymnasium.spec(env).max_episode_steps
    task = Task(
        env.replace("/", "-"),
        env,
        "gymnasium",
        max_episode_steps=limit or _LIMIT,
        limit_is_ours=limit is None,
    )
    family = _family_of_class(env)
    if family is None:
        return task
    facts = {k: v for k, v in _KNOWN[family][2].items() if k != "make_kwargs"}
    return replace(task, **facts) if _ends_by(env, facts["rule"]) else task


def maker_of(env: str) -> Any:
    """The class or function that makes a Gymnasium task."""
    entry_point = gymnasium.spec(env).entry_point
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _family_of_class(env: str) -> str | None:
    """The family whose simulation a task inherits from Gymnasium; its name says nothing."""
    try:
        made_by = maker_of(env)
    except Exception:  # noqa: BLE001 what the task's module raises; making it will say so
        return None
    for base in inspect.getmro(made_by) if inspect.isclass(made_by) else ():
        if base.__module__.startswith("gymnasium.envs.mujoco."):
            return _CLASSES.get(base.__name__)
    return None


@cache
def _ends_by(env: str, rule: termination.Rule) -> bool:
    """Whether a task ends where the rule says so, and nowhere else, on random steps.

    A task of a known class may still have been registered without endings, with other bounds or
    with other observations.
    """
    ended = rule is termination.never
    try:
        with closing(gymnasium.make(env, disable_env_checker=True)) as made:
            made.action_space.seed(0)
            made.reset(seed=0)
            for _ in range(_TRIED_STEPS):
                obs, _, terminated, truncated, _ = made.step(made.action_space.sample())
                if bool(rule(torch.as_tensor(obs)[None])) != bool(terminated):
                    return False
                ended |= bool(terminated)
                if terminated or truncated:
                    made.reset()
    except Exception:  # noqa: BLE001 the task's own code: making it for the run will say so
        return False
    return ended  # a rule that was never seen to hold may be another task's
