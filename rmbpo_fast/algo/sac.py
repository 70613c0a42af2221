"""Soft actor-critic: critic, actor, temperature, target update.

Source: SAC (arXiv 1812.05905), with the settings of MBPO (arXiv 1906.08253). Its losses and its
gradient step are `kernels/steps/sac_step/reference.py`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.learner import Learner
from rmbpo_fast.algo.nets import Actor, TwinCritic
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.config import SACConfig
from rmbpo_fast.kernels import (
    Layers,
    SacBatch,
    SacNetworks,
    SacOptimizers,
    SacSettings,
    sac_step_,
    soft_value,
    squashed_gaussian,
)
from rmbpo_fast.worlds.transition import Transition

INIT_TEMPERATURE = 1.0  # first entropy temperature alpha
TAU = 0.005  # step of the target critics towards the critics, per update


class EntropyDraw(NamedTuple):
    """States [B, S] where the temperature's entropy is measured, and noise [B, A] for actions."""

    obs: Tensor
    noise: Tensor


class SAC(Learner):
    """Actor, twin critics, their targets and the entropy temperature.

    Args:
        obs_size, action_size: S, A.
        config: sizes and training settings.
        generator: draws the first weights.
    """

    metrics = (
        "sac/critic_loss",
        "sac/actor_loss",
        "sac/q_mean",
        "sac/entropy_nats",
        "sac/temperature",
    )

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        config: SACConfig,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.config = config
        self.action_size, self.gamma = action_size, config.gamma
        entropy = config.target_entropy
        self.target_entropy = float(-action_size) if entropy is None else entropy
        self.actor = Actor(obs_size, action_size, config.sac_hidden, generator, device)
        self.critic = TwinCritic(obs_size, action_size, config.sac_hidden, generator, device)
        self.target_critic = TwinCritic(
            obs_size, action_size, config.sac_hidden, generator, device
        ).requires_grad_(False)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.log_temperature = nn.Parameter(torch.tensor(INIT_TEMPERATURE, device=device).log())
        learned = {
            "actor": self.actor.parameters(),
            "critic": self.critic.parameters(),
            "temperature": [self.log_temperature],
        }
        self.optimizers = {n: Adam(p, config.sac_lr, device) for n, p in learned.items()}

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Tensor) -> Tensor:
        return self.sample(obs, noise)[0]

    @torch.no_grad()
    def act_deterministic(self, obs: Tensor) -> Tensor:
        return torch.tanh(self.actor(obs)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Action [B, A] and its log-probability [B] for obs [B, S] and noise [B, A]."""
        actor = self.actor
        return squashed_gaussian(actor.head(obs), noise, actor.log_std_min, actor.log_std_max)

    def q_value(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.critic(obs, action).amin(0)

    def value(self, obs: Tensor, noise: Tensor) -> Tensor:
        """V(s) = min_j Q_j(s, a) - alpha log pi(a|s), [B]. obs [B, S], noise [B, A] draws a."""
        action, log_prob = self.sample(obs, noise)
        return soft_value(self.critic(obs, action), log_prob, self.log_temperature.exp())

    def bonus(self, obs: Tensor, noise: Tensor) -> Tensor:
        """alpha times the policy's entropy, by one draw of it."""
        return -self.log_temperature.exp() * self.sample(obs, noise)[1]

    @property
    def policy_layers(self) -> Layers:
        return self.actor.net.layers

    def update(
        self, batches: Sequence[Transition], real: ReplayBuffer, generator: torch.Generator
    ) -> dict[str, Tensor]:
        shape = (len(batches), len(batches[0].reward))
        noise = self.draw_noise((shape[0], 2, shape[1]), generator)
        entropy = self.draw_for_entropy(real, shape, generator)
        report: dict[str, Tensor] = {}
        for batch, (critic, actor), where in zip(batches, noise, entropy, strict=True):
            report = self.step(batch, critic, actor, where)
        return report

    def draw_for_entropy(
        self, real: ReplayBuffer, shape: tuple[int, int], generator: torch.Generator
    ) -> Sequence[EntropyDraw | None]:
        """For each of shape[0] steps a draw from the newest --entropy-rows; None: the batch's."""
        if self.config.entropy_rows is None:
            return [None] * shape[0]
        rows = real.sample_rows(math.prod(shape), generator, newest=self.config.entropy_rows)
        obs = real.unpack(rows.unflatten(0, shape)).obs
        return list(map(EntropyDraw, obs, self.draw_noise(shape, generator)))

    def step(
        self,
        batch: Transition,
        critic_noise: Tensor,
        actor_noise: Tensor,
        entropy: EntropyDraw | None = None,
    ) -> dict[str, Tensor]:
        """One gradient step of everything. All noise [B, A] is the caller's.

        Args:
            entropy: where the temperature finds the policy's entropy; on the batch if absent.
        Returns:
            Detached scalars: losses, mean Q, entropy as the temperature finds it (nats),
            temperature.
        """
        networks = (self.actor.net, self.critic.net, self.target_critic.net)
        found = sac_step_(
            SacBatch(*batch, critic_noise, actor_noise, *(entropy or ())),
            SacNetworks(*(net.layers for net in networks)),
            self.log_temperature,
            SacOptimizers(**{n: optimizer.lists() for n, optimizer in self.optimizers.items()}),
            SacSettings(
                self.actor.log_std_min,
                self.actor.log_std_max,
                self.config.gamma,
                TAU,
                self.target_entropy,
            ),
        )
        *reported, log_temperature = found
        return dict(zip(self.metrics, [*reported, log_temperature.exp()], strict=True))
