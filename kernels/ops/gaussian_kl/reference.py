"""Diagonal Gaussians: KL divergence and log-density. The std is exp(logvar / 2)."""

import math

import torch
from torch import Tensor


def gaussian_kl_reference(
    mean_g: Tensor, logvar_g: Tensor, mean_p: Tensor, logvar_p: Tensor
) -> Tensor:
    shift2 = (mean_g - mean_p).square() * torch.exp(-logvar_p)
    change = logvar_g - logvar_p
    # expm1: exp(l) - 1 - l loses all digits where the adversary starts, at l = 0
    return 0.5 * (torch.expm1(change) - change + shift2).sum(-1)


def gaussian_log_prob_reference(x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    err2 = (x - mean).square() * torch.exp(-logvar)
    return -0.5 * (err2 + logvar + math.log(2 * math.pi)).sum(-1)


def gaussian_kl_score_reference(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    sample: Tensor,
    advantage: Tensor,
    eta: Tensor,
) -> Tensor:
    kl = gaussian_kl_reference(mean_g, logvar_g, mean_p, logvar_p)
    score = gaussian_log_prob_reference(sample, mean_g, logvar_g) * advantage
    return (kl + eta * score).mean(-1).sum()
