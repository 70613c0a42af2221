"""Public operation `adam_step`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backend import active
from .reference import adam_step_reference


def adam_step(
    optimizer: torch.optim.Adam, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> None:
    """One step of Adam with the given gradients, in place.

    Parameters and state stay PyTorch's, so that checkpoints hold the same whatever the backend; no
    operator of PyTorch's dispatcher, because nothing traces an optimiser.

    Source: Adam (arXiv 1412.6980), with L2 `weight_decay` added to the gradient.

    Args:
        optimizer: plain Adam (no amsgrad, maximize or decoupled weight decay).
        parameters: those to be changed; the optimiser's others stay.
        gradients: of each, same shape.
    Backends: reference, native; triton takes reference.
    Raises:
        ValueError: shapes or dtypes differ, or the optimiser is not plain.
    """
    if len(parameters) != len(gradients):
        raise ValueError(
            f"expected as many gradients as parameters, found {len(gradients)} and "
            f"{len(parameters)}"
        )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.shape != gradient.shape or parameter.dtype != gradient.dtype:
            raise ValueError(
                f"gradient: expected {tuple(parameter.shape)} of {parameter.dtype}, found "
                f"{tuple(gradient.shape)} of {gradient.dtype}"
            )
    if active().name != "native":
        return adam_step_reference(optimizer, parameters, gradients)
    from .cpu import adam_step_native

    return adam_step_native(optimizer, parameters, gradients)
