"""Imagined rollouts: fixed shapes, no round trip to the host, an alive-mask instead of indexing.

Source: MBPO (arXiv 1906.08253), Algorithm 2, branched rollouts from real states.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import SAC
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import RolloutConfig
from rmbpo_fast.kernels import sample_transition
from rmbpo_fast.worlds.termination import Rule

# (normalised inputs [E', B', S + A], members [E'], standard normal noise [E', B', D]) -> mean,
# log-variance and noise [E', B', D]: the step is mean + std * noise
Dynamics = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def horizon_at(epoch: int, config: RolloutConfig) -> int:
    """Rollout length k: an integer truncated from a linear ramp in epochs."""
    first, last = config.horizon_epochs
    ramp = min(max((epoch - first) / (last - first), 0.0), 1.0)
    return int(config.horizon_min + ramp * (config.horizon_max - config.horizon_min))


def spread_starts(
    starts: Tensor, half_widths: tuple[float, ...], rule: Rule, generator: torch.Generator
) -> Tensor:
    """Start states moved by uniform noise (ours); a place that is terminal is not moved to.

    Args:
        starts: [B, S] real states.
        half_widths: S of them, in the observations' units; none leaves the states as they are.
    Returns:
        [B, S].
    """
    if not any(half_widths):
        return starts
    moved = starts.clone()
    # one number at a time: a tensor made of them is a copy from the host, which no graph captures
    for column, half_width in zip(moved.unbind(1), half_widths, strict=True):
        if half_width:
            draw = torch.rand(len(column), generator=generator, device=column.device)
            column += half_width * (2.0 * draw - 1.0)
    return torch.where(rule(moved)[:, None], starts, moved)


@torch.no_grad()
def imagine(
    starts: Tensor,
    horizon: int,
    dynamics: Dynamics,
    world_model: WorldModel,
    sac: SAC,
    rule: Rule,
    imagined: ReplayBuffer,
    generator: torch.Generator,
) -> Tensor:
    """Imagines `horizon` steps from each start and stores those of rows that are still alive.

    Args:
        starts: [B, S] real states, B a multiple of the number of elites.
        dynamics: p_theta's, or g_psi's.
        imagined: takes the transitions, in place.
        generator: draws all noise; on the device of `starts`.
    Returns:
        [] int64, how many transitions were stored. Divided by B it is the mean alive length.
    """
    obs, device = starts, starts.device
    alive = torch.ones(len(obs), dtype=torch.bool, device=device)
    stored = torch.zeros((), dtype=torch.int64, device=device)
    for _ in range(horizon):
        # A row keeps no identity, so shuffling the rows and cutting them into equal shares gives
        # each a uniformly random elite at each step, with each elite computing its share only.
        order = torch.randperm(len(obs), generator=generator, device=device)
        obs, alive = obs[order], alive[order]
        action_noise = sac.draw_noise(obs.shape[:-1], generator)
        model_noise = torch.randn(len(obs), world_model.outputs, generator=generator, device=device)
        rows, keep, ended = imagine_step(
            obs, alive, action_noise, model_noise, dynamics, world_model, sac, rule
        )
        imagined.add_(rows, keep)
        stored += keep.sum()
        obs, alive = imagined.unpack(rows).next_obs, keep & ~ended
    return stored


def imagine_step(
    obs: Tensor,
    alive: Tensor,
    action_noise: Tensor,
    model_noise: Tensor,
    dynamics: Dynamics,
    world_model: WorldModel,
    sac: SAC,
    rule: Rule,
) -> tuple[Tensor, Tensor, Tensor]:
    """One imagined step of B rows; row i goes to elite i * E' // B.

    Args:
        obs: [B, S]. alive: [B] bool.
        action_noise, model_noise: [B, A] and [B, D] standard normal.
    Returns:
        The transitions, packed as `ReplayBuffer`'s rows [B, W]; which of them are to be stored
        [B] bool; which ended [B] bool. A row whose prediction is not finite is dropped, and its
        numbers are zeroed: it would make the critic's target NaN (ours).
    """
    action, _ = sac.sample(obs, action_noise)
    elites = world_model.elites
    inputs = world_model.inputs(obs, action).unflatten(0, (len(elites), -1))
    law = dynamics(inputs, elites, model_noise.unflatten(0, (len(elites), -1)))
    mean, logvar, noise = (part.flatten(0, 1) for part in law)
    rows, finite = sample_transition(
        obs, action, mean, logvar, noise, world_model.obs_low, world_model.obs_high
    )
    ended = rule(rows[:, -1 - obs.shape[1] : -1])
    rows[:, -1] = ended
    return rows, alive & finite, ended
