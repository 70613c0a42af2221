"""What g_psi does to the imagined world: how far it is from p_theta, and what that costs."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rmbpo_fast.algo.game import Game
from rmbpo_fast.kernels import gaussian_kl


class Effect(NamedTuple):
    """g_psi against p_theta, [E, B, D] or [E, B].

    Attributes:
        shift: of the mean, in units of p's std. logvar_change: g's log-variance minus p's.
        kl: KL(g || p) per dimension, nats; with correlated noise, that of a dimension conditional
            on those before it.
        sample_p, sample_g: draws of (state change, reward) under common noise.
        value: r' + gamma (1 - done) V(s') at p's draw. drop: how much lower it is at g's.
        value_std: [] its spread under p, from two independent draws.
    """

    shift: Tensor
    logvar_change: Tensor
    kl: Tensor
    sample_p: Tensor
    sample_g: Tensor
    value: Tensor
    drop: Tensor
    value_std: Tensor

    @property
    def kl_nats(self) -> Tensor:
        """KL(g || p) of a step, averaged over rows and members. []."""
        return self.kl.sum(-1).mean()

    def long_run_drop_share(self, gamma: float) -> Tensor:
        """The share of V lost if each of the next 1 / (1 - gamma) steps loses `drop`, []."""
        steps = 1.0 / max(1.0 - gamma, 1e-3)  # gamma may be 1
        return steps * self.drop.mean() / self.value.mean().abs().clamp(min=1e-6)


def effect_of(
    game: Game,
    obs: Tensor,
    p: tuple[Tensor, Tensor],
    g: tuple[Tensor, Tensor],
    eps: Tensor,
    noise: Tensor,
    lead: Callable[[Tensor], Tensor],
) -> Effect:
    """What a step with g instead of p does, from the same states.

    The draws of p and g share their noise; a second, independent draw of p takes the next row's.

    Args:
        obs: [E, B, S].
        p, g: mean and log-variance, [E, B, D] each, in `WorldModel.frame`'s coordinates.
        eps: [E, B, D] and noise: [E, B, A], standard normal, as `Adversary.effect`'s.
        lead: maps those coordinates to (state change, reward).
    """
    (mean_p, logvar_p), (mean_g, logvar_g) = p, g
    std_p = torch.exp(0.5 * logvar_p)
    sample_p = lead(mean_p + std_p * eps)
    sample_g = lead(mean_g + torch.exp(0.5 * logvar_g) * eps)
    value_p = game.target(obs, sample_p, noise)
    value_g = game.target(obs, sample_g, noise)
    other_p = game.target(obs, lead(mean_p + std_p * eps.roll(1, dims=1)), noise)
    model = game.world_model
    return Effect(
        model.correlate((mean_g - mean_p) / std_p),
        model.correlate_logvar(logvar_g - logvar_p),
        gaussian_kl(*(x[..., None] for x in (mean_g, logvar_g, mean_p, logvar_p))),
        sample_p,
        sample_g,
        value_p,
        value_p - value_g,
        (0.5 * (value_p - other_p).square()).mean().sqrt(),
    )
