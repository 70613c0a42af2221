"""Launchers of the Triton kernels, and the configurations that they use."""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from ...aot import AotCase, Const
from ...backend import interpreting
from ...checks import require_int32
from ...library import implement
from .gpu_kernels import (
    ensemble_mlp_bwd_kernel,
    ensemble_mlp_bwd_weights_kernel,
    ensemble_mlp_fwd_kernel,
)

# how the kernels spell a precision
DOT = {"fp32": "tf32x3", "tf32": "tf32", "bf16": "bf16"}
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
        return Tiles(16, 256, 32, 3, 8)
    return Tiles(64, 128, 32, 2, 8) if precision == "bf16" else Tiles(32, 64, 32, 3, 4)


WEIGHT_TILES = Tiles(64, 64, 32, 1, 4)  # m: a tile's inputs, n: its outputs, k: batch rows


def spelling(precision: str, interpreted: bool) -> str:
    """The kernels' PRECISION; Triton's interpreter multiplies bfloat16 as bare bits."""
    return "bf16_interpreted" if interpreted and precision == "bf16" else DOT[precision]


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
    stored = max(sizes) if save else sizes[-1]
    require_int32("a layer's output", ensemble * rows * stored)
    require_int32("x", (ensemble - 1) * x.stride(0) + (rows - 1) * x.stride(1) + sizes[0])
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
        spelling(precision, interpreting()),
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
        spelling(precision, interpreting()),
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
        spelling(precision, interpreting()),
        m,
        n,
        k,
        stages,
        num_warps=warps,
    )
    return ([d_x] if need_x else []), d_weights, d_biases


def aot_cases() -> list[AotCase]:
    """Hopper's networks in training and in rollouts, and hidden layers by themselves.

    The narrow loads of whole networks are those of inputs 14 wide and of a critic's last column;
    hidden layers by themselves show that weights are read 16 bytes at a time.
    """
    networks = {
        "dynamics": ((14, 200, 200, 200, 200, 24), "swish"),
        "critics": ((14, 256, 256, 1), "relu"),
        "hidden 200": ((200, 200, 200), "swish"),
        "hidden 256": ((256, 256, 256), "relu"),
    }
    return [
        case
        for name, (sizes, activation) in networks.items()
        for precision in DOT
        for rows in (256, 20_000)
        for case in _aot_cases(name, sizes, activation, precision, rows)
    ]


def _aot_cases(
    network: str, sizes: tuple[int, ...], activation: str, precision: str, rows: int
) -> list[AotCase]:
    hidden = network.startswith("hidden")
    tiles, training = tiles_for(rows, precision), rows < MANY_ROWS
    title, dot = f"{network}, {precision}, {rows} rows", Const(spelling(precision, False))
    pointers = ("*fp32",) * (len(sizes) - 1)
    strides = dict.fromkeys(("stride_xe", "stride_xm"), "i32:16" if hidden else "i32")
    common = {"SIZES": Const(sizes), "ACTIVATION": Const(activation)}
    blocks = {
        "PRECISION": dot,
        "BLOCK_M": Const(tiles.m),
        "BLOCK_N": Const(tiles.n),
        "BLOCK_K": Const(tiles.k),
        "STAGES": Const(tiles.stages),
    }
    hgmma = precision == "bf16" and tiles.m >= 64
    matrix = {80: "HMMA", 90: "HGMMA" if hgmma else "HMMA", 100: "UTC" if hgmma else "HMMA"}
    forward = {
        "x_ptr": "*fp32",
        **dict.fromkeys(("w_ptrs", "b_ptrs", "h_ptrs", "z_ptrs"), pointers),
        "members_ptr": "*i64",
        "rows": "i32",
        **strides,
        **common,
        "SAVE": Const(training),
        "HAS_MEMBERS": Const(not training),
        **blocks,
    }
    cases: list[tuple[str, Any, dict[str, Any], int, dict[int, str]]] = [
        ("fwd", ensemble_mlp_fwd_kernel, forward, tiles.warps, matrix)
    ]
    if training:
        backward = {
            **dict.fromkeys(("dz_ptrs", "w_ptrs", "a_ptrs"), pointers),
            "dx_ptr": "*fp32",
            "rows": "i32",
            **common,
            "NEED_X": Const(True),
            **blocks,
        }
        m, n, k, stages, warps = WEIGHT_TILES
        weights = {
            "x_ptr": "*fp32",
            **dict.fromkeys(("h_ptrs", "dz_ptrs", "dw_ptrs", "db_ptrs"), pointers),
            "rows": "i32",
            **strides,
            "SIZES": Const(sizes),
            "PRECISION": dot,
            "BLOCK_K": Const(m),
            "BLOCK_N": Const(n),
            "BLOCK_B": Const(k),
            "STAGES": Const(stages),
        }
        cases += [
            ("bwd", ensemble_mlp_bwd_kernel, backward, tiles.warps, matrix),
            (
                "bwd_weights",
                ensemble_mlp_bwd_weights_kernel,
                weights,
                warps,
                {80: "HMMA", 90: "HGMMA", 100: "UTC"},
            ),
        ]
    return [
        AotCase(f"ensemble_mlp_{name} of {title}", kernel, arguments, warps, matrix, hidden)
        for name, kernel, arguments, warps, matrix in cases
    ]


implement("triton", "ensemble_mlp_fwd", ensemble_mlp_fwd)
implement("triton", "ensemble_mlp_bwd", ensemble_mlp_bwd)
