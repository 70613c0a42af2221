"""Native: addresses for the library."""

import torch
from torch import Tensor

from ...backend import active
from ...layers import Layers
from ...native.addresses import native, network, optimizer, require_native
from ...ops.adam.op import AdamState


def nominal_step_native_(
    inputs: Tensor,
    targets: Tensor,
    layers: Layers,
    min_logvar: Tensor,
    max_logvar: Tensor,
    bound_pull: float,
    adam: AdamState,
) -> Tensor:
    """See `nominal_step_`."""
    require_native("inputs", inputs)
    inputs, targets = inputs.contiguous(), targets.contiguous()
    members, rows, _ = inputs.shape
    loss = inputs.new_empty(())
    native.nominal_step(
        members=members,
        rows=rows,
        inputs=inputs.data_ptr(),
        targets=targets.data_ptr(),
        layers=network(layers),
        min_logvar=min_logvar.data_ptr(),
        max_logvar=max_logvar.data_ptr(),
        bound_pull=bound_pull,
        adam=optimizer(adam),
        loss=loss.data_ptr(),
        bf16=active().precision == "bf16",
        threads=torch.get_num_threads(),
    )
    return loss
