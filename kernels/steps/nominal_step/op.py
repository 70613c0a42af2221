"""Public operation `nominal_step_`."""

from torch import Tensor

from ...backend import active
from ...checks import require_like, require_shape
from ...layers import Layers
from ...ops.adam.op import AdamState
from .native import nominal_step_native_
from .reference import nominal_step_reference_


def nominal_step_(
    inputs: Tensor,
    targets: Tensor,
    layers: Layers,
    min_logvar: Tensor,
    max_logvar: Tensor,
    bound_pull: float,
    optimizer: AdamState,
) -> Tensor:
    """One gradient step of the dynamics ensemble on its likelihood loss, in place.

    Source: MBPO (arXiv 1906.08253) / PETS (arXiv 1805.12114); `gaussian_nll` summed over members,
    plus bound_pull times sum(max_logvar) - sum(min_logvar). Hidden layers are swish.

    Args:
        inputs: [E, B, I]. targets: [E, B, D].
        layers: I to 2 D. min_logvar, max_logvar: [D].
        optimizer: of the weights, the biases, max_logvar and min_logvar, in this order.
    Returns:
        [] the loss before the step.
    Backends: native; the others take the reference, on their own operations.
    Raises:
        ValueError: shapes, dtypes or devices differ, or the optimiser is of other tensors. Nothing
            is written then.
    """
    members, rows, size = targets.shape
    require_shape("inputs", inputs, (members, rows, inputs.shape[-1]))
    bounds = {"min_logvar": min_logvar, "max_logvar": max_logvar}
    for name, tensor in bounds.items():
        require_shape(name, tensor, (size,))
    for name, tensor in {"inputs": inputs, "targets": targets, **bounds}.items():
        require_like(name, tensor, inputs.dtype, inputs.device)
    layers.require("layers", [inputs.shape[-1], *layers.sizes()[1:-1], 2 * size], members, inputs)
    parameters = [*layers.weights, *layers.biases, max_logvar, min_logvar]
    optimizer.require("optimizer", parameters)
    step = nominal_step_native_ if active().name == "native" else nominal_step_reference_
    return step(inputs, targets, layers, min_logvar, max_logvar, bound_pull, optimizer)
