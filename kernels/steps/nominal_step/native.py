"""Native: addresses for the library."""

import torch
from torch import Tensor

from ...backend import active
from ...layers import Layers
from ...native.addresses import native, network, optimizer
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
    inputs, targets = inputs.contiguous(), targets.contiguous()
    members, rows, _ = inputs.shape
    loss = inputs.new_empty(())
    native.nominal_step(
        members,
        rows,
        inputs.data_ptr(),
        targets.data_ptr(),
        network(layers),
        min_logvar.data_ptr(),
        max_logvar.data_ptr(),
        bound_pull,
        optimizer(adam),
        loss.data_ptr(),
        active().precision == "bf16",
        torch.get_num_threads(),
    )
    return loss
