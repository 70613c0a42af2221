"""Inputs and tolerances shared by tests and benchmarks of the operations."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

# Relative error of an output or gradient against float64, as ||found - truth|| / ||truth||.
# fp32: 24 bits, sums of some hundred terms, several layers: 1e-6 measured. tf32 keeps 11 bits of
# an operand, 2^-11 = 5e-4, bf16 8 bits, 2^-8 = 4e-3; errors of several layers add up.
# bf16_products: against products of the same rounded numbers. A number that lies near the middle of
# two bf16 numbers, one in some hundred, may be rounded to the other one.
# bf16_kinks: gradients through relus and the smaller of two Qs. Where 8 bits decide which side of a
# kink a number is on, one in some hundred has another one's gradient, all of it.
RELATIVE_ERROR = {
    "fp32": 5e-6,
    "tf32": 3e-3,
    "bf16": 2.5e-2,
    "bf16_products": 2e-3,
    "bf16_kinks": 8e-2,
}
# One wrong element among many hardly moves a norm, so no single error may exceed this many times
# the error allowed on average; the largest of 10^5 rounding errors lies some five stds out.
WORST = 30.0


def assert_near_truth(found: Tensor, truth: Tensor, precision: str, name: str = "") -> None:
    """Raises AssertionError unless `found` is the float64 `truth` up to `precision`."""
    assert found.shape == truth.shape, f"{name}: {tuple(found.shape)}, not {tuple(truth.shape)}"
    assert torch.isfinite(found).all(), f"{name}: not finite"
    err = found.detach().cpu().double() - truth.detach().cpu()
    limit = RELATIVE_ERROR[precision]
    size = truth.norm().item()
    assert err.norm().item() <= limit * size + 1e-7, (
        f"{name}: relative error {err.norm().item() / max(size, 1e-30):.1e}, expected {limit:.1e}"
    )
    worst = WORST * limit * size / truth.numel() ** 0.5 + 1e-6
    assert err.abs().max().item() <= worst, f"{name}: {err.abs().max():.1e}, expected {worst:.1e}"


def make_network(
    members: int, sizes: Sequence[int], seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights [E, K, N] and biases [E, 1, N], float64 but exactly representable in float32."""
    g = torch.Generator().manual_seed(seed)
    weights = [
        (torch.randn(members, a, b, generator=g) / a**0.5).double()
        for a, b in itertools.pairwise(sizes)
    ]
    biases = [torch.randn(members, 1, b, generator=g).double() for b in sizes[1:]]
    return weights, biases


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal, float64 but exactly representable in float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()
