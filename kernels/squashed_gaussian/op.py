"""Public operation `squashed_gaussian`."""

from torch import Tensor

from ..checks import require_alike
from .reference import squashed_gaussian_reference


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """action = tanh(mean + exp(log_std) * noise), and its log-density in the unit box.

    Source: SAC (arXiv 1812.05905), appendix C.

    Args:
        mean, log_std: [..., A].
        noise: [..., A], standard normal, drawn by the caller.
    Returns:
        action [..., A] in [-1, 1]; log-density [...] in nats.
    Gradients: mean, log_std.   Backends: reference.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_alike(mean=mean, log_std=log_std, noise=noise)
    return squashed_gaussian_reference(mean, log_std, noise)
