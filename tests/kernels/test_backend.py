"""Which kernels a machine gets: chosen once, never replaced in silence."""

import pytest
import torch

from rmbpo_fast.kernels import backend

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
    ("kernels", "isa", "expected"),
    [
        ("native", "avx512bf16", "bf16"),
        ("native", "avx512", "fp32"),
        ("reference", "avx512bf16", "fp32"),
        ("triton", "avx512bf16", "tf32"),
    ],
)
def test_auto_precision_takes_fast_products(monkeypatch, kernels, isa, expected):
    if LIBRARY is None:
        pytest.skip("the native library isn't installed")
    monkeypatch.setattr(LIBRARY, "cpu_isa", lambda: isa)
    monkeypatch.setattr(backend, "interpreting", lambda: True)  # Triton on a CPU
    facts = backend.choose_backend(kernels, torch.device("cpu"), "auto")
    assert facts["precision"] == backend.active().precision == expected


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
