"""Public operations `bound_logvar` and `gaussian_nll`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...backend import active
from ...checks import require_like, require_shape
from ...library import call, define
from .reference import bound_logvar_reference, gaussian_nll_reference


def bound_logvar(raw: Tensor, min_logvar: Tensor, max_logvar: Tensor) -> Tensor:
    """Log-variance held between learned bounds by two softplus.

    Source: PETS (arXiv 1805.12114), appendix A.1, as MBPO uses it. The lower softplus comes last,
    so the result can exceed max_logvar by softplus(min - max), 2.8e-5 at the first bounds.

    Args:
        raw: [..., D], the network's output.
        min_logvar, max_logvar: [D].
    Returns:
        [..., D].
    Gradients: all three inputs.   Backends: reference, whatever is chosen.
    Raises:
        ValueError: the bounds are not [D].
    """
    require_shape("min_logvar", min_logvar, (raw.shape[-1],))
    require_shape("max_logvar", max_logvar, (raw.shape[-1],))
    return bound_logvar_reference(raw, min_logvar, max_logvar)


def gaussian_nll(head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor) -> Tensor:
    """Per member: mean over (batch, D) of err^2 * exp(-logvar) + logvar.

    Source: MBPO (arXiv 1906.08253); twice the negative log-likelihood, without its constant.

    Args:
        head: [E, B, 2 D], the network's output: mean, then log-variance before its bounds.
        target: [E, B, D].
        min_logvar, max_logvar: [D], see `bound_logvar`.
    Returns:
        [E].
    Gradients: head, min_logvar, max_logvar.   Backends: reference, native, triton.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_shape("head", head, (*target.shape[:-1], 2 * target.shape[-1]))
    for name, tensor in (("min_logvar", min_logvar), ("max_logvar", max_logvar)):
        require_shape(name, tensor, (target.shape[-1],))
        require_like(name, tensor, head.dtype, head.device)
    require_like("target", target, head.dtype, head.device)
    backend = active().name
    if backend == "reference":
        return gaussian_nll_reference(head, target, min_logvar, max_logvar)
    require_like("head", head, torch.float32, head.device)
    return _GaussianNLL.apply(head, target, min_logvar, max_logvar, backend)


class _GaussianNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        head: Tensor,
        target: Tensor,
        min_logvar: Tensor,
        max_logvar: Tensor,
        backend: str,
    ) -> Tensor:
        loss, *gradients = call(backend, "gaussian_nll", head, target, min_logvar, max_logvar)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_head, d_min, d_max = ctx.saved_tensors  # of each member's loss
        return d_head * d_loss[:, None, None], None, d_loss @ d_min, d_loss @ d_max, None


define(
    "gaussian_nll",
    "(Tensor head, Tensor target, Tensor min_logvar, Tensor max_logvar) "
    "-> (Tensor loss, Tensor d_head, Tensor d_min, Tensor d_max)",
    lambda head, target, low, high: (
        head.new_empty(head.shape[0]),
        head.new_empty(head.shape),
        head.new_empty(head.shape[0], target.shape[-1]),
        head.new_empty(head.shape[0], target.shape[-1]),
    ),
)
