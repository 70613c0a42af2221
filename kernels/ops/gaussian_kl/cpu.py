"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, addresses, native


def gaussian_kl_score(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    sample: Tensor,
    advantage: Tensor,
    eta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss [], and of it d_mean_g, d_logvar_g [E, B, D])."""
    ensemble, rows, size = mean_g.shape
    tensors = (mean_g, logvar_g, mean_p, logvar_p, sample, advantage, eta)
    inputs = [t.contiguous() for t in tensors]
    loss = mean_g.new_empty(())
    d_mean, d_logvar = mean_g.new_empty(mean_g.shape), mean_g.new_empty(mean_g.shape)
    native.gaussian_kl_score(
        ensemble,
        rows,
        size,
        addresses(inputs),
        *(address(t) for t in (loss, d_mean, d_logvar)),
        torch.get_num_threads(),
    )
    return loss, d_mean, d_logvar


implement("native", "gaussian_kl_score", gaussian_kl_score)
