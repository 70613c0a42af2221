"""Stacked networks as operations take them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

MOST_LAYERS = 16  # of a network that the native library takes a step of


class Layers(NamedTuple):
    """E stacked networks: per layer [E, inputs, outputs] and [E, 1, outputs]."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]

    def sizes(self) -> list[int]:
        """Inputs, hidden widths, outputs."""
        return [self.weights[0].shape[1], *(w.shape[2] for w in self.weights)]

    def require(self, name: str, sizes: list[int], members: int, like: Tensor) -> None:
        """Raises ValueError unless these are `members` networks of `sizes`, contiguous.

        Args:
            like: has the dtype and the device that are expected.
        """
        layers, dtype, device = len(sizes) - 1, like.dtype, like.device
        if not len(self.weights) == len(self.biases) == layers <= MOST_LAYERS:
            raise ValueError(
                f"{name}: expected {min(layers, MOST_LAYERS)} layers of weights and biases, found "
                f"{len(self.weights)} and {len(self.biases)}"
            )
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            inputs, outputs = sizes[layer], sizes[layer + 1]
            if weight.shape != (members, inputs, outputs) or bias.shape != (members, 1, outputs):
                raise ValueError(
                    f"{name}, layer {layer}: expected {(members, inputs, outputs)} and "
                    f"{(members, 1, outputs)}, found {tuple(weight.shape)} and {tuple(bias.shape)}"
                )
            for tensor in (weight, bias):
                alike = tensor.dtype == dtype and tensor.device == device
                if not alike or not tensor.is_contiguous():
                    raise ValueError(
                        f"{name}, layer {layer}: expected contiguous {dtype} on {device}, found "
                        f"{tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
                    )
