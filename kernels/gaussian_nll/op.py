"""Public operations `bound_logvar` and `gaussian_nll`."""

from torch import Tensor

from ..checks import require_alike, require_shape
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
    Gradients: all three inputs.   Backends: reference.
    Raises:
        ValueError: the bounds are not [D].
    """
    require_shape("min_logvar", min_logvar, (raw.shape[-1],))
    require_shape("max_logvar", max_logvar, (raw.shape[-1],))
    return bound_logvar_reference(raw, min_logvar, max_logvar)


def gaussian_nll(mean: Tensor, logvar: Tensor, target: Tensor) -> Tensor:
    """Per member: mean over (batch, D) of err^2 * exp(-logvar) + logvar.

    Source: MBPO (arXiv 1906.08253); twice the negative log-likelihood, without its constant.

    Args:
        mean, logvar, target: [E, B, D].
    Returns:
        [E].
    Gradients: all three inputs.   Backends: reference.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_alike(mean=mean, logvar=logvar, target=target)
    return gaussian_nll_reference(mean, logvar, target)
