"""SAC's losses, and its gradient step by autograd on the other operations.

Source: SAC (arXiv 1812.05905). B rows, S numbers of a state, A of an action.
"""

import torch
from torch import Tensor

from ...backend import fused
from ...layers import Layers
from ...ops.adam.op import minimize_
from ...ops.ensemble_mlp.op import ensemble_mlp
from ...ops.squashed_gaussian.op import squashed_gaussian
from .arguments import SacBatch, SacMetrics, SacNetworks, SacOptimizers, SacSettings


def bellman_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """r + gamma * (1 - done) * V(s'). All [B]; a time limit is not done."""
    return reward + gamma * (1.0 - terminated) * next_value


def soft_value(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """V = min_j Q_j - alpha * log pi. q [2, B], log_prob [B]."""
    return q.amin(0) - temperature * log_prob


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared Bellman error, summed over the twins: Eq. (5). q [2, B], target [B]."""
    return 0.5 * (q - target).square().mean(-1).sum()


def actor_loss(value: Tensor) -> Tensor:
    """-E[V] of actions drawn from the policy, value [B]: Eq. (7)."""
    return -value.mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Moves the policy's entropy to its target: Eq. (18). log_prob [B], detached."""
    return -(log_temperature * (log_prob + target_entropy)).mean()


def _draw(
    actor: Layers, obs: Tensor, noise: Tensor, settings: SacSettings
) -> tuple[Tensor, Tensor]:
    """Action [B, A] and its log-probability [B] for obs [B, S] and noise [B, A]."""
    head = ensemble_mlp(obs[None], actor.weights, actor.biases, "relu")[0]
    return squashed_gaussian(head, noise, settings.log_std_min, settings.log_std_max)


def _twin_q(critic: Layers, obs: Tensor, action: Tensor) -> Tensor:
    """Q values [2, B]."""
    x = torch.cat([obs, action], dim=-1).expand(2, -1, -1)
    return ensemble_mlp(x, critic.weights, critic.biases, "relu")[..., 0]


def critic_objective(
    batch: SacBatch, networks: SacNetworks, log_temperature: Tensor, settings: SacSettings
) -> tuple[Tensor, Tensor]:
    """(loss [], mean Q [])."""
    with torch.no_grad():
        action, log_prob = _draw(networks.actor, batch.next_obs, batch.critic_noise, settings)
        next_q = _twin_q(networks.target, batch.next_obs, action)
        next_value = soft_value(next_q, log_prob, log_temperature.exp())
        target = bellman_target(batch.reward, batch.terminated, next_value, settings.gamma)
    q = _twin_q(networks.critic, batch.obs, batch.action)
    return critic_loss(q, target), q.detach().mean()


def actor_objective(
    batch: SacBatch, networks: SacNetworks, log_temperature: Tensor, settings: SacSettings
) -> tuple[Tensor, Tensor]:
    """(loss [], log-probability of the drawn actions [B], detached). The critics are constants."""
    action, log_prob = _draw(networks.actor, batch.obs, batch.actor_noise, settings)
    weights, biases = networks.critic
    frozen = Layers([w.detach() for w in weights], [b.detach() for b in biases])
    q = _twin_q(frozen, batch.obs, action)
    value = soft_value(q, log_prob, log_temperature.detach().exp())
    return actor_loss(value), log_prob.detach()


def sac_step_reference_(
    batch: SacBatch,
    networks: SacNetworks,
    log_temperature: Tensor,
    optimizers: SacOptimizers,
    settings: SacSettings,
) -> SacMetrics:
    """See `sac_step_`. The actor sees the new critics, and the targets follow at the end."""
    q_loss, q_mean = fused(critic_objective)(batch, networks, log_temperature, settings)
    minimize_(q_loss, optimizers.critic)
    pi_loss, log_prob = fused(actor_objective)(batch, networks, log_temperature, settings)
    minimize_(pi_loss, optimizers.actor)
    if batch.entropy_obs is not None and batch.entropy_noise is not None:
        with torch.no_grad():
            log_prob = _draw(networks.actor, batch.entropy_obs, batch.entropy_noise, settings)[1]
    alpha_loss = temperature_loss(log_temperature, log_prob, settings.target_entropy)
    minimize_(alpha_loss, optimizers.temperature)
    with torch.no_grad():
        for targets, learned in zip(networks.target, networks.critic, strict=True):
            torch._foreach_lerp_(list(targets), list(learned), settings.tau)
    return SacMetrics(
        q_loss.detach(), pi_loss.detach(), q_mean, -log_prob.mean(), log_temperature.detach()
    )
