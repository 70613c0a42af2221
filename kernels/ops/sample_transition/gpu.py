"""Triton: prediction to packed row in one launch, one program per block of rows."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...aot import AotCase, Const, rows_of_block
from ...checks import require_int32
from ...library import implement


@triton.jit
def sample_transition_kernel(
    obs_ptr,  # [B, S]
    action_ptr,  # [B, A]
    mean_ptr,  # [B, D]
    logvar_ptr,  # [B, D]
    noise_ptr,  # [B, D]
    low_ptr,  # [S]
    high_ptr,  # [S]
    rows_ptr,  # [B, 2 S + A + 2]
    finite_ptr,  # [B]
    rows,
    S: tl.constexpr,
    A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_A: tl.constexpr,
):
    offs_b = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    offs_d = tl.arange(0, BLOCK_D)
    offs_a = tl.arange(0, BLOCK_A)
    mask_b = offs_b < rows
    mask_d = mask_b[:, None] & (offs_d < S + 1)[None, :]
    mask_s = mask_b[:, None] & (offs_d < S)[None, :]
    mask_a = mask_b[:, None] & (offs_a < A)[None, :]
    offs = offs_b[:, None] * (S + 1) + offs_d[None, :]
    mean = tl.load(mean_ptr + offs, mask=mask_d, other=0.0)
    std = tl.exp(0.5 * tl.load(logvar_ptr + offs, mask=mask_d, other=0.0))
    sample = mean + std * tl.load(noise_ptr + offs, mask=mask_d, other=0.0)
    # NaN compares false, infinity is too large
    odd = tl.where(tl.abs(sample) <= 3.4028234663852886e38, 0, 1)
    finite = tl.sum(tl.where(mask_d, odd, 0), axis=1) == 0
    obs = tl.load(obs_ptr + offs_b[:, None] * S + offs_d[None, :], mask=mask_s, other=0.0)
    low = tl.load(low_ptr + offs_d, mask=offs_d < S, other=0.0)[None, :]
    high = tl.load(high_ptr + offs_d, mask=offs_d < S, other=0.0)[None, :]
    next_obs = tl.minimum(tl.maximum(obs + sample, low), high)
    out = rows_ptr + offs_b[:, None] * (2 * S + A + 2)
    tl.store(out + offs_d[None, :], obs, mask=mask_s)
    action = tl.load(action_ptr + offs_b[:, None] * A + offs_a[None, :], mask=mask_a, other=0.0)
    tl.store(out + S + offs_a[None, :], action, mask=mask_a)
    reward = tl.where(finite[:, None], sample, 0.0)
    is_reward = mask_b[:, None] & (offs_d == S)[None, :]
    tl.store(out + A + offs_d[None, :], reward, mask=is_reward)  # column S of D is column S + A
    tl.store(
        out + S + A + 1 + offs_d[None, :], tl.where(finite[:, None], next_obs, 0.0), mask=mask_s
    )
    tl.store(out + S + A + 1 + offs_d[None, :], 0.0, mask=is_reward)  # terminated
    tl.store(finite_ptr + offs_b, finite, mask=mask_b)


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
    actions = action.shape[1]
    rows = obs.new_empty(count, 2 * size + actions + 2)
    require_int32("rows", rows.numel())
    finite = obs.new_empty(count, dtype=torch.bool)
    tensors = (obs, action, mean, logvar, noise, obs_low, obs_high)
    block = rows_of_block(size + 1)
    sample_transition_kernel[(triton.cdiv(count, block),)](
        *(t.contiguous() for t in tensors),
        rows,
        finite,
        count,
        size,
        actions,
        block,
        triton.next_power_of_2(size + 1),
        triton.next_power_of_2(actions),
    )
    return rows, finite


def aot_cases() -> list[AotCase]:
    """Hopper's sizes and Humanoid's."""
    names = ("obs", "action", "mean", "logvar", "noise", "low", "high", "rows")
    return [
        AotCase(
            f"sample_transition, states of {states}",
            sample_transition_kernel,
            {
                **{f"{n}_ptr": "*fp32" for n in names},
                "finite_ptr": "*i1",
                "rows": "i32",
                "S": Const(states),
                "A": Const(actions),
                "BLOCK_B": Const(rows_of_block(states + 1)),
                "BLOCK_D": Const(triton.next_power_of_2(states + 1)),
                "BLOCK_A": Const(triton.next_power_of_2(actions)),
            },
            4,
        )
        for states, actions in ((11, 3), (45, 17))
    ]


implement("triton", "sample_transition", sample_transition)
