"""Each operation on the CPU at Hopper's sizes: the native kernels against the reference.

Forward and all gradients where there are any. Both are compared once before they are timed.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from rmbpo_fast import kernels
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import draw, make_network

pytestmark = pytest.mark.skipif(backend.native is None, reason="the native library isn't installed")
E, B, S, A, D = 7, 256, 11, 3, 12
NETWORKS = {
    "dynamics": (E, (S + A, 200, 200, 200, 200, 2 * D), "swish"),
    "critics": (2, (S + A, 256, 256, 1), "relu"),
    "actor": (1, (S, 256, 256, 2 * A), "relu"),
}


def _race(race, function: Callable[[], Sequence[Tensor]], calls: int, precise: bool = True) -> None:
    """Eager and compiled reference against native; `precise`: there is no other precision."""
    compiled = torch.compile(function)

    def on(call: Callable[[], Sequence[Tensor]], *choice: str) -> Callable[[], Sequence[Tensor]]:
        def chosen() -> Sequence[Tensor]:
            with using(*choice):
                return call()

        return chosen

    rivals = {
        "reference": on(function, "reference"),
        "reference, compiled": on(compiled, "reference"),
        "native fp32": on(function, "native"),
    }
    if not precise:
        rivals["native bf16"] = on(function, "native", "bf16")
    for found, expected in zip(rivals["native fp32"](), rivals["reference"](), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    race(rivals, calls)


def _float(*shape: int, seed: int = 1) -> Tensor:
    return draw(*shape, seed=seed).float()


def _network(name: str) -> tuple[list[Tensor], list[Tensor], int, int, str]:
    members, sizes, activation = NETWORKS[name]
    weights, biases = ([t.float() for t in ts] for ts in make_network(members, sizes))
    return weights, biases, members, sizes[0], activation


@pytest.mark.parametrize("name", NETWORKS)
def bench_ensemble_mlp(name, race):
    weights, biases, members, inputs, activation = _network(name)
    leaves = [t.requires_grad_() for t in (*weights, *biases)]
    x = _float(members, B, inputs)

    def train() -> Sequence[Tensor]:
        out = kernels.ensemble_mlp(x, weights, biases, activation)
        return torch.autograd.grad(out.mean(), leaves)

    _race(race, train, 10, precise=False)


@pytest.mark.parametrize("name", NETWORKS)
def bench_ensemble_mlp_without_gradients(name, race):
    """Rollouts: 4,000 rows a member."""
    weights, biases, members, inputs, activation = _network(name)
    x = _float(members, 4_000, inputs)
    _race(race, lambda: [kernels.ensemble_mlp(x, weights, biases, activation)], 2, precise=False)


def bench_gaussian_nll(race):
    head, target = _float(E, B, 2 * D).requires_grad_(), _float(E, B, D)
    bounds = [torch.full((D,), v, requires_grad=True) for v in (-10.0, 0.5)]
    _race(
        race,
        lambda: torch.autograd.grad(
            kernels.gaussian_nll(head, target, *bounds).sum(), [head, *bounds]
        ),
        20,
    )


def bench_gaussian_kl_score(race):
    tensors = [_float(E, B, D, seed=i) for i in range(5)]
    learning = [t.requires_grad_() for t in tensors[:2]]
    constants = (*tensors[2:], _float(E, B), torch.tensor(0.05))
    _race(
        race,
        lambda: torch.autograd.grad(kernels.gaussian_kl_score(*learning, *constants), learning),
        20,
    )


def bench_squashed_gaussian(race):
    head, noise = _float(B, 2 * A).requires_grad_(), _float(B, A)

    def train() -> Sequence[Tensor]:
        action, log_prob = kernels.squashed_gaussian(head, noise, -20.0, 2.0)
        return torch.autograd.grad(action.sum() + log_prob.sum(), [head])

    _race(race, train, 50)


def bench_sample_transition(race):
    rows = 20_000
    tensors = [_float(rows, n, seed=i) for i, n in enumerate((S, A, D, D, D))]
    bounds = (torch.full((S,), -10.0), torch.full((S,), 10.0))
    _race(race, lambda: kernels.sample_transition(*tensors, *bounds)[:1], 10)


def bench_adam(race):
    """The dynamics ensemble's parameters."""
    weights, biases, *_ = _network("dynamics")
    params = [*weights, *biases]
    grads = [_float(*p.shape, seed=2) for p in params]
    moments = [[torch.zeros_like(p) for p in params] for _ in range(2)]
    steps = [torch.zeros(()) for _ in params]
    decays = [0.0] * len(params)

    def step() -> Sequence[Tensor]:
        kernels.adam_(params, grads, *moments, steps, decays, 1e-6, 0.9, 0.999, 1e-8)
        return []

    _race(race, step, 10)
