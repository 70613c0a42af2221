"""Public operation `ensemble_mlp`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...backend import active
from ...checks import require_like, require_shape
from ...library import call, define
from .reference import ACTIVATIONS, ensemble_mlp_reference


def ensemble_mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    members: Tensor | None = None,
) -> Tensor:
    """E stacked networks: linear layers with an activation between them, none after the last.

    One operation serves the dynamics ensemble, the twin critics (E = 2) and the actor (E = 1).

    Args:
        x: [E, B, I], a batch for each member.
        weights: per layer [E, inputs, outputs], the first with I inputs.
        biases: per layer [E, 1, outputs].
        activation: "swish" or "relu".
        members: [E] int64, which networks to use, of as many as the weights hold; all if absent.
    Returns:
        [E, B, outputs of the last layer].
    Gradients: x, weights, biases (float32 on a compiled backend).
    Backends: reference, native, triton.
    Raises:
        ValueError: shapes, dtypes, devices or activation do not fit.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, found {activation!r}")
    if len(weights) != len(biases) or not weights:
        raise ValueError(
            f"expected as many biases as weights, found {len(biases)} and {len(weights)}"
        )
    if x.dim() != 3:
        raise ValueError(f"x: expected shape [E, B, I], found {tuple(x.shape)}")
    networks, inputs = weights[0].shape[0] if members is not None else x.shape[0], x.shape[2]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs = weight.shape[-1]
        require_shape(f"weights[{layer}]", weight, (networks, inputs, outputs))
        require_shape(f"biases[{layer}]", bias, (networks, 1, outputs))
        require_like(f"weights[{layer}]", weight, x.dtype, x.device)
        require_like(f"biases[{layer}]", bias, x.dtype, x.device)
        inputs = outputs
    if members is not None:
        require_shape("members", members, (x.shape[0],))
        require_like("members", members, torch.int64, x.device)
    backend, precision, _ = active()
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights, *biases))
    if members is not None and (backend == "reference" or learns):
        weights = [w.index_select(0, members) for w in weights]
        biases = [b.index_select(0, members) for b in biases]
        members = None
    if backend == "reference":
        return ensemble_mlp_reference(x, weights, biases, activation)
    require_like("x", x, torch.float32, x.device)
    if learns:
        parameters = (*weights, *biases)
        return _EnsembleMLP.apply(x, activation, backend, precision, *parameters)
    outputs, _ = call(
        backend,
        "ensemble_mlp_fwd",
        x,
        list(weights),
        list(biases),
        members,
        activation,
        precision,
        False,
    )
    return outputs[-1]


class _EnsembleMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, backend: str, precision: str, *parameters: Tensor
    ) -> Tensor:
        layers = len(parameters) // 2
        weights, biases = list(parameters[:layers]), list(parameters[layers:])
        outputs, pre = call(
            backend, "ensemble_mlp_fwd", x, weights, biases, None, activation, precision, True
        )
        ctx.save_for_backward(x, *weights, *outputs, *pre)
        ctx.settings = (layers, activation, backend, precision)
        return outputs[-1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        layers, activation, backend, precision = ctx.settings
        x, *saved = ctx.saved_tensors
        weights, outputs, pre = saved[:layers], saved[layers : 2 * layers], saved[2 * layers :]
        need_x, need_weights = ctx.needs_input_grad[0], any(ctx.needs_input_grad[4:])
        d_x, d_weights, d_biases = call(
            backend,
            "ensemble_mlp_bwd",
            d_out,
            x,
            weights,
            outputs,
            pre,
            activation,
            precision,
            need_x,
            need_weights,
        )
        none = [None] * layers
        return (
            d_x[0] if need_x else None,
            None,
            None,
            None,
            *(d_weights or none),
            *(d_biases or none),
        )


def native_hidden(x: Tensor, columns: int, precision: str) -> Tensor:
    """Memory for a hidden layer of the native backend, for x [E, B, I].

    [E, B, columns] float32; in bf16 [E, B, W] int32, two numbers in each. W is ceil(columns / 2)
    up to whole tiles of 16, whether the instruction set has tiles or not.
    """
    if precision == "bf16":
        return x.new_empty(*x.shape[:2], 16 * -(-columns // 32), dtype=torch.int32)
    return x.new_empty(*x.shape[:2], columns)


def _fake_fwd(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    members: Tensor | None,
    activation: str,
    precision: str,
    save: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    outputs = [x.new_empty(x.shape[0], x.shape[1], w.shape[2]) for w in weights]
    pre = [torch.empty_like(h) for h in outputs[:-1]] if save and activation == "swish" else []
    return (outputs if save else outputs[-1:]), pre


def _native_fake_fwd(
    x: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    members: Tensor | None,
    activation: str,
    precision: str,
    save: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    *sizes, last = (w.shape[2] for w in weights)
    hidden = [native_hidden(x, n, precision) for n in sizes] if save else []
    slopes = [torch.empty_like(h) for h in hidden] if activation == "swish" else []
    return [*hidden, x.new_empty(*x.shape[:2], last)], slopes


def _fake_bwd(
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
    d_x = [x.new_empty(x.shape)] if need_x else []
    if not need_weights:
        return d_x, [], []
    d_biases = [w.new_empty(w.shape[0], 1, w.shape[2]) for w in weights]
    return d_x, [w.new_empty(w.shape) for w in weights], d_biases


define(
    "ensemble_mlp_fwd",
    "(Tensor x, Tensor[] weights, Tensor[] biases, Tensor? members, str activation, "
    "str precision, bool save) -> (Tensor[] outputs, Tensor[] pre)",
    _fake_fwd,
    native_fake=_native_fake_fwd,
)
define(
    "ensemble_mlp_bwd",
    "(Tensor d_out, Tensor x, Tensor[] weights, Tensor[] outputs, Tensor[] pre, str activation, "
    "str precision, bool need_x, bool need_weights) "
    "-> (Tensor[] d_x, Tensor[] d_weights, Tensor[] d_biases)",
    _fake_bwd,
)
