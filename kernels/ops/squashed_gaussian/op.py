"""Public operation `squashed_gaussian`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...backend import active
from ...checks import require_like, require_shape
from ...library import call, define
from .reference import squashed_gaussian_reference


def squashed_gaussian(
    head: Tensor, noise: Tensor, log_std_min: float, log_std_max: float
) -> tuple[Tensor, Tensor]:
    """action = tanh(mean + exp(log_std) * noise), and its log-density in the unit box.

    Source: SAC (arXiv 1812.05905), appendix C.

    Args:
        head: [..., 2 A], the policy network's output: mean, then log-std before its clamp.
        noise: [..., A], standard normal, drawn by the caller.
        log_std_min, log_std_max: the log-std is clamped to them.
    Returns:
        action [..., A] in [-1, 1]; log-density [...] in nats.
    Gradients: head.   Backends: reference, native, triton.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_shape("head", head, (*noise.shape[:-1], 2 * noise.shape[-1]))
    require_like("noise", noise, head.dtype, head.device)
    backend = active().name
    if backend == "reference":
        return squashed_gaussian_reference(head, noise, log_std_min, log_std_max)
    require_like("head", head, torch.float32, head.device)
    return _SquashedGaussian.apply(head, noise, log_std_min, log_std_max, backend)


class _SquashedGaussian(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        head: Tensor,
        noise: Tensor,
        log_std_min: float,
        log_std_max: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(head, noise)
        ctx.settings = (log_std_min, log_std_max, backend)
        return call(backend, "squashed_gaussian_fwd", head, noise, log_std_min, log_std_max)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_action: Tensor, d_log_prob: Tensor) -> tuple[Tensor | None, ...]:
        head, noise = ctx.saved_tensors
        low, high, backend = ctx.settings
        d_head = call(
            backend, "squashed_gaussian_bwd", d_action, d_log_prob, head, noise, low, high
        )
        return d_head, None, None, None, None


define(
    "squashed_gaussian_fwd",
    "(Tensor head, Tensor noise, float log_std_min, float log_std_max) -> (Tensor, Tensor)",
    lambda head, noise, low, high: (
        noise.new_empty(noise.shape),
        noise.new_empty(noise.shape[:-1]),
    ),
)
define(
    "squashed_gaussian_bwd",
    "(Tensor d_action, Tensor d_log_prob, Tensor head, Tensor noise, float log_std_min, "
    "float log_std_max) -> Tensor",
    lambda d_action, d_log_prob, head, noise, low, high: head.new_empty(head.shape),
)
