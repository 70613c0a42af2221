"""Native: packed rows, and addresses for the library."""

import torch
from torch import Tensor

from ...backend import active
from ...native.addresses import native, network, optimizer, require_native
from .arguments import SacBatch, SacMetrics, SacNetworks, SacOptimizers, SacSettings

_COLUMNS = ("obs", "action", "reward", "next_obs", "terminated")  # of packed rows
_DRAWS = ("critic_noise", "actor_noise", "entropy_obs", "entropy_noise")


def sac_step_native_(
    batch: SacBatch,
    networks: SacNetworks,
    log_temperature: Tensor,
    optimizers: SacOptimizers,
    settings: SacSettings,
) -> SacMetrics:
    """See `sac_step_`."""
    require_native("obs", batch.obs)
    (rows, size), actions = batch.obs.shape, batch.action.shape[-1]
    columns = {name: getattr(batch, name) for name in _COLUMNS}
    stride = batch.obs.stride(0)
    if any(t.stride(0) != stride or (t.dim() == 2 and t.stride(1) != 1) for t in columns.values()):
        # not the columns of packed rows
        packed = torch.cat([t.reshape(rows, -1) for t in columns.values()], dim=1)
        parts = packed.split([size, actions, 1, size, 1], dim=1)
        columns = dict(zip(_COLUMNS, parts, strict=True))
        stride = packed.shape[1]
    draws = {name: getattr(batch, name) for name in _DRAWS}
    draws = {name: None if t is None else t.contiguous() for name, t in draws.items()}
    metrics = batch.obs.new_empty(len(SacMetrics._fields))
    native.sac_step(
        rows=rows,
        obs_size=size,
        action_size=actions,
        stride=stride,
        **{name: t.data_ptr() for name, t in columns.items()},
        **{name: 0 if t is None else t.data_ptr() for name, t in draws.items()},
        **settings._asdict(),
        **{name: network(layers) for name, layers in networks._asdict().items()},
        log_temperature=log_temperature.data_ptr(),
        **{f"{name}_adam": optimizer(state) for name, state in optimizers._asdict().items()},
        metrics=metrics.data_ptr(),
        bf16=active().precision == "bf16",
        threads=torch.get_num_threads(),
    )
    return SacMetrics(*metrics.unbind())
