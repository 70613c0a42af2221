"""Triton: the likelihood loss and all its gradients in one pass over the network's output."""

import triton
import triton.language as tl
from torch import Tensor

from ...aot import AotCase, predicted_cases, rows_of_block
from ...checks import require_int32
from ...library import implement


@triton.jit
def _softplus(x):
    return tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def gaussian_nll_kernel(
    head_ptr,  # [E, B, 2 D]
    target_ptr,  # [E, B, D]
    min_ptr,  # [D]
    max_ptr,  # [D]
    d_head_ptr,  # [E, B, 2 D]
    parts_ptr,  # [E, blocks, 3, D] of each block: loss, d_min, d_max
    rows,
    D: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    block, e = tl.program_id(0), tl.program_id(1)
    offs_b = block * BLOCK_B + tl.arange(0, BLOCK_B)
    offs_d = tl.arange(0, BLOCK_D)
    mask_d = offs_d < D
    mask = (offs_b < rows)[:, None] & mask_d[None, :]
    row = e * rows + offs_b
    offs_head = row[:, None] * (2 * D) + offs_d[None, :]
    mean = tl.load(head_ptr + offs_head, mask=mask, other=0.0)
    raw = tl.load(head_ptr + D + offs_head, mask=mask, other=0.0)
    target = tl.load(target_ptr + row[:, None] * D + offs_d[None, :], mask=mask, other=0.0)
    low = tl.load(min_ptr + offs_d, mask=mask_d, other=0.0)[None, :]
    high = tl.load(max_ptr + offs_d, mask=mask_d, other=0.0)[None, :]

    upper = high - _softplus(high - raw)
    logvar = low + _softplus(upper - low)
    d_upper = tl.sigmoid(high - raw)  # d upper / d raw; 1 - that: d upper / d max
    d_logvar = tl.sigmoid(upper - low)  # d logvar / d upper; 1 - that: d logvar / d min
    err = target - mean
    precision = tl.exp(-logvar)
    loss = err * err * precision + logvar
    scale = 1.0 / (rows * D)
    g = (1.0 - err * err * precision) * scale  # d loss / d logvar
    tl.store(d_head_ptr + offs_head, -2.0 * err * precision * scale, mask=mask)
    tl.store(d_head_ptr + D + offs_head, g * d_logvar * d_upper, mask=mask)
    parts = parts_ptr + (e * tl.num_programs(0) + block) * 3 * D + offs_d
    tl.store(parts, tl.sum(tl.where(mask, loss * scale, 0.0), axis=0), mask=mask_d)
    d_min = tl.where(mask, g * (1.0 - d_logvar), 0.0)
    d_max = tl.where(mask, g * d_logvar * (1.0 - d_upper), 0.0)
    tl.store(parts + D, tl.sum(d_min, axis=0), mask=mask_d)
    tl.store(parts + 2 * D, tl.sum(d_max, axis=0), mask=mask_d)


def gaussian_nll(
    head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(loss [E], and of it d_head [E, B, 2 D], d_min [E, D], d_max [E, D])."""
    ensemble, rows, size = target.shape
    head, target = head.contiguous(), target.contiguous()
    require_int32("head", head.numel())
    block = rows_of_block(size)
    blocks = triton.cdiv(rows, block)
    d_head = head.new_empty(head.shape)
    parts = head.new_empty(ensemble, blocks, 3, size)
    gaussian_nll_kernel[(blocks, ensemble)](
        head,
        target,
        min_logvar.contiguous(),
        max_logvar.contiguous(),
        d_head,
        parts,
        rows,
        size,
        block,
        triton.next_power_of_2(size),
    )
    total = parts.sum(1)  # [E, 3, D], in a fixed order
    return total[:, 0].sum(-1), d_head, total[:, 1].clone(), total[:, 2].clone()


def aot_cases() -> list[AotCase]:
    pointers = ("head_ptr", "target_ptr", "min_ptr", "max_ptr", "d_head_ptr", "parts_ptr")
    return predicted_cases("gaussian_nll", gaussian_nll_kernel, pointers)


implement("triton", "gaussian_nll", gaussian_nll)
