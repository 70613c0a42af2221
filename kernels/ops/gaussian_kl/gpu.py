"""Triton: the adversary's loss and its gradients in one pass."""

import triton
import triton.language as tl
from torch import Tensor

from ...aot import AotCase, predicted_cases, rows_of_block
from ...checks import require_int32
from ...library import implement


@triton.jit
def gaussian_kl_score_kernel(
    mean_g_ptr,  # [E, B, D], as the next four
    logvar_g_ptr,
    mean_p_ptr,
    logvar_p_ptr,
    sample_ptr,
    advantage_ptr,  # [E, B]
    eta_ptr,  # []
    d_mean_ptr,  # [E, B, D]
    d_logvar_ptr,  # [E, B, D]
    parts_ptr,  # [E, blocks], each block's share of the loss
    rows,
    D: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    block, e = tl.program_id(0), tl.program_id(1)
    offs_b = block * BLOCK_B + tl.arange(0, BLOCK_B)
    offs_d = tl.arange(0, BLOCK_D)
    mask_b = offs_b < rows
    mask = mask_b[:, None] & (offs_d < D)[None, :]
    row = e * rows + offs_b
    offs = row[:, None] * D + offs_d[None, :]
    mean_g = tl.load(mean_g_ptr + offs, mask=mask, other=0.0)
    logvar_g = tl.load(logvar_g_ptr + offs, mask=mask, other=0.0)
    logvar_p = tl.load(logvar_p_ptr + offs, mask=mask, other=0.0)
    shift = mean_g - tl.load(mean_p_ptr + offs, mask=mask, other=0.0)
    err = tl.load(sample_ptr + offs, mask=mask, other=0.0) - mean_g
    weight = tl.load(advantage_ptr + row, mask=mask_b, other=0.0) * tl.load(eta_ptr)
    weight = weight[:, None]

    change = logvar_g - logvar_p
    # expm1(c) - c loses all digits where the adversary starts, at c = 0: a series there
    square = change * change
    near = 1.0 / 720 + change * (1.0 / 5040 + change * (1.0 / 40320))
    near = 1.0 / 6 + change * (1.0 / 24 + change * (1.0 / 120 + change * near))
    near = square * (0.5 + change * near)
    small = tl.abs(change) < 0.3
    excess = tl.where(small, near, tl.exp(change) - 1.0 - change)
    growth = tl.where(small, near + change, tl.exp(change) - 1.0)  # expm1(c)
    precision_p, precision_g = tl.exp(-logvar_p), tl.exp(-logvar_g)
    surprise = err * err * precision_g
    kl = 0.5 * (excess + shift * shift * precision_p)
    log_prob = -0.5 * (surprise + logvar_g + 1.8378770664093453)
    scale = 1.0 / rows
    d_mean = shift * precision_p + weight * err * precision_g
    d_logvar = 0.5 * growth + weight * 0.5 * (surprise - 1.0)
    tl.store(d_mean_ptr + offs, d_mean * scale, mask=mask)
    tl.store(d_logvar_ptr + offs, d_logvar * scale, mask=mask)
    loss = tl.sum(tl.where(mask, kl + weight * log_prob, 0.0), axis=1)
    tl.store(parts_ptr + e * tl.num_programs(0) + block, tl.sum(loss, axis=0) * scale)


def gaussian_kl_score(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    sample: Tensor,
    advantage: Tensor,
    eta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss [], and of it d_mean_g, d_logvar_g [E, B, D])."""
    ensemble, rows, size = mean_g.shape
    require_int32("mean_g", mean_g.numel())
    block = rows_of_block(size)
    blocks = triton.cdiv(rows, block)
    d_mean, d_logvar = mean_g.new_empty(mean_g.shape), mean_g.new_empty(mean_g.shape)
    parts = mean_g.new_empty(ensemble, blocks)
    tensors = (mean_g, logvar_g, mean_p, logvar_p, sample, advantage, eta)
    gaussian_kl_score_kernel[(blocks, ensemble)](
        *(t.contiguous() for t in tensors),
        d_mean,
        d_logvar,
        parts,
        rows,
        size,
        block,
        triton.next_power_of_2(size),
    )
    return parts.sum(), d_mean, d_logvar


def aot_cases() -> list[AotCase]:
    inputs = ("mean_g", "logvar_g", "mean_p", "logvar_p", "sample", "advantage", "eta")
    pointers = [f"{name}_ptr" for name in (*inputs, "d_mean", "d_logvar", "parts")]
    return predicted_cases("gaussian_kl_score", gaussian_kl_score_kernel, pointers)


implement("triton", "gaussian_kl_score", gaussian_kl_score)
