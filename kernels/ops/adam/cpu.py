"""Native: every parameter in one call."""

from typing import Any

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, addresses, native, optimizer
from .op import AdamState


def adam_(params: list[Tensor], grads: list[Tensor], *state: Any) -> None:
    """See `adam_`; `state` is the rest of an `AdamState`."""
    if not params:
        return
    address(params[0])
    grads = [g.contiguous() for g in grads]  # a name of their own: they live until the call's end
    native.adam(
        adam=optimizer(AdamState(params, *state)),
        gradients=addresses(grads),
        threads=torch.get_num_threads(),
    )


implement("native", "adam_", adam_)
