"""Triton: all tensors of an optimiser in one launch.

PyTorch's fused Adam gives a block 65,536 numbers, so networks as small as ours keep a handful of
multiprocessors busy: 48 microseconds a launch on an H100. Here a block takes 1,024.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...aot import AotCase, Const
from ...library import implement

BLOCK = 1024
MOST_TENSORS = 16  # of one launch: each has a piece of code of its own


@triton.jit
def _one_minus_exp(x):
    """1 - exp(x) for x <= 0; near 0 by its series, where the difference would lose its digits."""
    series = -x * (1.0 + x * (0.5 + x * (1.0 / 6 + x * (1.0 / 24))))
    return tl.where(x > -0.03, series, 1.0 - tl.exp(x))


@triton.jit
def adam_kernel(
    p_ptrs,  # per tensor, as the next four
    g_ptrs,
    m_ptrs,
    v_ptrs,
    step_ptrs,  # [] steps before this one
    lr,
    eps,
    SIZES: tl.constexpr,
    DECAYS: tl.constexpr,
    BETA1: tl.constexpr,
    BETA2: tl.constexpr,
    LOG_BETA1: tl.constexpr,
    LOG_BETA2: tl.constexpr,
    BLOCK: tl.constexpr,
):
    block = tl.program_id(0)
    for i in tl.static_range(len(SIZES)):
        blocks = tl.cdiv(SIZES[i], BLOCK)
        if (block >= 0) & (block < blocks):
            step = tl.load(step_ptrs[i]) + 1.0
            correction1 = _one_minus_exp(step * LOG_BETA1)  # 1 - beta^step
            correction2 = _one_minus_exp(step * LOG_BETA2)
            offs = block * BLOCK + tl.arange(0, BLOCK)
            mask = offs < SIZES[i]
            p = tl.load(p_ptrs[i] + offs, mask=mask, other=0.0)
            g = tl.load(g_ptrs[i] + offs, mask=mask, other=0.0) + DECAYS[i] * p
            m = tl.load(m_ptrs[i] + offs, mask=mask, other=0.0)
            v = tl.load(v_ptrs[i] + offs, mask=mask, other=0.0)
            m += (1.0 - BETA1) * (g - m)
            v = BETA2 * v + (1.0 - BETA2) * g * g
            p -= lr / correction1 * m / (tl.sqrt(v) / tl.sqrt(correction2) + eps)
            tl.store(p_ptrs[i] + offs, p, mask=mask)
            tl.store(m_ptrs[i] + offs, m, mask=mask)
            tl.store(v_ptrs[i] + offs, v, mask=mask)
        block -= blocks


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
    """In place, `MOST_TENSORS` at a time."""
    for first in range(0, len(params), MOST_TENSORS):
        part = slice(first, first + MOST_TENSORS)
        sizes = tuple(p.numel() for p in params[part])
        adam_kernel[(sum(triton.cdiv(n, BLOCK) for n in sizes),)](
            tuple(params[part]),
            tuple(g.contiguous() for g in grads[part]),
            tuple(exp_avgs[part]),
            tuple(exp_avg_sqs[part]),
            tuple(steps[part]),
            lr,
            eps,
            sizes,
            tuple(weight_decays[part]),
            beta1,
            beta2,
            math.log(beta1),
            math.log(beta2),
            BLOCK,
        )
    torch._foreach_add_(steps, 1)  # every block has read them


def aot_cases() -> list[AotCase]:
    """Hopper's dynamics ensemble with its log-variance bounds."""
    member = (14 * 200, *(200 * 200,) * 3, 200 * 24, *(200,) * 4, 24)
    sizes = (*(7 * n for n in member), 12, 12)
    decays = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4, *(0.0,) * 7)
    lists = ("p_ptrs", "g_ptrs", "m_ptrs", "v_ptrs", "step_ptrs")
    constants = {
        "SIZES": sizes,
        "DECAYS": decays,
        "BETA1": 0.9,
        "BETA2": 0.999,
        "LOG_BETA1": math.log(0.9),
        "LOG_BETA2": math.log(0.999),
        "BLOCK": BLOCK,
    }
    arguments = {
        **dict.fromkeys(lists, ("*fp32",) * len(sizes)),
        "lr": "fp32",
        "eps": "fp32",
        **{name: Const(value) for name, value in constants.items()},
    }
    return [AotCase("adam", adam_kernel, arguments, 4)]


implement("triton", "adam_", adam_)
