"""Soft actor-critic: critic, actor, temperature, target update.

Source: SAC (arXiv 1812.05905), with the settings of MBPO (arXiv 1906.08253).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.losses import (
    actor_loss,
    bellman_target,
    critic_loss,
    soft_value,
    temperature_loss,
)
from rmbpo_fast.algo.nets import Actor, TwinCritic
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.config import SACConfig
from rmbpo_fast.kernels import (
    SacBatch,
    SacNetworks,
    SacOptimizers,
    SacSettings,
    sac_step_,
    squashed_gaussian,
)
from rmbpo_fast.kernels.backend import active
from rmbpo_fast.worlds.transition import Transition


class EntropyDraw(NamedTuple):
    """States [B, S] where the temperature's entropy is measured, and noise [B, A] for actions."""

    obs: Tensor
    noise: Tensor


class SAC(nn.Module):
    """Actor, twin critics, their targets and the entropy temperature. Actions live in [-1, 1].

    Args:
        obs_size, action_size: S, A.
        config: sizes and training settings.
        generator: draws the first weights.
    """

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
        self.action_size = action_size
        entropy = config.target_entropy
        self.target_entropy = float(-action_size) if entropy is None else entropy
        self.actor = Actor(obs_size, action_size, config.sac_hidden, generator, device)
        self.critic = TwinCritic(obs_size, action_size, config.sac_hidden, generator, device)
        self.target_critic = TwinCritic(
            obs_size, action_size, config.sac_hidden, generator, device
        ).requires_grad_(False)
        self.target_critic.load_state_dict(self.critic.state_dict())
        self.log_temperature = nn.Parameter(
            torch.tensor(config.init_temperature, device=device).log()
        )
        self.actor_params: list[Tensor] = list(self.actor.parameters())
        self.critic_params: list[Tensor] = list(self.critic.parameters())
        self.target_params: list[Tensor] = list(self.target_critic.parameters())
        self.optimizers = {
            name: Adam(params, config.sac_lr, device)
            for name, params in (
                ("actor", self.actor_params),
                ("critic", self.critic_params),
                ("temperature", [self.log_temperature]),
            )
        }

    @torch.no_grad()
    def act(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Actions [N, A] drawn from the policy at obs [N, S]."""
        return self.sample(obs, self.draw_noise(obs.shape[:-1], generator))[0]

    @torch.no_grad()
    def act_deterministic(self, obs: Tensor) -> Tensor:
        """The policy's mean action [N, A] at obs [N, S]."""
        return torch.tanh(self.actor(obs)[0])

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Standard normal noise [*shape, A] for `sample`."""
        device = self.log_temperature.device
        return torch.randn(*shape, self.action_size, generator=generator, device=device)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Action [B, A] and its log-probability [B] for obs [B, S] and noise [B, A]."""
        actor = self.actor
        return squashed_gaussian(actor.head(obs), noise, actor.log_std_min, actor.log_std_max)

    def value(self, obs: Tensor, noise: Tensor) -> Tensor:
        """V(s) = min_j Q_j(s, a) - alpha log pi(a|s), [B]. obs [B, S], noise [B, A] draws a."""
        action, log_prob = self.sample(obs, noise)
        return soft_value(self.critic(obs, action), log_prob, self.log_temperature.exp())

    def critic_objective(self, batch: Transition, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(loss [], mean Q []). noise [B, A] draws the next actions."""
        with torch.no_grad():
            action, log_prob = self.sample(batch.next_obs, noise)
            next_q = self.target_critic(batch.next_obs, action)
            next_value = soft_value(next_q, log_prob, self.log_temperature.exp())
            target = bellman_target(batch.reward, batch.terminated, next_value, self.config.gamma)
        q = self.critic(batch.obs, batch.action)
        return critic_loss(q, target), q.detach().mean()

    def actor_objective(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(loss [], log-probability of the drawn actions [B], detached)."""
        action, log_prob = self.sample(obs, noise)
        q = self.critic(obs, action, frozen=True)
        value = soft_value(q, log_prob, self.log_temperature.detach().exp())
        return actor_loss(value), log_prob.detach()

    def update(
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
        if active().name == "native":
            return self._native_update(batch, critic_noise, actor_noise, entropy)
        q_loss, q_mean = self.critic_objective(batch, critic_noise)
        self.optimizers["critic"].minimize(q_loss)
        pi_loss, log_prob = self.actor_objective(batch.obs, actor_noise)
        self.optimizers["actor"].minimize(pi_loss)
        if entropy is not None:
            with torch.no_grad():
                log_prob = self.sample(*entropy)[1]
        alpha_loss = temperature_loss(self.log_temperature, log_prob, self.target_entropy)
        self.optimizers["temperature"].minimize(alpha_loss)
        with torch.no_grad():
            torch._foreach_lerp_(self.target_params, self.critic_params, self.config.tau)
        return {
            "sac/critic_loss": q_loss.detach(),
            "sac/actor_loss": pi_loss.detach(),
            "sac/q_mean": q_mean,
            "sac/entropy_nats": -log_prob.mean(),
            "sac/temperature": self.log_temperature.detach().exp(),
        }

    def _native_update(
        self,
        batch: Transition,
        critic_noise: Tensor,
        actor_noise: Tensor,
        entropy: EntropyDraw | None,
    ) -> dict[str, Tensor]:
        networks = (self.actor.net, self.critic.net, self.target_critic.net)
        optimizers = (self.optimizers[name].lists() for name in SacOptimizers._fields)
        settings = SacSettings(
            self.actor.log_std_min,
            self.actor.log_std_max,
            self.config.gamma,
            self.config.tau,
            self.target_entropy,
        )
        metrics = sac_step_(
            SacBatch(*batch, critic_noise, actor_noise, *(entropy or ())),
            SacNetworks(*(net.layers for net in networks)),
            self.log_temperature,
            SacOptimizers(*optimizers),
            settings,
        )
        names = ("critic_loss", "actor_loss", "q_mean", "entropy_nats", "temperature")
        report = {f"sac/{name}": value for name, value in zip(names, metrics.unbind(), strict=True)}
        report["sac/temperature"] = report["sac/temperature"].exp()
        return report
