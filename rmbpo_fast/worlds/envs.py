"""Real environments as tensors: unit-box actions in, transitions out, action noise inside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rmbpo_fast.errors import EnvironmentFault
from rmbpo_fast.storage import Tree
from rmbpo_fast.worlds.tasks import Task
from rmbpo_fast.worlds.transition import Transition
from rmbpo_fast.worlds.vector_env import VectorEnv, make_vector_env

# a row's place in its episode, as bits
BEGINS, TRUNCATED = 1, 2


class Episode(NamedTuple):
    """A finished episode: which environment, undiscounted return, length in steps."""

    env: int
    episode_return: float
    length: int


def truncated_normal(
    mean: Tensor, std: float, low: Tensor, high: Tensor, generator: torch.Generator
) -> Tensor:
    """A normal draw around `mean` that stays in [low, high], by the inverse of its distribution.

    Args:
        mean: [N, A] float64 within the box.
        low, high: [A] float64.
    """
    lower = torch.special.ndtr((low - mean) / std)
    upper = torch.special.ndtr((high - mean) / std)
    uniform = torch.rand(mean.shape, dtype=torch.float64, generator=generator)
    draw = mean + std * torch.special.ndtri(lower + uniform * (upper - lower))
    return draw.clamp(low, high)


class Envs:
    """N environments of one task, on the CPU.

    The action noise belongs to the environment: `step` returns the policy's own action.

    Args:
        task: what to step.
        num_envs: N.
        noise: "none", "uniform" or "truncated_normal" (see TaskConfig).
        noise_scale: in the environment's action units.
        seed: of the resets.
        generator: CPU generator that draws the action noise.
        vector: steps other worlds than the task's own.

    Attributes:
        obs: [N, S] float32, where the next action is due.
        obs_size, action_size: S, A.
        low, high: [A] float64, the environment's action box.
        action_dtype: of the box's own numbers.
        vector: what steps them.
        episodes: finished since the caller last emptied the list.
        places: [N] uint8, where in their episodes the last step's rows are: BEGINS, TRUNCATED.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        noise: str,
        noise_scale: float,
        seed: int,
        generator: torch.Generator,
        vector: VectorEnv | None = None,
    ) -> None:
        self._task, self._seed = task, seed
        self.vector = vector or make_vector_env(task, num_envs, seed)
        self.obs_size = task.obs_size or self.vector.obs_size
        self.low = torch.from_numpy(self.vector.low.astype(np.float64))
        self.high = torch.from_numpy(self.vector.high.astype(np.float64))
        self.action_dtype = self.vector.low.dtype
        self.action_size = self.low.numel()
        self._noise, self._noise_scale = noise, noise_scale
        self._generator = generator
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, dtype=np.int64)
        self.episodes: list[Episode] = []
        self.places = np.zeros(num_envs, dtype=np.uint8)
        self.obs = torch.zeros(num_envs, self.obs_size)
        self._reset(np.arange(num_envs))

    def _reset(self, indices: np.ndarray) -> None:
        self._begin(indices, self.vector.reset(indices))

    def _begin(self, indices: np.ndarray, obs: np.ndarray) -> None:
        self.obs[indices] = self._observe(obs)
        self._returns[indices] = 0.0
        self._lengths[indices] = 0

    def _observe(self, obs: np.ndarray) -> Tensor:
        if not np.isfinite(obs).all():
            raise EnvironmentFault("the environment returned an observation that is not finite")
        return torch.from_numpy(obs[:, : self.obs_size].astype(np.float32))

    def to_env_units(self, action: Tensor) -> Tensor:
        """[-1, 1] -> the environment's box, float64."""
        unit = action.to(torch.float64).clamp(-1.0, 1.0)
        return self.low + 0.5 * (unit + 1.0) * (self.high - self.low)

    def _add_noise(self, clean: Tensor) -> Tensor:
        if self._noise == "none" or self._noise_scale == 0:
            return clean
        if self._noise == "truncated_normal":
            return truncated_normal(clean, self._noise_scale, self.low, self.high, self._generator)
        uniform = torch.rand(clean.shape, dtype=torch.float64, generator=self._generator)
        return clean + self._noise_scale * (2.0 * uniform - 1.0)

    def step(self, action: Tensor) -> Transition:
        """One step of every environment; those that ended start anew at once.

        Args:
            action: [N, A] in [-1, 1].
        Returns:
            [N] transitions, each within one episode.
        Raises:
            EnvironmentFault: an observation or reward that is not finite.
        """
        clean = self.to_env_units(action)
        simulated = self._add_noise(clean)
        result = self.vector.step(simulated.numpy())
        if not np.isfinite(result.reward).all():
            raise EnvironmentFault("the environment returned a reward that is not finite")
        reward = result.reward.astype(np.float64)
        if self._noise == "uniform":
            # The control cost sees the clean action, the simulation the noisy one.
            cost = simulated.square().sum(-1) - clean.square().sum(-1)
            reward = reward + self.vector.control_cost_weight * cost.numpy()
        transition = Transition(
            obs=self.obs.clone(),
            action=action.to(torch.float32),
            reward=torch.from_numpy(reward.astype(np.float32)),
            next_obs=self._observe(result.obs),
            terminated=torch.from_numpy(result.terminated.astype(np.float32)),
        )
        self.obs = transition.next_obs.clone()
        self.places = (BEGINS * (self._lengths == 0) | TRUNCATED * result.truncated).astype(
            np.uint8
        )
        self._returns += reward
        self._lengths += 1
        done = np.flatnonzero(result.terminated | result.truncated)
        if done.size:
            self.episodes += [
                Episode(int(i), float(self._returns[i]), int(self._lengths[i])) for i in done
            ]
            self._reset(done)
        return transition

    def close(self) -> None:
        self.vector.close()

    def state_dict(self) -> Tree:
        """The streams of resets, and which environments [N] are in mid-episode."""
        in_progress = torch.from_numpy(self._lengths > 0)
        return {"vector": self.vector.state_dict(), "in_progress": in_progress}

    def load_state_dict(self, state: Tree) -> None:
        """Brings fresh environments to the episode that would have followed.

        An episode in progress is lost: no simulator gives its state away.
        """
        in_progress = state["in_progress"].numpy()
        self._begin(np.arange(len(self.obs)), self.vector.restart(state["vector"], in_progress))

    def begin_anew(self, seed: int) -> None:
        """New episodes of streams that nobody has drawn from yet."""
        self.vector.seed(seed)
        self._reset(np.arange(len(self.obs)))

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Frees the task's only instance for others; then new episodes begin here."""
        state = self.state_dict()
        self.vector.close()
        try:
            yield
        finally:
            self.vector = make_vector_env(self._task, len(self.obs), self._seed)
            self.load_state_dict(state)
