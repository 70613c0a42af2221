"""EnvPool and Gymnasium behind one small interface: arrays in, arrays out, explicit resets.

Neither resets by itself here. EnvPool would do so in the step after the last one and return a row
that is no transition; both libraries can reset chosen environments, so no such row ever exists.
"""

import traceback
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import envpool
import gymnasium
import numpy as np
import torch

from rmbpo_fast.errors import ConfigError, EnvironmentFault, NoInstance
from rmbpo_fast.seeding import seed_for
from rmbpo_fast.storage import Tree
from rmbpo_fast.worlds.distorted import Distorted
from rmbpo_fast.worlds.tasks import Task


class StepResult(NamedTuple):
    """obs [N, S]; reward, terminated, truncated [N]."""

    obs: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class VectorEnv(Protocol):
    """N copies of one task.

    Attributes:
        obs_size: S.
        low, high: [A] the action box.
        control_cost_weight: the step's reward holds -weight * sum(action^2) of the action that
            was simulated; 0 where there is no such term or it isn't known.
    """

    obs_size: int
    low: np.ndarray
    high: np.ndarray
    control_cost_weight: float

    def reset(self, indices: np.ndarray) -> np.ndarray:
        """Starts a new episode in the environments `indices` [n]; their first obs [n, S]."""

    def step(self, actions: np.ndarray) -> StepResult:
        """actions [N, A] in the box's units."""

    def seed(self, seed: int) -> None:
        """Begins other streams of resets, with a reset of all environments."""

    def state_dict(self) -> Tree:
        """Where the streams are, and where they were before each environment's last reset."""

    def restart(self, state: Tree, in_progress: np.ndarray) -> np.ndarray:
        """Begins an episode in every environment; their first obs [N, S].

        An episode that had begun and has no step yet begins again. One in progress [N] can't be
        gone on with: the next one begins.
        """

    def close(self) -> None:
        """Frees threads and memory."""


def make_vector_env(task: Task, num_envs: int, seed: int) -> VectorEnv:
    """`num_envs` copies of `task`. Raises ConfigError where the task can't be served."""
    backend = EnvPoolVector if task.backend == "envpool" else GymnasiumVector
    return backend(task, num_envs, seed)


def _box(space: Any, what: str, env_id: str) -> gymnasium.spaces.Box:
    if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
        raise ConfigError(f"--env {env_id}: expected a flat box of {what}, found {space}")
    return space


class Repeating(ABC):
    """Environments whose generators can't be read: a restart repeats the resets so far."""

    _seed: int
    _resets: np.ndarray  # [N] so far

    def state_dict(self) -> Tree:
        return {"seed": self._seed, "resets": torch.from_numpy(self._resets.copy())}

    def restart(self, state: Tree, in_progress: np.ndarray) -> np.ndarray:
        seed, resets = state["seed"], state["resets"].numpy()
        everywhere = np.arange(len(in_progress))
        if in_progress.any():
            # nothing is left to agree with, and other streams cost one reset
            self.seed(seed_for(seed, "restart", int(resets.sum())) % 2**31)
            return self.reset(everywhere)
        self.seed(seed)
        obs = self.reset(everywhere)
        while (behind := np.flatnonzero(self._resets < resets)).size:
            obs[behind] = self.reset(behind)
        return obs

    @abstractmethod
    def seed(self, seed: int) -> None: ...

    @abstractmethod
    def reset(self, indices: np.ndarray) -> np.ndarray: ...


class EnvPoolVector(Repeating):
    """EnvPool's threads; each environment has its own seeded stream of resets.

    Attributes:
        shown: observations and info as EnvPool gave them last.
    """

    shown: tuple[np.ndarray, dict[str, Any]]

    def __init__(self, task: Task, num_envs: int, seed: int) -> None:
        self._task, self._resets = task, np.zeros(num_envs, dtype=np.int64)
        self._pool = self._make(seed)
        actions = _box(self._pool.action_space, "actions", task.env_id)
        self.low, self.high = actions.low, actions.high
        self.obs_size = _box(self._pool.observation_space, "observations", task.env_id).shape[0]
        config = self._pool.spec.config
        self.control_cost_weight = float(getattr(config, "ctrl_cost_weight", 0.0))

    def _make(self, seed: int) -> Any:
        self._seed = seed % 2**31
        self._resets[:] = 0
        return envpool.make_gymnasium(
            self._task.env_id,
            num_envs=len(self._resets),
            seed=self._seed,
            **self._task.make_kwargs,
        )

    def seed(self, seed: int) -> None:
        self._pool.close()
        self._pool = self._make(seed)

    def reset(self, indices: np.ndarray) -> np.ndarray:
        self._resets[indices] += 1
        self.shown = self._pool.reset(indices.astype(np.int32))
        return self.shown[0]

    def step(self, actions: np.ndarray) -> StepResult:
        obs, reward, terminated, truncated, info = self._pool.step(actions)
        self.shown = obs, info
        return StepResult(obs, reward, terminated, truncated)

    def close(self) -> None:
        self._pool.close()


