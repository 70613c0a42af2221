"""Argument checks shared by the public operations."""

import torch
from torch import Tensor


def require_alike(**tensors: Tensor) -> None:
    """Raises ValueError unless all tensors share one shape, dtype and device."""
    (first, expected), *rest = tensors.items()
    for name, found in rest:
        for what in ("shape", "dtype", "device"):
            want, have = getattr(expected, what), getattr(found, what)
            if want != have:
                raise ValueError(f"{name}: expected {what} {want} as {first} has, found {have}")


def require_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raises ValueError unless `tensor` has the expected shape."""
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name}: expected shape {expected}, found {tuple(tensor.shape)}")


def require_int32(name: str, numbers: int) -> None:
    """Raises ValueError where a kernel's 32-bit offsets couldn't reach all of a tensor."""
    if numbers >= 2**31:
        raise ValueError(f"{name}: expected fewer than 2^31 numbers, found {numbers}")


def require_like(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError unless `tensor` has the expected dtype and device."""
    if tensor.dtype != dtype or tensor.device != device:
        raise ValueError(
            f"{name}: expected {dtype} on {device}, found {tensor.dtype} on {tensor.device}"
        )
