"""Native: every parameter in one call."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, addresses, native, optimizer
from .op import AdamState


def adam_(
    params: list[Tensor],
    grads: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    weight_decays: list[float],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """See `adam_`."""
    if not params:
        return
    address(params[0])
    state = AdamState(params, exp_avgs, exp_avg_sqs, steps, weight_decays, lr, beta1, beta2, eps)
    grads = [g.contiguous() for g in grads]
    native.adam(adam=optimizer(state), gradients=addresses(grads), threads=torch.get_num_threads())


implement("native", "adam_", adam_)
