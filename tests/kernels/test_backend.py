"""Which kernels a machine gets: chosen once, never replaced in silence."""

import pytest
import torch

from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.native import precision as precision_module

LIBRARY = backend.native


@pytest.mark.parametrize(
    ("device", "triton", "native", "precision", "expected"),
    [
        ("cuda", True, True, "fp32", "triton"),
        ("cuda", True, False, "bf16", "triton"),  # a GPU, but no native library
        ("cuda", False, True, "fp32", "reference"),
        ("cpu", True, True, "fp32", "native"),
        ("cpu", True, True, "bf16", "native"),
        ("cpu", True, True, "tf32", "reference"),  # native has no such products
        ("cpu", False, False, "fp32", "reference"),  # neither
    ],
)
def test_auto_takes_what_there_is(monkeypatch, device, triton, native, precision, expected):
    if native and LIBRARY is None:
        pytest.skip("the native library isn't installed")
    monkeypatch.setattr(backend, "find_spec", lambda name: object() if triton else None)
    monkeypatch.setattr(backend, "native", LIBRARY if native else None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    facts = backend.choose_backend("auto", torch.device(device), precision)
    assert facts["backend"] == backend.active().name == expected
    assert facts["precision"] == precision
    assert facts["native"] == (LIBRARY.__version__ if native else "not installed")
    assert facts["device"] == ("a GPU" if device == "cuda" else "cpu")
    facts = backend.choose_backend("auto", torch.device(device), precision, compiled=False)
    assert facts["backend"] == backend.active().name == "reference"


@pytest.mark.parametrize(
    ("kernels", "isa", "slower", "expected"),
    [
        ("native", "avx512bf16", "fp32", "bf16"),
        ("native", "avx512bf16", "bf16", "fp32"),
        ("native", "amx", "fp32", "bf16"),
        ("native", "amx", "bf16", "fp32"),
        ("native", "avx512", "fp32", "fp32"),  # without bf16 products nothing is measured
        ("reference", "avx512bf16", "fp32", "fp32"),
        ("triton", "avx512bf16", "fp32", "tf32"),
    ],
)
def test_auto_precision_takes_fast_products(monkeypatch, kernels, isa, slower, expected):
    if LIBRARY is None:
        pytest.skip("the native library isn't installed")
    monkeypatch.setattr(LIBRARY, "cpu_isa", lambda: isa)
    monkeypatch.setattr(backend, "interpreting", lambda: True)  # Triton on a CPU
    seconds = {"fp32": 1.0, "bf16": 1.0, slower: 2.0}
    monkeypatch.setattr(precision_module, "gradient_seconds", seconds.get)
    cpu = torch.device("cpu")
    facts = backend.choose_backend(kernels, cpu, "auto")
    assert facts["precision"] == backend.active().precision == expected
    # a run that goes on keeps what it began with, on the same backend
    for other in ("fp32", "bf16"):
        before = {"backend": kernels, "precision": other}
        assert backend.choose_backend(kernels, cpu, "auto", before=before)["precision"] == other
        before = {"backend": "another", "precision": other}
        again = backend.choose_backend(kernels, cpu, "auto", before=before)
        assert again["precision"] == expected


@pytest.mark.skipif(LIBRARY is None, reason="the native library isn't installed")
def test_the_faster_precision_is_found_by_running_both():
    """On this processor, whichever it is; afterwards the backend is what it was."""
    before = backend.active()
    assert precision_module.gradient_seconds("bf16") > 0
    assert precision_module.faster_precision() in ("fp32", "bf16")
    assert backend.active() == before


@pytest.mark.parametrize(
    ("requested", "device", "precision", "words"),
    [
        ("warp", "cpu", "fp32", "kernels: expected one of .*found 'warp'"),
        ("triton", "cpu", "fp32", "triton needs a GPU, and the device is the CPU"),
        ("native", "cuda", "fp32", "native needs the CPU"),
        ("native", "cpu", "tf32", "precisions fp32 and bf16|isn't installed"),
        ("reference", "cpu", "fp8", "precision: expected one of .*found 'fp8'"),
    ],
)
def test_what_cannot_run_is_refused(monkeypatch, requested, device, precision, words):
    monkeypatch.setattr(backend, "interpreting", lambda: False)
    before = backend.active()
    with pytest.raises(ValueError, match=words):
        backend.choose_backend(requested, torch.device(device), precision)
    assert backend.active() == before


def test_what_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="triton isn't installed"):
        backend.choose_backend("triton", torch.device("cuda"))
    monkeypatch.setattr(backend, "native", None)
    with pytest.raises(ValueError, match="the native library isn't installed"):
        backend.choose_backend("native", torch.device("cpu"))
