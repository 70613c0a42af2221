"""Launchers of the Triton kernels, and the configurations that they use."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..aot import AotCase, Const
from ..backend import interpreting
from ..library import implement
from .gpu_kernels import (
    ensemble_mlp_bwd_kernel,
    ensemble_mlp_bwd_weights_kernel,
    ensemble_mlp_fwd_kernel,
)

# how a precision is spelled in the kernels
DOT = {
    "fp32": "tf32x3",
    "tf32": "tf32",
    "bf16": "bf16_interpreted" if interpreting() else "bf16",
}
# Rows per member from which a block takes more of them: with fewer, small blocks fill the GPU.
MANY_ROWS = 4096
# Programs per member of a forward that saves nothing: enough to fill the GPU, few enough for their
# scratch to stay in its L2.
MAX_SLOTS = 132


class Tiles(NamedTuple):
    """Block sizes of one launch: rows, outputs, inputs; pipeline stages; warps."""

    m: int
    n: int
    k: int
    stages: int
    warps: int


def tiles_for(rows: int, precision: str) -> Tiles:
    """The tiles of a forward or backward over `rows` rows per member.

    bf16 blocks of 64 rows become HGMMA on sm_90. TF32 ones stay below: HGMMA wants TF32 weights
    transposed, which turns their loads into 4 bytes each.
    """
    if rows < MANY_ROWS:
        return Tiles(16, 64, 32, 3, 4)
    return Tiles(64, 64, 32, 3, 4) if precision == "bf16" else Tiles(32, 64, 32, 3, 4)


WEIGHT_TILES = Tiles(64, 64, 32, 3, 4)  # m: a tile's inputs, n: its outputs, k: batch rows


def sizes_of(weights: list[Tensor]) -> tuple[int, ...]:
    """Inputs, hidden widths, outputs."""
    return (weights[0].shape[1], *(w.shape[2] for w in weights))


def ensemble_mlp_fwd(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    members: Tensor | None,
    activation: str,
    precision: str,
    save: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """(per layer its output, per hidden layer its pre-activations); ([out], []) without `save`."""
    ensemble, rows, _ = x.shape
    sizes = sizes_of(weights)
    tiles = tiles_for(rows, precision)
    blocks = triton.cdiv(rows, tiles.m)
    out = x.new_empty(ensemble, rows, sizes[-1])
    pre: list[Tensor] = []
    if save:
        slots = blocks
        hidden = [x.new_empty(ensemble, rows, n) for n in sizes[1:-1]]
        if activation == "swish":
            pre = [torch.empty_like(h) for h in hidden]
    else:
        slots = min(blocks, MAX_SLOTS)
        width = max(sizes[1:])
        two = [x.new_empty(ensemble, slots * tiles.m, width) for _ in range(min(2, len(sizes) - 2))]
        hidden = [two[layer % 2] for layer in range(len(sizes) - 2)]
    if x.stride(-1) != 1:
        x = x.contiguous()
    outputs = [*hidden, out]
    ensemble_mlp_fwd_kernel[(slots, ensemble)](
        x,
        tuple(w.contiguous() for w in weights),
        tuple(b.contiguous() for b in biases),
        tuple(outputs),
        (*pre, out) if pre else tuple(outputs),
        out if members is None else members,
        rows,
        x.stride(0),
        x.stride(1),
        sizes,
        activation,
        save,
        members is not None,
        DOT[precision],
        tiles.m,
        tiles.n,
        tiles.k,
        tiles.stages,
        num_warps=tiles.warps,
    )
    return (outputs if save else [out]), pre


def ensemble_mlp_bwd(
    d_out: Tensor,
    x: Tensor,
    weights: list[Tensor],
    outputs: list[Tensor],
    pre: list[Tensor],
    activation: str,
    precision: str,
    need_x: bool,
    need_weights: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """([d_x] or [], d_weights or [], d_biases or [])."""
    ensemble, rows, _ = x.shape
    sizes = sizes_of(weights)
    tiles = tiles_for(rows, precision)
    dz = [*(torch.empty_like(h) for h in outputs[:-1]), d_out.contiguous()]
    d_x = x.new_empty(x.shape) if need_x else dz[-1]
    ensemble_mlp_bwd_kernel[(triton.cdiv(rows, tiles.m), ensemble)](
        tuple(dz),
        tuple(w.contiguous() for w in weights),
        (*pre, outputs[-1]) if activation == "swish" else tuple(outputs),
        d_x,
        rows,
        sizes,
        activation,
        need_x,
        DOT[precision],
        tiles.m,
        tiles.n,
        tiles.k,
        tiles.stages,
        num_warps=tiles.warps,
    )
    if not need_weights:
        return [d_x], [], []
    if x.stride(-1) != 1:
        x = x.contiguous()
    d_weights = [w.new_empty(w.shape) for w in weights]
    d_biases = [w.new_empty(ensemble, 1, w.shape[2]) for w in weights]
    m, n, k, stages, warps = WEIGHT_TILES
    count = sum(triton.cdiv(w.shape[1], m) * triton.cdiv(w.shape[2], n) for w in weights)
    ensemble_mlp_bwd_weights_kernel[(count, ensemble)](
        x,
        tuple(outputs),
        tuple(dz),
        tuple(d_weights),
        tuple(d_biases),
        rows,
        x.stride(0),
        x.stride(1),
        sizes,
        DOT[precision],
        m,
        n,
        k,
        stages,
        num_warps=warps,
    )
    return ([d_x] if need_x else []), d_weights, d_biases


def aot_cases() -> list[AotCase]:
    """Hopper's networks at the sizes of training and of rollouts, in every precision."""
    networks = {
        "dynamics": ((14, 200, 200, 200, 200, 24), "swish"),
        "critics": ((14, 256, 256, 1), "relu"),
    }
    cases = []
    for network, (sizes, activation) in networks.items():
        layers = len(sizes) - 1
        pointers = ("*fp32",) * layers
        for precision, dot in DOT.items():
            for rows in (256, 20_000):
                tiles = tiles_for(rows, precision)
                hgmma = precision == "bf16" and tiles.m >= 64
                blocks = {
                    "PRECISION": Const(dot),
                    "BLOCK_M": Const(tiles.m),
                    "BLOCK_N": Const(tiles.n),
                    "BLOCK_K": Const(tiles.k),
                    "STAGES": Const(tiles.stages),
                }
                common = {"SIZES": Const(sizes), "ACTIVATION": Const(activation)}
                matrix = {80: "HMMA", 90: "HGMMA" if hgmma else "HMMA", 100: ""}
                cases.append(
                    AotCase(
                        f"ensemble_mlp_fwd {network} {precision} {rows} rows",
                        ensemble_mlp_fwd_kernel,
                        {
                            "x_ptr": "*fp32",
                            "w_ptrs": pointers,
                            "b_ptrs": pointers,
                            "h_ptrs": pointers,
                            "z_ptrs": pointers,
                            "members_ptr": "*i64",
                            "rows": "i32",
                            "stride_xe": "i32",
                            "stride_xm": "i32",
                            **common,
                            "SAVE": Const(rows < MANY_ROWS),
                            "HAS_MEMBERS": Const(rows >= MANY_ROWS),
                            **blocks,
                        },
                        tiles.warps,
                        matrix,
                        wide_loads=True,
                    )
                )
                if rows >= MANY_ROWS:
                    continue
                cases.append(
                    AotCase(
                        f"ensemble_mlp_bwd {network} {precision} {rows} rows",
                        ensemble_mlp_bwd_kernel,
                        {
                            "dz_ptrs": pointers,
                            "w_ptrs": pointers,
                            "a_ptrs": pointers,
                            "dx_ptr": "*fp32",
                            "rows": "i32",
                            **common,
                            "NEED_X": Const(True),
                            **blocks,
                        },
                        tiles.warps,
                        matrix,
                        wide_loads=True,
                    )
                )
                m, n, k, stages, warps = WEIGHT_TILES
                cases.append(
                    AotCase(
                        f"ensemble_mlp_bwd_weights {network} {precision} {rows} rows",
                        ensemble_mlp_bwd_weights_kernel,
                        {
                            "x_ptr": "*fp32",
                            "h_ptrs": pointers,
                            "dz_ptrs": pointers,
                            "dw_ptrs": pointers,
                            "db_ptrs": pointers,
                            "rows": "i32",
                            "stride_xe": "i32",
                            "stride_xm": "i32",
                            "SIZES": Const(sizes),
                            "PRECISION": Const(dot),
                            "BLOCK_K": Const(m),
                            "BLOCK_N": Const(n),
                            "BLOCK_B": Const(k),
                            "STAGES": Const(stages),
                        },
                        warps,
                        {80: "HMMA", 90: "", 100: ""},
                        wide_loads=True,
                    )
                )
    return cases


implement("triton", "ensemble_mlp_fwd", ensemble_mlp_fwd)
implement("triton", "ensemble_mlp_bwd", ensemble_mlp_bwd)
