"""Native kernels but the networks against their references in float64, at each instruction set."""

from functools import partial

import pytest
import torch

from parity import check_full_graph, check_operators, compare
from rmbpo_fast import kernels
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network

native = backend.native
pytestmark = [
    pytest.mark.skipif(native is None, reason="the native library isn't installed"),
    pytest.mark.usefixtures("native_level"),
]


_compare = partial(compare, "native")


@pytest.mark.parametrize("rows", [1, 63, 256, 500, 3_000])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_squashed_gaussian(rows, size):
    head = 2.0 * draw(rows, 2 * size)
    head[0, -1], head[-1, -1] = 3.0, -25.0  # outside the clamp
    _compare(
        lambda head, noise: kernels.squashed_gaussian(head, noise, -20.0, 2.0),
        [head, draw(rows, size, seed=2)],
        learning=(0,),
    )


def test_squashed_gaussian_where_tanh_saturates_and_where_it_is_tiny():
    # -21 is clamped to -20; at the bound itself clamp's gradient is 1 or 0, by PyTorch's version
    head = torch.tensor([[40.0, -40.0, 1e-4, 1e-6, 0.0, 0.0, -9.0, -21.0]])
    _compare(
        lambda head, noise: kernels.squashed_gaussian(head, noise, -20.0, 2.0),
        [head.double(), torch.zeros(1, 4).double()],
        learning=(0,),
    )
    with using("native"):
        action, _ = kernels.squashed_gaussian(head, torch.zeros(1, 4), -20.0, 2.0)
    torch.testing.assert_close(action[0, 2:], torch.tensor([1e-4, 1e-6]), rtol=1e-6, atol=0)


def test_squashed_gaussian_of_nan():
    head = torch.full((2, 2), float("nan"))
    head[1] = 0.0
    with using("native"):
        action, log_prob = kernels.squashed_gaussian(head, torch.zeros(2, 1), -20.0, 2.0)
    assert torch.isnan(action[:, 0]).tolist() == [True, False]
    assert torch.isnan(log_prob).tolist() == [True, False]


SHAPES = [(1, 1, 1), (7, 63, 12), (2, 500, 17), (4, 256, 5)]


@pytest.mark.parametrize(("members", "rows", "size"), SHAPES)
def test_gaussian_nll(members, rows, size):
    bounds = [torch.full((size,), v).double() for v in (-2.0, 0.5)]
    head = draw(members, rows, 2 * size)
    head[0, 0, -1] = 60.0  # far outside the bounds
    head[-1, -1, -1] = -60.0
    _compare(
        kernels.gaussian_nll,
        [head, draw(members, rows, size, seed=2), *bounds],
        learning=(0, 2, 3),
    )


@pytest.mark.parametrize(("members", "rows", "size"), SHAPES)
@pytest.mark.parametrize("change", [1e-6, 0.1, 1.0])
def test_gaussian_kl_score(members, rows, size, change):
    shape = (members, rows, size)
    mean_p, logvar_p = draw(*shape, seed=2), draw(*shape, seed=3)
    mean_g = (mean_p + change * draw(*shape, seed=4)).float().double()
    logvar_g = (logvar_p + change * draw(*shape, seed=5)).float().double()
    advantage, eta = draw(members, rows, seed=6), torch.tensor(0.5).double()
    _compare(
        kernels.gaussian_kl_score,
        [mean_g, logvar_g, mean_p, logvar_p, draw(*shape, seed=7), advantage, eta],
        learning=(0, 1),
    )


def test_kl_of_a_tiny_change_keeps_its_digits():
    """KL = l^2 / 4 for a small change l of the log-variance; exp(l) - 1 - l gives 0 or noise."""
    change = 1e-5 * draw(1, 1, 50).float()
    zero = torch.zeros_like(change)
    with using("native"):
        kl = kernels.gaussian_kl_score(
            zero, change, zero, zero, zero, torch.zeros(1, 1), torch.tensor(0.0)
        )
    truth = change.double().square().sum() / 4
    assert kl.item() == pytest.approx(truth.item(), rel=1e-4)


@pytest.mark.parametrize("rows", [1, 63, 500, 3_000])
@pytest.mark.parametrize("size", [5, 11, 16])
def test_sample_transition(rows, size):
    mean = draw(rows, size + 1, seed=3)
    mean[rows // 2, 2] = float("nan")
    mean[rows // 3, size] = float("inf")
    _compare(
        kernels.sample_transition,
        [
            draw(rows, size),
            draw(rows, 3, seed=2),
            mean,
            draw(rows, size + 1, seed=4),
            draw(rows, size + 1, seed=5),
            torch.full((size,), -1.0).double(),
            torch.full((size,), 1.5).double(),
        ],
    )


@pytest.mark.parametrize("strided", [False, True])
def test_adam(strided):
    """Ten steps; one gradient is zero, one parameter has weight decay."""
    shapes, decays = ((3, 17, 5), (700, 300), (1,)), [0.1, 0.0, 0.0]

    def train(name, dtype):
        params = [draw(*shape).to(dtype) for shape in shapes]
        moments = [[torch.zeros_like(p) for p in params] for _ in range(2)]
        steps = [torch.zeros((), dtype=dtype) for _ in params]
        with using(name):
            for step in range(10):
                grads = [draw(*p.shape, seed=step).to(dtype) for p in params]
                grads[2].zero_()
                if strided:
                    grads[1] = grads[1].t().contiguous().t()
                kernels.adam_(params, grads, *moments, steps, decays, 1e-2, 0.9, 0.999, 1e-8)
        return [*params, *moments[0], *moments[1], *steps]

    truth, found = train("reference", torch.float64), train("native", torch.float32)
    for i, (a, b) in enumerate(zip(found, truth, strict=True)):
        assert_near_truth(a, b, "fp32", f"result {i}")


def test_adam_refuses_float64_and_writes_nothing():
    double = [[torch.ones(3, dtype=torch.float64)] for _ in range(4)]
    step = [torch.zeros((), dtype=torch.float64)]
    with (
        using("native"),
        pytest.raises(ValueError, match=r"params\[0\]: expected torch.float32"),
    ):
        kernels.adam_(*double, step, [0.0], 1e-2, 0.9, 0.999, 1e-8)
    assert all((t[0] == 1).all() for t in double)
    assert step[0] == 0


def test_other_dtypes_precisions_and_levels_are_refused():
    weights, biases = make_network(1, (2, 1))
    with (
        using("native"),
        pytest.raises(ValueError, match=r"x: expected torch.float32 .*found torch.float64"),
    ):
        kernels.ensemble_mlp(draw(1, 3, 2), weights, biases, "relu")
    with pytest.raises(ValueError, match="native has precisions fp32 and bf16, found 'tf32'"):
        backend.use("native", "tf32")
    with pytest.raises(
        ValueError, match=r"level: expected one of .*generic, amx_emulated, found warp"
    ):
        native.use_level("warp")
    with pytest.raises(ValueError, match="native needs the CPU, and the device is cuda"):
        backend.choose_backend("native", torch.device("cuda"))


def test_auto_is_native_here():
    before = backend.active()
    try:
        assert backend.choose_backend("auto", torch.device("cpu"))["backend"] == "native"
        assert backend.choose_backend("auto", torch.device("cpu"), "tf32")["backend"] == "reference"
    finally:
        backend.use(*before)


def test_operators_are_registered_soundly():
    check_operators("native")


def test_full_graph_compile():
    check_full_graph("native")
