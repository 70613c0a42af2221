"""The readable Adam against PyTorch's, and our optimiser's state against PyTorch's."""

import pytest
import torch

from rmbpo_fast import kernels
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.ops.adam.reference import adam_reference_
from rmbpo_fast.kernels.testing import draw

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("ours_", "of_steps"), [(adam_reference_, torch.float64), (kernels.adam_, torch.float32)]
)
def test_reference_is_pytorchs_adam(ours_, of_steps):
    """The readable one, and what runs without a compiled backend."""
    params = [draw(5, 3).requires_grad_(), draw(7, seed=2).requires_grad_()]
    ours = [p.detach().clone() for p in params]
    groups = [{"params": params[:1], "weight_decay": 0.1}, {"params": params[1:]}]
    truth = torch.optim.Adam(groups, lr=0.01)
    moments = [[torch.zeros_like(p) for p in ours] for _ in range(2)]
    steps = [torch.zeros((), dtype=of_steps) for _ in ours]
    for step in range(4):
        for i, p in enumerate(params):
            p.grad = draw(*p.shape, seed=10 * step + i)
        truth.step()
        grads = [p.grad for p in params]
        ours_(ours, grads, *moments, steps, [0.1, 0.0], 0.01, 0.9, 0.999, 1e-8)
    for found, expected in zip(ours, params, strict=True):
        torch.testing.assert_close(found, expected.detach())


def test_the_optimiser_goes_on_where_another_backend_stopped():
    """Groups with decays of their own."""
    runs = []
    compiled = (
        ["triton"] if DEVICE.type == "cuda" or backend.native is None else ["triton", "native"]
    )
    chosen = [("reference",) * 4]
    for name in compiled:
        chosen += [(name,) * 4, ("reference", name) * 2]
    for backends in chosen:
        params = [draw(40, seed=i).float().to(DEVICE).requires_grad_() for i in range(3)]
        groups = [{"params": params[:1], "weight_decay": 0.1}, {"params": params[1:]}]
        optimizer = Adam(groups, 0.01, DEVICE)
        for step, name in enumerate(backends):
            slopes = [draw(40, seed=10 * step + i).float().to(DEVICE) for i in range(3)]
            loss = sum((slope * p).sum() for slope, p in zip(slopes, params, strict=True))
            with using(name):
                optimizer.minimize(loss)
        runs.append(params)
    for other in runs[1:]:
        for found, expected in zip(other, runs[0], strict=True):
            torch.testing.assert_close(found, expected)
