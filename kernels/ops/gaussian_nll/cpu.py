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
    tensors = [t.contiguous() for t in (head, target, min_logvar, max_logvar)]
    loss, d_head = head.new_empty(ensemble), head.new_empty(head.shape)
    d_min, d_max = head.new_empty(ensemble, size), head.new_empty(ensemble, size)
    native.gaussian_nll(
        ensemble,
        rows,
        size,
        *(address(t) for t in (*tensors, loss, d_head, d_min, d_max)),
        torch.get_num_threads(),
    )
    return loss, d_head, d_min, d_max


implement("native", "gaussian_nll", gaussian_nll)
