"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, native


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
    inputs = {
        "mean_g": mean_g.contiguous(),
        "logvar_g": logvar_g.contiguous(),
        "mean_p": mean_p.contiguous(),
        "logvar_p": logvar_p.contiguous(),
        "sample": sample.contiguous(),
        "advantage": advantage.contiguous(),
        "eta": eta,
    }
    loss = mean_g.new_empty(())
    d_mean, d_logvar = mean_g.new_empty(mean_g.shape), mean_g.new_empty(mean_g.shape)
    native.gaussian_kl_score(
        ensemble=ensemble,
        rows=rows,
        size=size,
        **{name: address(tensor) for name, tensor in inputs.items()},
        loss=address(loss),
        d_mean=address(d_mean),
        d_logvar=address(d_logvar),
        threads=torch.get_num_threads(),
    )
    return loss, d_mean, d_logvar


implement("native", "gaussian_kl_score", gaussian_kl_score)
