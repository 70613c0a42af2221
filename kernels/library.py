"""Compiled implementations as PyTorch operators `rmbpo_fast::<backend>_<op>`.

An operator's name carries its backend, because the backend is chosen at start and not by where a
tensor lies: Triton's interpreter runs GPU kernels on CPU tensors.
"""

from collections.abc import Callable
from typing import Any

import torch

COMPILED = ("native", "triton")

_library = torch.library.Library("rmbpo_fast", "FRAGMENT")


def define(
    name: str,
    schema: str,
    fake: Callable[..., Any],
    native_fake: Callable[..., Any] | None = None,
) -> None:
    """Declares an operator for every compiled backend.

    Args:
        name: of the operation, without backend.
        schema: "(Tensor x, ...) -> ...".
        fake: shapes of the results, for tracing.
        native_fake: the same of the native backend, where it keeps its numbers in another way.
    """
    fakes = dict.fromkeys(COMPILED, fake)
    fakes["native"] = native_fake or fake
    for backend, shapes in fakes.items():
        _library.define(f"{backend}_{name}{schema}")
        torch.library.register_fake(f"rmbpo_fast::{backend}_{name}", shapes, lib=_library)


def implement(backend: str, name: str, function: Callable[..., Any]) -> None:
    """Gives a declared operator its body."""
    _library.impl(f"{backend}_{name}", function, "CompositeExplicitAutograd")


def call(backend: str, name: str, *arguments: Any) -> Any:
    """Runs `rmbpo_fast::<backend>_<name>`."""
    return getattr(torch.ops.rmbpo_fast, f"{backend}_{name}")(*arguments)
