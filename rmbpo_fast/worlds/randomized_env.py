"""Domain randomisation: real episodes in worlds whose physics differs from one to the next."""

import numpy as np

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.distortion import Physics, distorted_task
from rmbpo_fast.worlds.tasks import Task
from rmbpo_fast.worlds.vector_env import Repeating, StepResult, VectorEnv, make_vector_env

_WORLDS = 64


def parse_ranges(texts: tuple[str, ...], task: Task) -> dict[str, tuple[float, float]]:
    """Distortion -> lowest and highest value, of texts such as `pole_mass=2:20`.

    Raises:
        ConfigError: not a range, an unknown distortion, or a value the physics can't take.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, rest = text.partition("=")
        try:
            low, high = (float(part) for part in rest.split(":"))
        except ValueError as error:
            raise ConfigError(f"--randomize {text}: expected NAME=FIRST:LAST") from error
        if not low <= high or name in ranges or name == "action_noise":
            raise ConfigError(f"--randomize {text}: expected FIRST <= LAST of a new distortion")
        for value in (low, high):
            Physics(task).check(name, value)
        ranges[name] = (low, high)
    return ranges


class RandomizedVector(Repeating):
    """N environments, each of which begins every episode in a world drawn anew.

    The worlds are 64, drawn uniformly from the ranges at first (ours: drawing one for each episode
    would compile a model each time); an episode takes any of them.

    Args:
        ranges: see `parse_ranges`.
        seed: of worlds, choices and resets.
    """

    def __init__(
        self, task: Task, num_envs: int, seed: int, ranges: dict[str, tuple[float, float]]
    ) -> None:
        random = np.random.default_rng(seed)
        draws = {name: random.uniform(low, high, _WORLDS) for name, (low, high) in ranges.items()}
        self._axes = len(ranges)
        self._worlds = [
            distorted_task(task, {name: float(values[k]) for name, values in draws.items()})
            for k in range(_WORLDS)
        ]
        self._open: dict[tuple[int, int], VectorEnv] = {}  # (environment, world), made when needed
        self._resets = np.zeros(num_envs, dtype=np.int64)
        self._begin(seed, random)
        self.obs_size = self._now[0].obs_size
        self.low, self.high = self._now[0].low, self._now[0].high
        self.control_cost_weight = self._now[0].control_cost_weight

    def _begin(self, seed: int, random: np.random.Generator) -> None:
        self._seed, self._random = seed, random
        self._resets[:] = 0
        self._now = [self._vector(i, 0) for i in range(len(self._resets))]

    def seed(self, seed: int) -> None:
        self.close()
        self._open.clear()
        random = np.random.default_rng(seed)
        random.uniform(size=(self._axes, _WORLDS))  # which drew the worlds; those stay
        self._begin(seed, random)

    def _vector(self, env: int, world: int) -> VectorEnv:
        if (env, world) not in self._open:
            seed = (self._seed + env * _WORLDS + world) % 2**31
            self._open[env, world] = make_vector_env(self._worlds[world], 1, seed)
        return self._open[env, world]

    def reset(self, indices: np.ndarray) -> np.ndarray:
        self._resets[indices] += 1
        first = []
        for env in indices.tolist():
            self._now[env] = self._vector(env, int(self._random.integers(_WORLDS)))
            first.append(self._now[env].reset(np.zeros(1, dtype=np.int64)))
        return np.concatenate(first)

    def step(self, actions: np.ndarray) -> StepResult:
        results = [vector.step(actions[i : i + 1]) for i, vector in enumerate(self._now)]
        return StepResult(*(np.concatenate(parts) for parts in zip(*results, strict=True)))

    def close(self) -> None:
        for vector in self._open.values():
            vector.close()
