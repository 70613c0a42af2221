"""Adam, one tensor after the other. In PyTorch it would be `torch.optim.Adam`."""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def adam_reference_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    weight_decays: Sequence[float],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    for p, g, m, v, step, decay in zip(
        params, grads, exp_avgs, exp_avg_sqs, steps, weight_decays, strict=True
    ):
        g = g + decay * p
        step += 1
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        size = lr / (1 - beta1**step)
        p -= size * m / (v.sqrt() / (1 - beta2**step).sqrt() + eps)
