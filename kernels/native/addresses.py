"""Tensors as the native library takes them: addresses of float32 numbers on the CPU.

The library's functions take every argument by its name: two addresses that change places would
corrupt memory, and no type could tell.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..backend import native
from ..checks import require_like
from ..layers import Layers

if TYPE_CHECKING:
    from ..ops.adam.op import AdamState

CPU = torch.device("cpu")


def require_native(name: str, tensor: Tensor) -> None:
    """Raises ValueError unless the library can take a tensor's numbers: float32 on the CPU."""
    require_like(name, tensor, torch.float32, CPU)


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers begin. Raises ValueError unless it is on the CPU."""
    if not tensor.is_cpu:
        raise ValueError(f"native kernels: expected a tensor on cpu, found {tensor.device}")
    return tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Where each tensor's numbers begin; the caller knows that they are on the CPU."""
    return [t.data_ptr() for t in tensors]


def network(layers: Layers) -> Any:
    """Stacked networks: sizes of their layers, and addresses."""
    return native.Network(
        sizes=layers.sizes(), weights=addresses(layers.weights), biases=addresses(layers.biases)
    )


def optimizer(state: "AdamState") -> Any:
    """An optimiser: sizes and addresses of its tensors, and its settings."""
    return native.Optimizer(
        sizes=[p.numel() for p in state.params],
        params=addresses(state.params),
        exp_avgs=addresses(state.exp_avgs),
        exp_avg_sqs=addresses(state.exp_avg_sqs),
        steps=addresses(state.steps),
        weight_decays=state.weight_decays,
        lr=state.lr,
        beta1=state.beta1,
        beta2=state.beta2,
        eps=state.eps,
    )


__all__ = ["address", "addresses", "native", "network", "optimizer", "require_native"]
