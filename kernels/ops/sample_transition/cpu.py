"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, addresses, native


def sample_transition(
    obs: Tensor,
    action: Tensor,
    mean: Tensor,
    logvar: Tensor,
    noise: Tensor,
    obs_low: Tensor,
    obs_high: Tensor,
) -> tuple[Tensor, Tensor]:
    """(rows [B, 2 S + A + 2], finite [B] bool)."""
    count, size = obs.shape
    rows = obs.new_empty(count, 2 * size + action.shape[1] + 2)
    finite = obs.new_empty(count, dtype=torch.bool)
    inputs = [t.contiguous() for t in (obs, action, mean, logvar, noise, obs_low, obs_high)]
    native.sample_transition(
        count,
        size,
        action.shape[1],
        addresses(inputs),
        address(rows),
        address(finite),
        torch.get_num_threads(),
    )
    return rows, finite


implement("native", "sample_transition", sample_transition)
