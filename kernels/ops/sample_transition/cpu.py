"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, native


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
    inputs = {
        "obs": obs.contiguous(),
        "action": action.contiguous(),
        "mean": mean.contiguous(),
        "logvar": logvar.contiguous(),
        "noise": noise.contiguous(),
        "obs_low": obs_low.contiguous(),
        "obs_high": obs_high.contiguous(),
    }
    native.sample_transition(
        count=count,
        obs_size=size,
        action_size=action.shape[1],
        **{name: address(tensor) for name, tensor in inputs.items()},
        rows=address(rows),
        finite=address(finite),
        threads=torch.get_num_threads(),
    )
    return rows, finite


implement("native", "sample_transition", sample_transition)
