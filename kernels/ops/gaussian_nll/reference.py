"""The nominal model's likelihood loss and its soft log-variance bounds."""

import torch
import torch.nn.functional as F
from torch import Tensor


def bound_logvar_reference(raw: Tensor, min_logvar: Tensor, max_logvar: Tensor) -> Tensor:
    logvar = max_logvar - F.softplus(max_logvar - raw)
    return min_logvar + F.softplus(logvar - min_logvar)


def gaussian_nll_reference(
    head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor
) -> Tensor:
    mean, raw = head.chunk(2, dim=-1)
    logvar = bound_logvar_reference(raw, min_logvar, max_logvar)
    return ((target - mean).square() * torch.exp(-logvar) + logvar).mean(dim=(-2, -1))
