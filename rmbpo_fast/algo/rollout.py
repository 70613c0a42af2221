"""Imagined rollouts: fixed shapes, no round trip to the host, an alive-mask instead of indexing.

Source: MBPO (arXiv 1906.08253), Algorithm 2, branched rollouts from real states.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rmbpo_fast.algo.adversary import Adversary
from rmbpo_fast.algo.learner import Learner
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import RolloutConfig
from rmbpo_fast.kernels import sample_transition
from rmbpo_fast.worlds.termination import Rule


class ImaginedWorld(NamedTuple):
    """The world to imagine in: p_theta's, or g_psi's where there is an adversary."""

    world_model: WorldModel
    adversary: Adversary | None
    rule: Rule

    def step(self, obs: Tensor, action: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One imagined step of B rows; row i goes to elite i * E' // B.

        Args:
            obs: [B, S]. action: [B, A]. noise: [B, D] standard normal.
        Returns:
            The transitions, packed as `ReplayBuffer`'s rows [B, W]; which of them are finite
            [B] bool; which ended [B] bool. A prediction that is not finite is zeroed: it would
            make the critic's target NaN (ours).
        """
        model, elites = self.world_model, self.world_model.elites
        inputs = model.inputs(obs, action).unflatten(0, (len(elites), -1))
        noise = noise.unflatten(0, (len(elites), -1))
        if self.adversary is None:
            gaussian = model.dynamics(inputs, elites, noise)
        else:
            gaussian = self.adversary.dynamics(model, inputs, elites, noise)
        mean, logvar, noise = (part.flatten(0, 1) for part in gaussian)
        bounds = (model.obs_low, model.obs_high)
        rows, finite = sample_transition(obs, action, mean, logvar, noise, *bounds)
        ended = self.rule(rows[:, -1 - obs.shape[1] : -1])
        rows[:, -1] = ended
        return rows, finite, ended


def horizon_at(epoch: int, config: RolloutConfig) -> int:
    """Rollout length k: an integer truncated from a linear ramp in epochs."""
    if len(config.rollout_schedule) == 1:
        return config.rollout_schedule[0]
    first, last, low, high = config.rollout_schedule
    ramp = min(max((epoch - first) / (last - first), 0.0), 1.0)
    return int(low + ramp * (high - low))


def spread_starts(
    starts: Tensor, half_widths: tuple[float, ...], rule: Rule, generator: torch.Generator
) -> Tensor:
    """Start states moved by uniform noise (ours); a state isn't moved to a terminal one.

    Args:
        starts: [B, S] real states.
        half_widths: S of them, in the observations' units; if empty, the states stay as they are.
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
    world: ImaginedWorld,
    learner: Learner,
    imagined: ReplayBuffer,
    generator: torch.Generator,
) -> Tensor:
    """Imagines `horizon` steps from each start and stores those of rows that are still alive.

    Args:
        starts: [B, S] real states, B a multiple of the number of elites.
        learner: its policy acts, noise included.
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
        action_noise = learner.draw_noise(obs.shape[:-1], generator)
        outputs = world.world_model.outputs
        model_noise = torch.randn(len(obs), outputs, generator=generator, device=device)
        rows, finite, ended = world.step(obs, learner.act(obs, action_noise), model_noise)
        keep = alive & finite
        imagined.add_(rows, keep)
        stored += keep.sum()
        obs, alive = imagined.unpack(rows).next_obs, keep & ~ended
    return stored
