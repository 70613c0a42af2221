"""From a model's prediction to the row of an imagined transition."""

import torch
from torch import Tensor


def sample_transition_reference(
    obs: Tensor,
    action: Tensor,
    mean: Tensor,
    logvar: Tensor,
    noise: Tensor,
    obs_low: Tensor,
    obs_high: Tensor,
) -> tuple[Tensor, Tensor]:
    sample = mean + torch.exp(0.5 * logvar) * noise
    finite = torch.isfinite(sample).all(-1)
    next_obs = torch.clamp(obs + sample[:, :-1], obs_low, obs_high)
    next_obs = torch.where(finite[:, None], next_obs, 0.0)
    reward = torch.where(finite, sample[:, -1], 0.0)[:, None]
    return torch.cat([obs, action, reward, next_obs, torch.zeros_like(reward)], dim=-1), finite
