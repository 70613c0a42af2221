"""One step of Adam: PyTorch's own."""

from collections.abc import Sequence

import torch
from torch import Tensor


def adam_step_reference(
    optimizer: torch.optim.Adam, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> None:
    optimizer.zero_grad()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
