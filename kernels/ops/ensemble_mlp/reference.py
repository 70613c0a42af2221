"""E fully connected networks of one shape, applied to E batches at once."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS = {"swish": F.silu, "relu": F.relu}


def ensemble_mlp_reference(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> Tensor:
    activate = ACTIVATIONS[activation]
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = torch.baddbmm(bias, x, weight)  # [E, B, layer outputs]
        if layer < last:
            x = activate(x)
    return x
