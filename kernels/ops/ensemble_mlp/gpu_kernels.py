"""Triton: a whole network per launch, and its two backward launches.

Forward: one program takes one member and a block of rows through every layer. The rows' hidden
activations go from layer to layer through memory that only this program touches, so they stay in
the L2; in training they are what the backward needs anyway. Weights stream from the L2 through
shared memory. Layers are cut into tiles, so no width is too large.

Backward: the same walk from the last layer to the first leaves each layer's dz = d loss / d
pre-activation; then one launch has a program for each tile of each layer's d_weight = h^T dz, with
d_bias = sum dz beside it. `torch.bmm` would need ten launches for Hopper's ensemble.
"""

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, acc, PRECISION: tl.constexpr):
    if PRECISION == "bf16":
        acc = tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), acc)
    elif PRECISION == "bf16_interpreted":  # the interpreter multiplies bfloat16 as bare bits
        acc = tl.dot(a.to(tl.bfloat16).to(tl.float32), b.to(tl.bfloat16).to(tl.float32), acc)
    else:
        acc = tl.dot(a, b, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _layer_fwd(
    src_ptr,  # the layer's input: rows offs_s of stride_s, K wide
    offs_s,  # [BLOCK_M]
    stride_s,
    w_ptr,  # [K, N]
    b_ptr,  # [N]
    z_ptr,  # pre-activations, rows offs_d, N wide; written with SAVE_Z
    dst_ptr,  # the layer's output, rows offs_d, N wide
    offs_d,  # [BLOCK_M]
    mask_m,
    K: tl.constexpr,
    N: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SAVE_Z: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    TILE_N: tl.constexpr = BLOCK_N if N > 32 else 32
    for n0 in range(0, N, TILE_N):
        offs_n = n0 + tl.arange(0, TILE_N)
        mask_n = offs_n < N
        acc = tl.zeros((BLOCK_M, TILE_N), tl.float32)
        for k0 in tl.range(0, K, BLOCK_K, num_stages=STAGES):
            offs_k = k0 + tl.arange(0, BLOCK_K)
            mask_k = offs_k < K
            a = tl.load(
                src_ptr + offs_s[:, None] * stride_s + offs_k[None, :],
                mask=mask_m[:, None] & mask_k[None, :],
                other=0.0,
            )
            w = tl.load(
                w_ptr + offs_k[:, None] * N + offs_n[None, :],
                mask=mask_k[:, None] & mask_n[None, :],
                other=0.0,
            )
            acc = _dot(a, w, acc, PRECISION)
        acc += tl.load(b_ptr + offs_n, mask=mask_n, other=0.0)[None, :]
        offs = offs_d[:, None] * N + offs_n[None, :]
        mask = mask_m[:, None] & mask_n[None, :]
        if ACTIVATION == "swish":
            if SAVE_Z:
                tl.store(z_ptr + offs, acc, mask=mask)
            acc = acc * tl.sigmoid(acc)
        elif ACTIVATION == "relu":
            acc = tl.maximum(acc, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(dst_ptr + offs, acc, mask=mask)
    tl.debug_barrier()  # the next layer loads what other threads stored


@triton.jit
def ensemble_mlp_fwd_kernel(
    x_ptr,  # [E, rows, SIZES[0]], strides stride_xe, stride_xm, 1
    w_ptrs,  # per layer [members, K, N]
    b_ptrs,  # per layer [members, 1, N]
    h_ptrs,  # per layer its output [E, rows, N]; without SAVE scratch, but for the last
    z_ptrs,  # per layer its pre-activations [E, rows, N], written with SAVE and swish
    members_ptr,  # [E] int64, read with HAS_MEMBERS
    rows,
    stride_xe,
    stride_xm,
    SIZES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SAVE: tl.constexpr,
    HAS_MEMBERS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    slot, e = tl.program_id(0), tl.program_id(1)
    member = e
    if HAS_MEMBERS:
        member = tl.load(members_ptr + e).to(tl.int32)
    LAST: tl.constexpr = len(SIZES) - 2
    for block in range(slot, tl.cdiv(rows, BLOCK_M), tl.num_programs(0)):
        offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
        mask_m = offs_m < rows
        offs_out = e * rows + offs_m
        offs_h = offs_out
        if not SAVE:
            offs_h = (e * tl.num_programs(0) + slot) * BLOCK_M + tl.arange(0, BLOCK_M)
        src, offs_s, stride_s = x_ptr + e * stride_xe, offs_m, stride_xm
        for layer in tl.static_range(LAST + 1):
            offs_d = offs_h if layer < LAST else offs_out
            _layer_fwd(
                src,
                offs_s,
                stride_s,
                w_ptrs[layer] + member * (SIZES[layer] * SIZES[layer + 1]),
                b_ptrs[layer] + member * SIZES[layer + 1],
                z_ptrs[layer],
                h_ptrs[layer],
                offs_d,
                mask_m,
                SIZES[layer],
                SIZES[layer + 1],
                ACTIVATION if layer < LAST else "none",
                SAVE,
                PRECISION,
                BLOCK_M,
                BLOCK_N,
                BLOCK_K,
                STAGES,
            )
            src, offs_s, stride_s = h_ptrs[layer], offs_d, SIZES[layer + 1]


@triton.jit
def _layer_bwd(
    src_ptr,  # dz of the layer's output: rows offs_m, N wide
    w_ptr,  # [K, N]
    a_ptr,  # of the layer's input: pre-activations (swish) or activations (relu), K wide
    dst_ptr,  # dz of the layer's input, or d_x, K wide
    offs_m,
    mask_m,
    K: tl.constexpr,
    N: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    TILE_K: tl.constexpr = BLOCK_N if K > 32 else 32
    for k0 in range(0, K, TILE_K):
        offs_k = k0 + tl.arange(0, TILE_K)
        mask_k = offs_k < K
        acc = tl.zeros((BLOCK_M, TILE_K), tl.float32)
        for n0 in tl.range(0, N, BLOCK_K, num_stages=STAGES):
            offs_n = n0 + tl.arange(0, BLOCK_K)
            mask_n = offs_n < N
            dz = tl.load(
                src_ptr + offs_m[:, None] * N + offs_n[None, :],
                mask=mask_m[:, None] & mask_n[None, :],
                other=0.0,
            )
            w = tl.load(  # the transpose of w
                w_ptr + offs_k[None, :] * N + offs_n[:, None],
                mask=mask_k[None, :] & mask_n[:, None],
                other=0.0,
            )
            acc = _dot(dz, w, acc, PRECISION)
        offs = offs_m[:, None] * K + offs_k[None, :]
        mask = mask_m[:, None] & mask_k[None, :]
        if ACTIVATION == "swish":  # d (z s) / dz = s (1 + z (1 - s)), s = sigmoid(z)
            z = tl.load(a_ptr + offs, mask=mask, other=0.0)
            s = tl.sigmoid(z)
            acc *= s * (1.0 + z * (1.0 - s))
        elif ACTIVATION == "relu":
            acc = tl.where(tl.load(a_ptr + offs, mask=mask, other=0.0) > 0, acc, 0.0)
        tl.store(dst_ptr + offs, acc, mask=mask)
    tl.debug_barrier()


@triton.jit
def ensemble_mlp_bwd_kernel(
    dz_ptrs,  # per layer [E, rows, N]; the last is d_out, the others are written
    w_ptrs,  # per layer [E, K, N]
    a_ptrs,  # per layer its output as `_layer_bwd`'s a_ptr wants it
    dx_ptr,  # [E, rows, SIZES[0]], written with NEED_X
    rows,
    SIZES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    NEED_X: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    e = tl.program_id(1)
    offs_b = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    mask_m = offs_b < rows
    offs_m = e * rows + offs_b
    LAST: tl.constexpr = len(SIZES) - 2
    for i in tl.static_range(LAST):
        _layer_bwd(
            dz_ptrs[LAST - i],
            w_ptrs[LAST - i] + e * (SIZES[LAST - i] * SIZES[LAST - i + 1]),
            a_ptrs[LAST - i - 1],
            dz_ptrs[LAST - i - 1],
            offs_m,
            mask_m,
            SIZES[LAST - i],
            SIZES[LAST - i + 1],
            ACTIVATION,
            PRECISION,
            BLOCK_M,
            BLOCK_N,
            BLOCK_K,
            STAGES,
        )
    if NEED_X:
        _layer_bwd(
            dz_ptrs[0],
            w_ptrs[0] + e * (SIZES[0] * SIZES[1]),
            dx_ptr,
            dx_ptr,
            offs_m,
            mask_m,
            SIZES[0],
            SIZES[1],
            "none",
            PRECISION,
            BLOCK_M,
            BLOCK_N,
            BLOCK_K,
            STAGES,
        )


@triton.jit
def _weight_tile(
    h_ptr,  # the layer's input, rows of stride_h, K wide
    stride_h,
    dz_ptr,  # [rows, N]
    dw_ptr,  # [K, N]
    db_ptr,  # [N]
    tile,
    rows,
    K: tl.constexpr,
    N: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_B: tl.constexpr,
    STAGES: tl.constexpr,
):
    TILES_N: tl.constexpr = tl.cdiv(N, BLOCK_N)
    offs_k = tile // TILES_N * BLOCK_K + tl.arange(0, BLOCK_K)
    offs_n = tile % TILES_N * BLOCK_N + tl.arange(0, BLOCK_N)
    mask_k, mask_n = offs_k < K, offs_n < N
    acc = tl.zeros((BLOCK_K, BLOCK_N), tl.float32)
    total = tl.zeros((BLOCK_B, BLOCK_N), tl.float32)
    for b0 in tl.range(0, rows, BLOCK_B, num_stages=STAGES):
        offs_b = b0 + tl.arange(0, BLOCK_B)
        mask_b = offs_b < rows
        h = tl.load(
            h_ptr + offs_b[:, None] * stride_h + offs_k[None, :],
            mask=mask_b[:, None] & mask_k[None, :],
            other=0.0,
        )
        dz = tl.load(
            dz_ptr + offs_b[:, None] * N + offs_n[None, :],
            mask=mask_b[:, None] & mask_n[None, :],
            other=0.0,
        )
        acc = _dot(tl.trans(h), dz, acc, PRECISION)
        total += dz
    tl.store(
        dw_ptr + offs_k[:, None] * N + offs_n[None, :],
        acc,
        mask=mask_k[:, None] & mask_n[None, :],
    )
    if tile < TILES_N:  # the first row of tiles
        tl.store(db_ptr + offs_n, tl.sum(total, axis=0), mask=mask_n)


@triton.jit
def ensemble_mlp_bwd_weights_kernel(
    x_ptr,  # [E, rows, SIZES[0]], strides stride_xe, stride_xm, 1
    h_ptrs,  # per layer its output [E, rows, N]
    dz_ptrs,  # per layer [E, rows, N]
    dw_ptrs,  # per layer [E, K, N]
    db_ptrs,  # per layer [E, 1, N]
    rows,
    stride_xe,
    stride_xm,
    SIZES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_B: tl.constexpr,
    STAGES: tl.constexpr,
):
    tile, e = tl.program_id(0), tl.program_id(1)
    for layer in tl.static_range(len(SIZES) - 1):
        tiles = tl.cdiv(SIZES[layer], BLOCK_K) * tl.cdiv(SIZES[layer + 1], BLOCK_N)
        if (tile >= 0) & (tile < tiles):
            if layer == 0:
                h, stride_h = x_ptr + e * stride_xe, stride_xm
            else:
                h, stride_h = h_ptrs[layer - 1] + e * rows * SIZES[layer], SIZES[layer]
            _weight_tile(
                h,
                stride_h,
                dz_ptrs[layer] + e * rows * SIZES[layer + 1],
                dw_ptrs[layer] + e * (SIZES[layer] * SIZES[layer + 1]),
                db_ptrs[layer] + e * SIZES[layer + 1],
                tile,
                rows,
                SIZES[layer],
                SIZES[layer + 1],
                PRECISION,
                BLOCK_K,
                BLOCK_N,
                BLOCK_B,
                STAGES,
            )
        tile -= tiles
