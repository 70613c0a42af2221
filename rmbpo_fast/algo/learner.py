"""What learns to act: all that the loop, the rollouts, the adversary and the analysis know of it.

Another learner is a subclass and an entry in `LEARNERS` of run/agent.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.kernels import Layers
from rmbpo_fast.worlds.transition import Transition


class Learner(nn.Module, ABC):
    """A policy, and the values that it learns from. Actions live in [-1, 1].

    Attributes:
        action_size: A.
        gamma: discount per step.
        optimizers: by name.
        metrics: names of what `update` reports.
    """

    action_size: int
    gamma: float
    optimizers: dict[str, Adam]
    metrics: tuple[str, ...]

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal noise [*shape, A] for `act` and `value`, on the weights' device."""
        device = next(self.parameters()).device
        return torch.randn(*shape, self.action_size, generator=generator, device=device)

    @abstractmethod
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Exploring actions [B, A] at obs [B, S]; noise [B, A] draws them."""

    @abstractmethod
    def act_deterministic(self, obs: Tensor) -> Tensor:
        """The actions [B, A] that the policy is judged by, at obs [B, S]."""

    @abstractmethod
    def q_value(self, obs: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) [B], as pessimistic as the learner's targets. obs [B, S], action [B, A]."""

    @abstractmethod
    def value(self, obs: Tensor, noise: Tensor) -> Tensor:
        """V(s) [B], with gradient to obs [B, S]. noise [B, A] draws the action."""

    def bonus(self, obs: Tensor, noise: Tensor) -> Tensor:
        """What Q holds per step besides the reward, [B]: SAC's entropy bonus; 0 by default."""
        return torch.zeros(obs.shape[:-1], device=obs.device)

    @abstractmethod
    def update(
        self, batches: Sequence[Transition], real: ReplayBuffer, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """A gradient step for each batch.

        Args:
            real: the real data, for a learner that uses the newest of them.
            generator: draws all noise.
        Returns:
            The last step's metrics, [] each, detached.
        """

    @property
    @abstractmethod
    def policy_layers(self) -> Layers:
        """A network of relus from obs; tanh of its first A outputs is `act_deterministic`."""
