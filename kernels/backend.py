"""Which implementation of the operations runs: chosen once, printed, recorded with every result."""

import torch

try:
    import _rmbpo_fast_native as native
except ModuleNotFoundError:  # installed with `-C wheel.cmake=false`, or not installed at all
    native = None

BACKENDS = ("reference",)


def choose_backend(requested: str, device: torch.device) -> dict[str, str | int]:
    """The backend of this run, with the facts that belong beside any figure taken from it.

    Args:
        requested: "auto" or a name in `BACKENDS`; no other is ever taken in its place.
        device: where the tensors live.
    Returns:
        backend, native library, instruction set, torch version, threads, device name.
    Raises:
        ValueError: no such backend.
    """
    if requested not in ("auto", *BACKENDS):
        raise ValueError(f"kernels: expected auto or one of {BACKENDS}, found {requested!r}")
    return {
        "backend": "reference",
        "native": native.__version__ if native is not None else "not installed",
        "cpu_isa": native.cpu_isa() if native is not None else "unknown",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
