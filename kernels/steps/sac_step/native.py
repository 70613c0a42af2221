"""Native: packed rows, and addresses for the library."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...backend import active
from ...native.addresses import addresses, native, network, optimizer

if TYPE_CHECKING:
    from .op import SacBatch, SacNetworks, SacOptimizers, SacSettings


def sac_step_native_(
    batch: "SacBatch",
    networks: "SacNetworks",
    log_temperature: Tensor,
    optimizers: "SacOptimizers",
    settings: "SacSettings",
) -> Tensor:
    """See `sac_step_`."""
    (rows, size), actions = batch.obs.shape, batch.action.shape[-1]
    *columns, critic_noise, actor_noise, entropy_obs, entropy_noise = batch
    given = (critic_noise, actor_noise, entropy_obs, entropy_noise)
    draws = [t.contiguous() for t in given if t is not None]
    stride = batch.obs.stride(0)
    if any(t.stride(0) != stride or (t.dim() == 2 and t.stride(1) != 1) for t in columns):
        # not the columns of packed rows
        packed = torch.cat([t.reshape(rows, -1) for t in columns], dim=1)
        columns = list(packed.split([size, actions, 1, size, 1], dim=1))
        stride = packed.shape[1]
    metrics = batch.obs.new_empty(5)
    native.sac_step(
        [rows, size, actions, stride],
        [*addresses([*columns, *draws]), *[0] * (4 - len(draws))],
        settings,
        *map(network, networks),
        log_temperature.data_ptr(),
        *map(optimizer, optimizers),
        metrics.data_ptr(),
        active().precision == "bf16",
        torch.get_num_threads(),
    )
    return metrics
