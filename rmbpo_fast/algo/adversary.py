"""What plays against the learner: all that the loop, the rollouts and the analysis know of it.

Another adversary is a subclass and an entry in `ADVERSARIES` of run/agent.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.effect import Effect
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.world_model import WorldModel


class Adversary(nn.Module, ABC):
    """g_psi: a world within a KL ball around p_theta in which the policy fares worse.

    Attributes:
        eta: [] weight of the value term, as it is now.
        optimizer: of its networks.
    """

    eta: Tensor
    optimizer: Adam

    @abstractmethod
    def start_at_nominal(self, world_model: WorldModel) -> None:
        """g = p, exactly, and an optimiser that hasn't stepped yet."""

    @abstractmethod
    def train_steps(
        self, batches: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> None:
        """A gradient step for each batch. batches [T, E, B]: rows of the real buffer."""

    @abstractmethod
    def fit(
        self,
        real: ReplayBuffer,
        game: Game,
        generator: torch.Generator,
        train_steps: Callable[[Tensor], None],
    ) -> dict[str, Tensor | float]:
        """Learns on all real data; its metrics.

        Args:
            train_steps: `train_steps` of its first argument, perhaps as a graph.
        """

    @abstractmethod
    def dynamics(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a step of g_psi's world is drawn from; as `WorldModel.dynamics`."""

    @abstractmethod
    def effect(
        self,
        game: Game,
        obs: Tensor,
        action: Tensor,
        eps: Tensor,
        noise: Tensor,
        members: Tensor | None = None,
    ) -> Effect:
        """What g does to the world at real rows.

        Args:
            obs, action: [E, B, S] and [E, B, A].
            eps: [E, B, D] standard normal, draws x. noise: [E, B, A], draws a' ~ pi.
            members: [E] of p and g; all if absent.
        """
