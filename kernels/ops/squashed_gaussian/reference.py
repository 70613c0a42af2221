"""A Gaussian squashed into the unit box by tanh: sample and log-density."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def squashed_gaussian_reference(
    head: Tensor, noise: Tensor, log_std_min: float, log_std_max: float
) -> tuple[Tensor, Tensor]:
    mean, log_std = head.chunk(2, dim=-1)
    log_std = log_std.clamp(log_std_min, log_std_max)
    pre_tanh = mean + torch.exp(log_std) * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), exact for large |u| where the plain form gives log(0)
    log_slope = 2.0 * (math.log(2.0) - pre_tanh - F.softplus(-2.0 * pre_tanh))
    return torch.tanh(pre_tanh), (log_normal - log_slope).sum(-1)
