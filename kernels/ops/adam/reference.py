"""Adam, one tensor after the other, as it is written in the paper.

PyTorch's own fused step, which is this to rounding, is what runs without a compiled backend.
"""

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


@torch.no_grad()
def adam_pytorch_(
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
    """What `torch.optim.Adam(fused=True)` does, bit for bit, without its hooks.

    On a CPU it reads a gradient as if it were contiguous.
    """
    grads = [grad.contiguous() for grad in grads]
    torch._foreach_add_(list(steps), 1)
    groups = (params, grads, exp_avgs, exp_avg_sqs, steps)
    for decay in dict.fromkeys(weight_decays):
        chosen = [i for i, other in enumerate(weight_decays) if other == decay]
        p, g, m, v, step = ([group[i] for i in chosen] for group in groups)
        torch._fused_adam_(
            *(p, g, m, v, [], step),
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            weight_decay=decay,
            eps=eps,
            amsgrad=False,
            maximize=False,
        )