class GymnasiumVector:
    """Gymnasium's own vector API, one process; for any registered task with boxes."""

    control_cost_weight = 0.0

    def __init__(self, task: Task, num_envs: int, seed: int) -> None:
        self._num_envs, self._env_id = num_envs, task.env_id
        self._made: list[gymnasium.Env] = []
        try:
            self._envs = self._make(task)
        except (gymnasium.error.Error, ImportError) as error:
            self._close_made()
            reason = str(error).splitlines()[0]
            raise ConfigError(f"--env {task.env_id}: Gymnasium can't make it: {reason}") from error
        except Exception as error:
            there = len(self._made)
            self._close_made()
            raise NoInstance(f"{what_raised(task.env_id, 'making one', error)}", there) from error
        actions = _box(self._envs.single_action_space, "actions", task.env_id)
        if not np.isfinite([actions.low, actions.high]).all():
            raise ConfigError(f"--env {task.env_id}: expected bounded actions, found {actions}")
        self.low, self.high = actions.low, actions.high
        self._dtype = actions.dtype
        space = _box(self._envs.single_observation_space, "observations", task.env_id)
        self.obs_size = space.shape[0]
        self._seed: int | None = seed
        self._first_seed, self._resets = seed, 0
        self._before: list[Tree | None] = [None] * num_envs

    def _make(self, task: Task) -> gymnasium.vector.SyncVectorEnv:
        def one() -> gymnasium.Env:
            env = gymnasium.make(
                task.env_id, max_episode_steps=task.max_episode_steps, **task.make_kwargs
            )
            self._made.append(env)
            return Distorted(env, "paper", **task.changes) if task.changes else env

        with warnings.catch_warnings():
            # which version of a task runs is the user's choice, not to be nagged about
            warnings.simplefilter("ignore")
            return gymnasium.vector.SyncVectorEnv(
                [one] * self._num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED
            )

    def _close_made(self) -> None:
        for env in self._made:
            env.close()

    def seed(self, seed: int) -> None:
        self._seed = seed

    def _generators(self) -> list[Tree | None]:
        """Each environment's `np_random`, where it is one that JSON can hold."""
        found = [getattr(env.unwrapped, "_np_random", None) for env in self._made]
        bits = [
            rng.bit_generator if isinstance(rng, np.random.Generator) else None for rng in found
        ]
        return [dict(b.state) if isinstance(b, np.random.PCG64) else None for b in bits]

    def state_dict(self) -> Tree:
        seed, resets = self._first_seed, self._resets
        return {
            "before": list(self._before),
            "now": self._generators(),
            "seed": seed,
            "resets": resets,
        }

    def restart(self, state: Tree, in_progress: np.ndarray) -> np.ndarray:
        self._first_seed, self._resets = state["seed"], state["resets"]
        # a generator of the task's own must not draw again what it drew before
        self._seed = seed_for(state["seed"], "restart", state["resets"]) % 2**31
        obs = self.reset(np.arange(self._num_envs))
        if None in state["now"]:
            return obs
        for i, env in enumerate(self._made):
            saved = state["now" if in_progress[i] else "before"][i]
            if saved is not None:
                bits = np.random.PCG64()
                bits.state = saved
                env.unwrapped.np_random = np.random.Generator(bits)
        return self.reset(np.arange(self._num_envs))

    def reset(self, indices: np.ndarray) -> np.ndarray:
        mask = np.zeros(self._num_envs, dtype=bool)
        mask[indices] = True
        for i, state in enumerate(self._generators()):
            if mask[i]:
                self._before[i] = state
        self._resets += len(indices)
        with self._faults("reset"):
            if self._seed is not None and mask.all():
                obs, _ = self._envs.reset(seed=self._seed)
                self._seed = None
            else:
                obs, _ = self._envs.reset(options={"reset_mask": mask})
        return obs[mask].copy()

    def step(self, actions: np.ndarray) -> StepResult:
        # action noise may leave the box, and integers are the nearest ones
        actions = np.clip(actions, self.low, self.high)
        if np.issubdtype(self._dtype, np.integer):
            actions = np.rint(actions)
        with self._faults("step"):
            obs, reward, terminated, truncated, _ = self._envs.step(actions.astype(self._dtype))
        return StepResult(obs, reward, terminated, truncated)

    @contextmanager
    def _faults(self, method: str) -> Iterator[None]:
        """What the task's own code raises, in a line that says where."""
        try:
            yield
        except Exception as error:
            raise EnvironmentFault(what_raised(self._env_id, f"{method}()", error)) from error

    def close(self) -> None:
        self._envs.close()


def what_raised(env_id: str, method: str, error: Exception) -> str:
    """A fault of a task's own code, in a line that says where."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return (
        f"{env_id}: {method} raised {type(error).__name__}: {error} "
        f"({last.filename}, line {last.lineno})"
    )
