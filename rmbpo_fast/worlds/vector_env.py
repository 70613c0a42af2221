"""EnvPool and Gymnasium behind one small interface: arrays in, arrays out, explicit resets.

Neither resets by itself here. EnvPool would do so in the step after the last one and return a row
that is no transition; both libraries can reset chosen environments, so no such row ever exists.
"""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import envpool
import gymnasium
import numpy as np

from rmbpo_fast.errors import ConfigError, EnvironmentFault
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


class EnvPoolVector:
    """EnvPool's threads; each environment has its own seeded stream of resets.

    Attributes:
        shown: observations and info as EnvPool gave them last.
    """

    shown: tuple[np.ndarray, dict[str, Any]]

    def __init__(self, task: Task, num_envs: int, seed: int) -> None:
        self._pool = envpool.make_gymnasium(
            task.env_id,
            num_envs=num_envs,
            seed=seed % 2**31,
            **task.make_kwargs,
        )
        actions = _box(self._pool.action_space, "actions", task.env_id)
        self.low, self.high = actions.low, actions.high
        self.obs_size = _box(self._pool.observation_space, "observations", task.env_id).shape[0]
        config = self._pool.spec.config
        self.control_cost_weight = float(getattr(config, "ctrl_cost_weight", 0.0))

    def reset(self, indices: np.ndarray) -> np.ndarray:
        self.shown = self._pool.reset(indices.astype(np.int32))
        return self.shown[0]

    def step(self, actions: np.ndarray) -> StepResult:
        obs, reward, terminated, truncated, info = self._pool.step(actions)
        self.shown = obs, info
        return StepResult(obs, reward, terminated, truncated)

    def close(self) -> None:
        self._pool.close()


class GymnasiumVector:
    """Gymnasium's own vector API, one process; for any registered task with boxes.

    A task without a time limit gets one of 1,000 steps (ours), so that evaluations end.
    """

    control_cost_weight = 0.0

    def __init__(self, task: Task, num_envs: int, seed: int) -> None:
        try:
            with warnings.catch_warnings():
                # which version of a task runs is the user's choice, not to be nagged about
                warnings.simplefilter("ignore")
                self._envs = gymnasium.make_vec(
                    task.env_id,
                    num_envs=num_envs,
                    vectorization_mode="sync",
                    max_episode_steps=gymnasium.spec(task.env_id).max_episode_steps or 1_000,
                    vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED},
                    **task.make_kwargs,
                )
        except (gymnasium.error.Error, ImportError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"--env {task.env_id}: Gymnasium can't make it: {reason}") from error
        actions = _box(self._envs.single_action_space, "actions", task.env_id)
        if not np.isfinite([actions.low, actions.high]).all():
            raise ConfigError(f"--env {task.env_id}: expected bounded actions, found {actions}")
        self.low, self.high = actions.low, actions.high
        self._dtype = actions.dtype
        space = _box(self._envs.single_observation_space, "observations", task.env_id)
        self.obs_size = space.shape[0]
        self._num_envs, self._env_id = num_envs, task.env_id
        self._seed: int | None = seed

    def reset(self, indices: np.ndarray) -> np.ndarray:
        mask = np.zeros(self._num_envs, dtype=bool)
        mask[indices] = True
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
            *_, last = traceback.extract_tb(error.__traceback__)
            raise EnvironmentFault(
                f"{self._env_id}: {method}() raised {type(error).__name__}: {error} "
                f"({last.filename}, line {last.lineno})"
            ) from error

    def close(self) -> None:
        self._envs.close()
