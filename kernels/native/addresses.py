"""Tensors as the native library takes them: addresses of float32 numbers on the CPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..backend import native
from ..layers import Layers

if TYPE_CHECKING:
    from ..ops.adam.op import AdamState


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers begin. Raises ValueError unless it is on the CPU."""
    if not tensor.is_cpu:
        raise ValueError(f"native kernels: expected a tensor on cpu, found {tensor.device}")
    return tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Of tensors on the device of one whose `address` was asked for."""
    return [t.data_ptr() for t in tensors]


def network(layers: Layers) -> tuple[Any, ...]:
    """Stacked networks: sizes of their layers, and addresses."""
    return layers.sizes(), addresses(layers.weights), addresses(layers.biases)


def optimizer(state: "AdamState") -> tuple[Any, ...]:
    """An optimiser: sizes and addresses of its tensors, and its settings."""
    tensors = (state.params, state.exp_avgs, state.exp_avg_sqs, state.steps)
    numbers = (state.lr, state.beta1, state.beta2, state.eps)
    sizes = [p.numel() for p in state.params]
    return sizes, *map(addresses, tensors), state.weight_decays, numbers


__all__ = ["address", "addresses", "native", "network", "optimizer"]
