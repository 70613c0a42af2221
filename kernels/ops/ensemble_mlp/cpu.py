"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, addresses, native
from .op import native_hidden


def ensemble_mlp_fwd(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    members: Tensor | None,
    activation: str,
    precision: str,
    save: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """(per layer its output, per hidden layer its slope); ([out], []) without `save`.

    A slope is d swish(z) / dz: cheap while z's sigmoid is at hand, and all that backward needs.
    Hidden outputs and slopes are as `native_hidden` has them.
    """
    ensemble, rows, inputs = x.shape
    if x.stride(-1) != 1:
        x = x.contiguous()
    weights, biases = [w.contiguous() for w in weights], [b.contiguous() for b in biases]
    sizes = [inputs, *(w.shape[2] for w in weights)]
    hidden = [native_hidden(x, n, precision) for n in sizes[1:-1]] if save else []
    outputs = [*hidden, x.new_empty(ensemble, rows, sizes[-1])]
    slopes = [torch.empty_like(h) for h in hidden] if activation == "swish" else []
    chosen = None if members is None else members.contiguous()
    native.ensemble_mlp_fwd(
        ensemble=ensemble,
        rows=rows,
        sizes=sizes,
        x=address(x),
        stride_xe=x.stride(0),
        stride_xm=x.stride(1),
        weights=addresses(weights),
        biases=addresses(biases),
        members=0 if chosen is None else address(chosen),
        num_networks=weights[0].shape[0],
        outputs=addresses(outputs),
        slopes=addresses(slopes),
        swish=activation == "swish",
        bf16=precision == "bf16",
        save=save,
        threads=torch.get_num_threads(),
    )
    return outputs, slopes


def ensemble_mlp_bwd(
    d_out: Tensor,
    x: Tensor,
    weights: list[Tensor],
    outputs: list[Tensor],
    slopes: list[Tensor],
    activation: str,
    precision: str,
    need_x: bool,
    need_weights: bool,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """([d_x] or [], d_weights or [], d_biases or [])."""
    ensemble, rows, inputs = x.shape
    if x.stride(-1) != 1:
        x = x.contiguous()
    d_out, weights = d_out.contiguous(), [w.contiguous() for w in weights]
    d_x = [x.new_empty(x.shape)] if need_x else []
    dz, d_weights, d_biases = [], [], []
    if need_weights:
        dz = [torch.empty_like(h) for h in outputs[:-1]]
        d_weights = [torch.empty_like(w) for w in weights]
        d_biases = [w.new_empty(ensemble, 1, w.shape[2]) for w in weights]
    native.ensemble_mlp_bwd(
        ensemble=ensemble,
        rows=rows,
        sizes=[inputs, *(w.shape[2] for w in weights)],
        d_out=address(d_out),
        x=address(x),
        stride_xe=x.stride(0),
        stride_xm=x.stride(1),
        weights=addresses(weights),
        outputs=addresses(outputs),
        slopes=addresses(slopes),
        dz=addresses(dz),
        d_x=address(d_x[0]) if need_x else 0,
        d_weights=addresses(d_weights),
        d_biases=addresses(d_biases),
        swish=activation == "swish",
        bf16=precision == "bf16",
        threads=torch.get_num_threads(),
    )
    return d_x, d_weights, d_biases


implement("native", "ensemble_mlp_fwd", ensemble_mlp_fwd)
implement("native", "ensemble_mlp_bwd", ensemble_mlp_bwd)
