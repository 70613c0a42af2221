"""Tensors as the native library takes them: addresses of float32 numbers on the CPU."""

from collections.abc import Sequence

from torch import Tensor

from .backend import native


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers begin. Raises ValueError unless it is on the CPU."""
    if not tensor.is_cpu:
        raise ValueError(f"native kernels: expected a tensor on cpu, found {tensor.device}")
    return tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Of tensors on the device of one whose `address` was asked for."""
    return [t.data_ptr() for t in tensors]


def require_fp32(precision: str) -> None:
    """Raises ValueError for products of another precision, which the library doesn't have."""
    if precision != "fp32":
        raise ValueError(f"native kernels: expected precision fp32, found {precision}")


__all__ = ["address", "addresses", "native", "require_fp32"]
