"""Public operations `gaussian_kl` and `gaussian_log_prob`: the adversary's two terms."""

from torch import Tensor

from ..checks import require_alike
from .reference import gaussian_kl_reference, gaussian_log_prob_reference


def gaussian_kl(mean_g: Tensor, logvar_g: Tensor, mean_p: Tensor, logvar_p: Tensor) -> Tensor:
    """KL(g || p) of diagonal Gaussians, summed over the last axis.

    Source: RMBPO (arXiv 2406.09976), the constraint set of the auxiliary model.

    Args:
        mean_g, logvar_g: [..., D], adversary g.
        mean_p, logvar_p: [..., D], nominal model p, same units.
    Returns:
        [...], nats, >= 0.
    Gradients: all four inputs.   Backends: reference.
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
    Gradients: all three inputs.   Backends: reference.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_alike(x=x, mean=mean, logvar=logvar)
    return gaussian_log_prob_reference(x, mean, logvar)
