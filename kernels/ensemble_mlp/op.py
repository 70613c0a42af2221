"""Public operation `ensemble_mlp`."""

from collections.abc import Sequence

from torch import Tensor

from ..checks import require_like, require_shape
from .reference import ACTIVATIONS, ensemble_mlp_reference


def ensemble_mlp(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> Tensor:
    """E stacked networks: linear layers with an activation between them, none after the last.

    One operation serves the dynamics ensemble, the twin critics (E = 2) and the actor (E = 1).

    Args:
        x: [E, B, I], a batch for each member.
        weights: per layer [E, inputs, outputs], the first with I inputs.
        biases: per layer [E, 1, outputs].
        activation: "swish" or "relu".
    Returns:
        [E, B, outputs of the last layer].
    Gradients: x, weights, biases.   Backends: reference.
    Raises:
        ValueError: shapes, dtypes, devices or activation do not fit.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {list(ACTIVATIONS)}, found {activation!r}")
    if len(weights) != len(biases) or not weights:
        raise ValueError(
            f"expected as many biases as weights, found {len(biases)} and {len(weights)}"
        )
    if x.dim() != 3:
        raise ValueError(f"x: expected shape [E, B, I], found {tuple(x.shape)}")
    members, inputs = x.shape[0], x.shape[2]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs = weight.shape[-1]
        require_shape(f"weights[{layer}]", weight, (members, inputs, outputs))
        require_shape(f"biases[{layer}]", bias, (members, 1, outputs))
        require_like(f"weights[{layer}]", weight, x.dtype, x.device)
        require_like(f"biases[{layer}]", bias, x.dtype, x.device)
        inputs = outputs
    return ensemble_mlp_reference(x, weights, biases, activation)
