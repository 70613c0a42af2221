"""Triton: the policy's head in one launch each way."""

import triton
import triton.language as tl
from torch import Tensor

from ...aot import AotCase, Const, rows_of_block
from ...checks import require_int32
from ...library import implement


@triton.jit
def _tanh(u, decay):
    """decay = exp(-2 |u|). Near 0 by its series, where 1 - decay has lost its digits."""
    square = u * u
    near = u * (1.0 - square * (1.0 / 3 - square * (2.0 / 15 - square * (17.0 / 315))))
    far = tl.where(u < 0, -1.0, 1.0) * (1.0 - decay) / (1.0 + decay)
    return tl.where(square < 0.01, near, far)


@triton.jit
def squashed_gaussian_fwd_kernel(
    head_ptr,  # [B, 2 A]: mean, log-std before its clamp
    noise_ptr,  # [B, A]
    action_ptr,  # [B, A]
    log_prob_ptr,  # [B]
    rows,
    log_std_min,
    log_std_max,
    A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
):
    offs_b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    offs_a = tl.arange(0, BLOCK_A)
    mask_b = offs_b < rows
    mask = mask_b[:, None] & (offs_a < A)[None, :]
    head = head_ptr + offs_b[:, None] * (2 * A) + offs_a[None, :]
    offs = offs_b[:, None] * A + offs_a[None, :]
    mean = tl.load(head, mask=mask, other=0.0)
    log_std = tl.clamp(
        tl.load(head + A, mask=mask, other=0.0),
        log_std_min,
        log_std_max,
        propagate_nan=tl.PropagateNan.ALL,
    )
    noise = tl.load(noise_ptr + offs, mask=mask, other=0.0)
    u = mean + tl.exp(log_std) * noise
    decay = tl.exp(-2.0 * tl.abs(u))
    tanh = _tanh(u, decay)
    softplus = tl.maximum(-2.0 * u, 0.0) + tl.log(1.0 + decay)  # of -2 u
    log_slope = 2.0 * (0.6931471805599453 - u - softplus)  # log(1 - tanh(u)^2)
    log_normal = -0.5 * noise * noise - log_std - 0.9189385332046727
    tl.store(action_ptr + offs, tanh, mask=mask)
    log_prob = tl.sum(tl.where(mask, log_normal - log_slope, 0.0), axis=1)
    tl.store(log_prob_ptr + offs_b, log_prob, mask=mask_b)


@triton.jit
def squashed_gaussian_bwd_kernel(
    d_action_ptr,  # [B, A]
    d_log_prob_ptr,  # [B]
    head_ptr,
    noise_ptr,
    d_head_ptr,  # [B, 2 A]
    rows,
    log_std_min,
    log_std_max,
    A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
):
    offs_b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    offs_a = tl.arange(0, BLOCK_A)
    mask_b = offs_b < rows
    mask = mask_b[:, None] & (offs_a < A)[None, :]
    offs_head = offs_b[:, None] * (2 * A) + offs_a[None, :]
    offs = offs_b[:, None] * A + offs_a[None, :]
    mean = tl.load(head_ptr + offs_head, mask=mask, other=0.0)
    raw = tl.load(head_ptr + A + offs_head, mask=mask, other=0.0)
    log_std = tl.clamp(raw, log_std_min, log_std_max, propagate_nan=tl.PropagateNan.ALL)
    spread = tl.exp(log_std) * tl.load(noise_ptr + offs, mask=mask, other=0.0)
    u = mean + spread
    decay = tl.exp(-2.0 * tl.abs(u))
    tanh = _tanh(u, decay)
    slope = 4.0 * decay / ((1.0 + decay) * (1.0 + decay))  # d tanh(u) / du, exact for large |u|
    d_action = tl.load(d_action_ptr + offs, mask=mask, other=0.0)
    d_log_prob = tl.load(d_log_prob_ptr + offs_b, mask=mask_b, other=0.0)[:, None]
    d_u = d_action * slope + d_log_prob * 2.0 * tanh  # d log_prob / du = 2 tanh(u)
    d_log_std = d_u * spread - d_log_prob
    inside = (raw >= log_std_min) & (raw <= log_std_max)
    tl.store(d_head_ptr + offs_head, d_u, mask=mask)
    tl.store(d_head_ptr + A + offs_head, tl.where(inside, d_log_std, 0.0), mask=mask)


def squashed_gaussian_fwd(
    head: Tensor, noise: Tensor, log_std_min: float, log_std_max: float
) -> tuple[Tensor, Tensor]:
    """(action [..., A], log-density [...])."""
    head, noise = head.contiguous(), noise.contiguous()
    action, log_prob = noise.new_empty(noise.shape), noise.new_empty(noise.shape[:-1])
    size, rows = noise.shape[-1], log_prob.numel()
    require_int32("head", head.numel())
    block = rows_of_block(size)
    squashed_gaussian_fwd_kernel[(triton.cdiv(rows, block),)](
        head,
        noise,
        action,
        log_prob,
        rows,
        log_std_min,
        log_std_max,
        size,
        block,
        triton.next_power_of_2(size),
    )
    return action, log_prob


def squashed_gaussian_bwd(
    d_action: Tensor,
    d_log_prob: Tensor,
    head: Tensor,
    noise: Tensor,
    log_std_min: float,
    log_std_max: float,
) -> Tensor:
    """d_head [..., 2 A]."""
    head, noise = head.contiguous(), noise.contiguous()
    d_head = head.new_empty(head.shape)
    size, rows = noise.shape[-1], d_log_prob.numel()
    block = rows_of_block(size)
    squashed_gaussian_bwd_kernel[(triton.cdiv(rows, block),)](
        d_action.contiguous(),
        d_log_prob.contiguous(),
        head,
        noise,
        d_head,
        rows,
        log_std_min,
        log_std_max,
        size,
        block,
        triton.next_power_of_2(size),
    )
    return d_head


def aot_cases() -> list[AotCase]:
    """Hopper's three actions, and Humanoid's 17."""
    forward = ("head_ptr", "noise_ptr", "action_ptr", "log_prob_ptr")
    backward = ("d_action_ptr", "d_log_prob_ptr", "head_ptr", "noise_ptr", "d_head_ptr")
    return [
        AotCase(
            f"squashed_gaussian_{name}, {size} actions",
            kernel,
            {
                **dict.fromkeys(pointers, "*fp32"),
                "rows": "i32",
                "log_std_min": "fp32",
                "log_std_max": "fp32",
                "A": Const(size),
                "BLOCK_B": Const(rows_of_block(size)),
                "BLOCK_A": Const(triton.next_power_of_2(size)),
            },
            4,
        )
        for size in (3, 17)
        for name, kernel, pointers in (
            ("fwd", squashed_gaussian_fwd_kernel, forward),
            ("bwd", squashed_gaussian_bwd_kernel, backward),
        )
    ]


implement("triton", "squashed_gaussian_fwd", squashed_gaussian_fwd)
implement("triton", "squashed_gaussian_bwd", squashed_gaussian_bwd)
