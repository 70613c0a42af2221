"""Correlated noise: p_theta's Gaussians, joined by a Gaussian copula.

Independent Gaussians can't say that one force moved all numbers. Here each number keeps its mean
and std, and one correlation matrix, the same in all states, joins them (ours).
"""

import torch
from torch import Tensor

# share of independent noise, which keeps the matrix invertible where a number follows from others
_INDEPENDENT = 1e-3


def normal_scores(errors: Tensor) -> Tensor:
    """Each column's ranks as quantiles of a standard normal. [N, D] -> [N, D].

    Ranks, because a few rows that no Gaussian explains (a cart at the end of its rail) would
    decide a plain correlation.
    """
    ranks = errors.argsort(0).argsort(0).to(errors.dtype)
    return torch.special.ndtri((ranks + 0.5) / len(errors))


def noise_factor(errors: Tensor) -> Tensor:
    """L with correlation L L^T: `noise @ L.T` of independent normals has the errors' correlation.

    Args:
        errors: [N, D], in units of the predicted std. A number whose error never varies is
            correlated with no other.
    Returns:
        [D, D] lower triangular, rows of length 1.
    """
    independent = torch.eye(errors.shape[1], device=errors.device, dtype=errors.dtype)
    # ranks of equal errors would be those of their rows
    varies = errors.amax(0) > errors.amin(0)
    scores = torch.where(varies, normal_scores(errors), 0.0)
    scale = torch.where(varies, scores.square().sum(0).rsqrt(), 0.0)
    correlation = scores.T @ scores * scale[:, None] * scale
    correlation = torch.where(independent > 0, independent, correlation)
    return torch.linalg.cholesky(torch.lerp(correlation, independent, _INDEPENDENT))
