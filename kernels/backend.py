"""Which implementation of the operations runs: chosen once, printed, recorded with every result."""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

import torch

try:
    import _rmbpo_fast_native as native
except ModuleNotFoundError:  # installed with `-C wheel.cmake=false`, or not installed at all
    native = None

T = TypeVar("T")
BACKENDS = ("reference", "native", "triton")
PRECISIONS = ("fp32", "tf32", "bf16")
# instruction sets with bf16 products, by `native.cpu_isa()`; elsewhere float32 is always faster
_WITH_BF16 = ("avx512bf16", "amx")
# of freed memory, which new tensors then take without page faults
_KEPT_BYTES = 1 << 30
_MATMUL = {"fp32": "highest", "tf32": "high", "bf16": "medium"}
OPS = (
    "adam",
    "ensemble_mlp",
    "gaussian_kl",
    "gaussian_nll",
    "sample_transition",
    "squashed_gaussian",
)
# the module of each operation that registers the backend's bodies
_BODIES = {"native": "cpu", "triton": "gpu"}


class Backend(NamedTuple):
    """The choice of this process.

    Attributes:
        name: one of `BACKENDS`.
        precision: of matrix products. fp32: as exact as float32 (Triton: three TF32 products,
            about 2^-21); tf32: operands of 11 bits; bf16: operands of 8 bits. Sums are float32.
        fuse: torch.compile fuses what lies between the operations of a loss: fewer and larger
            launches on a GPU. On a CPU it gains nothing (bench/RESULTS.md).
    """

    name: str
    precision: str = "fp32"
    fuse: bool = False

    def __str__(self) -> str:
        return f"{self.name} kernels in {self.precision}"


_active = Backend("reference")


def active() -> Backend:
    """What the operations use now."""
    return _active


def describe() -> str:
    """What the operations use now, for people: `native kernels in fp32`."""
    return str(_active)


def fused(function: Callable[..., T]) -> Callable[..., T]:
    """A loss as torch.compile makes it where the backend says so, else as it is."""
    return _compiled(function) if _active.fuse else function


@cache
def _compiled(function: Callable[..., T]) -> Callable[..., T]:
    return torch.compile(function, fullgraph=True)


def use(name: str, precision: str = "fp32", fuse: bool = False) -> None:
    """Makes a backend the one of this process. PyTorch's own products take the precision too.

    Raises:
        ValueError: no such backend or precision, or the backend can't do the precision.
    """
    global _active
    if name not in BACKENDS:
        raise ValueError(f"kernels: expected one of {BACKENDS}, found {name!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {PRECISIONS}, found {precision!r}")
    if name == "native":
        if native is None:
            raise ValueError("kernels: the native library isn't installed")
        if precision == "tf32":
            raise ValueError("kernels: native has precisions fp32 and bf16, found 'tf32'")
        native.keep_freed_memory(_KEPT_BYTES)
    if name in _BODIES:
        for op in OPS:
            importlib.import_module(f".ops.{op}.{_BODIES[name]}", __package__)
    _active = Backend(name, precision, fuse)
    torch.set_float32_matmul_precision(_MATMUL[precision])


@contextmanager
def using(name: str, precision: str = "fp32", fuse: bool = False) -> Iterator[None]:
    """`use` for a block of code."""
    before = _active
    use(name, precision, fuse)
    try:
        yield
    finally:
        use(*before)


def interpreting() -> bool:
    """Whether Triton's interpreter runs the kernels, on any device, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def choose_backend(
    requested: str,
    device: torch.device,
    precision: str = "fp32",
    compiled: bool = True,
    before: Mapping[str, Any] | None = None,
) -> dict[str, str | int]:
    """Chooses and activates the backend of this run.

    Args:
        requested: "auto" or a name in `BACKENDS`; a name is never replaced by another. auto takes
            reference without `compiled`; with it triton on a GPU where Triton is installed, native
            on a CPU where the native library is and the precision isn't tf32, and reference
            otherwise.
        device: where the tensors live.
        precision: see `Backend`; auto is tf32 for Triton's kernels, the faster one of fp32 and
            bf16 for native kernels (measured where the processor has bf16 products), else fp32.
        compiled: whether auto may take compiled kernels.
        before: what this function returned when the run began: auto keeps its precision where the
            backend is the same one.
    Returns:
        The facts that belong beside any figure: backend, precision, native library, instruction
        set, versions, threads, device name.
    Raises:
        ValueError: no such backend, or it can't run on this device.
    """
    name = requested
    if requested == "auto":
        name = "reference"
        if compiled and device.type == "cuda" and find_spec("triton"):
            name = "triton"
        elif compiled and device.type == "cpu" and native is not None and precision != "tf32":
            name = "native"
    if precision == "auto" and before is not None and before.get("backend") == name:
        precision = before["precision"]
    if precision == "auto":
        precision = "tf32" if name == "triton" else "fp32"
        if name == "native" and native is not None and native.cpu_isa() in _WITH_BF16:
            precision = importlib.import_module(".native.precision", __package__).faster_precision()
    if name == "native" and device.type != "cpu":
        raise ValueError(f"kernels: native needs the CPU, and the device is {device}")
    if name == "triton":
        if not find_spec("triton"):
            raise ValueError("kernels: triton isn't installed")
        if device.type != "cuda" and not interpreting():
            raise ValueError(
                "kernels: triton needs a GPU, and the device is the CPU (TRITON_INTERPRET=1 runs "
                "its kernels there, slowly, for tests)"
            )
    use(name, precision, fuse=compiled and device.type == "cuda")
    return {
        "backend": name,
        "precision": precision,
        "native": native.__version__ if native is not None else "not installed",
        "cpu_isa": native.cpu_isa() if native is not None else "unknown",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
