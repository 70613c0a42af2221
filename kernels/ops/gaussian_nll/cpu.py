"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, native


def gaussian_nll(
    head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss [E], of each member's: d_head [E, B, 2 D], d_min and d_max [E, D])."""
    ensemble, rows, size = target.shape
    inputs = {
        "head": head.contiguous(),
        "target": target.contiguous(),
        "min_logvar": min_logvar.contiguous(),
        "max_logvar": max_logvar.contiguous(),
    }
    loss, d_head = head.new_empty(ensemble), head.new_empty(head.shape)
    d_min, d_max = head.new_empty(ensemble, size), head.new_empty(ensemble, size)
    native.gaussian_nll(
        ensemble=ensemble,
        rows=rows,
        size=size,
        **{name: address(tensor) for name, tensor in inputs.items()},
        loss=address(loss),
        d_head=address(d_head),
        d_min=address(d_min),
        d_max=address(d_max),
        threads=torch.get_num_threads(),
    )
    return loss, d_head, d_min, d_max


implement("native", "gaussian_nll", gaussian_nll)
