"""Public operations `gaussian_kl`, `gaussian_log_prob` and the adversary's loss of both."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...backend import active
from ...checks import require_alike, require_like, require_shape
from ...library import call, define
from .reference import (
    gaussian_kl_reference,
    gaussian_kl_score_reference,
    gaussian_log_prob_reference,
)


def gaussian_kl(mean_g: Tensor, logvar_g: Tensor, mean_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL(g || p) of diagonal Gaussians, summed over the last axis.

    Source: RMBPO (arXiv 2406.09976), the constraint set of the auxiliary model.

    Args:
        mean_g, logvar_g: [..., D], adversary g.
        mean_p, logvar_p: [..., D], nominal model p, same units.
    Returns:
        [...], nats, >= 0.
    Gradients: all four inputs.   Backends: reference, whatever is chosen.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_alike(mean_g=mean_g, logvar_g=logvar_g, mean_p=mean_p, logvar_p=logvar_p)
    return gaussian_kl_reference(mean_g, logvar_g, mean_p, logvar_p)


def gaussian_log_prob(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """log N(x; mean, exp(logvar)), summed over the last axis.

    Args:
        x, mean, logvar: [..., D].
    Returns:
        [...], nats.
    Gradients: all three inputs.   Backends: reference, whatever is chosen.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_alike(x=x, mean=mean, logvar=logvar)
    return gaussian_log_prob_reference(x, mean, logvar)


def gaussian_kl_score(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    sample: Tensor,
    advantage: Tensor,
    eta: Tensor,
) -> Tensor:
    """The adversary's loss, summed over members: mean_b KL(g || p) + eta mean_b [log g(x) A(x)].

    Source: RMBPO (arXiv 2406.09976), the auxiliary model's objective, score-function estimator.

    Args:
        mean_g, logvar_g: [E, B, D], adversary g.
        mean_p, logvar_p: [E, B, D], nominal model p, same units.
        sample: [E, B, D], x ~ g.
        advantage: [E, B], A(x).
        eta: [], weight of the value term.
    Returns:
        [].
    Gradients: mean_g, logvar_g; the others are constants.   Backends: reference, native, triton.
    Raises:
        ValueError: shapes, dtypes or devices differ, or a constant asks for a gradient.
    """
    require_alike(mean_g=mean_g, logvar_g=logvar_g, mean_p=mean_p, logvar_p=logvar_p, sample=sample)
    require_shape("advantage", advantage, tuple(mean_g.shape[:-1]))
    require_shape("eta", eta, ())
    constants = {
        "mean_p": mean_p,
        "logvar_p": logvar_p,
        "sample": sample,
        "advantage": advantage,
        "eta": eta,
    }
    for name, tensor in constants.items():
        require_like(name, tensor, mean_g.dtype, mean_g.device)
        if tensor.requires_grad:
            raise ValueError(
                f"{name}: expected a constant, found a tensor that requires a gradient"
            )
    backend = active().name
    if backend == "reference":
        return gaussian_kl_score_reference(mean_g, logvar_g, **constants)
    require_like("mean_g", mean_g, torch.float32, mean_g.device)
    return _GaussianKLScore.apply(backend, mean_g, logvar_g, *constants.values())


class _GaussianKLScore(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, backend: str, *tensors: Tensor) -> Tensor:
        loss, *gradients = call(backend, "gaussian_kl_score", *tensors)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        d_mean, d_logvar = ctx.saved_tensors
        return None, d_mean * d_loss, d_logvar * d_loss, *(None,) * 5


define(
    "gaussian_kl_score",
    "(Tensor mean_g, Tensor logvar_g, Tensor mean_p, Tensor logvar_p, Tensor sample, "
    "Tensor advantage, Tensor eta) -> (Tensor loss, Tensor d_mean, Tensor d_logvar)",
    lambda mean_g, logvar_g, mean_p, logvar_p, sample, advantage, eta: (
        mean_g.new_empty(()),
        mean_g.new_empty(mean_g.shape),
        mean_g.new_empty(mean_g.shape),
    ),
)
