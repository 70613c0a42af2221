"""Every Triton kernel against its reference in float64: outputs and all gradients.

Without a GPU Triton's interpreter runs the kernels, which shows the numbers and not the speed.
"""

from functools import partial

import pytest
import torch

from parity import check_full_graph, check_operators, compare
from rmbpo_fast import kernels
from rmbpo_fast.kernels.backend import interpreting, using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network

pytest.importorskip("triton")
from rmbpo_fast.kernels.ops.ensemble_mlp import gpu as ensemble_mlp_gpu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISIONS = ("fp32", "tf32", "bf16")


_compare = partial(compare, "triton", device=DEVICE)


NETWORKS = [
    (1, 1, (5, 11, 17), "relu"),
    (3, 63, (5, 11, 17, 23), "swish"),
    (2, 200, (11, 23, 5), "swish"),
    (2, 64, (14, 256, 256, 1), "relu"),
    (1, 63, (23, 264, 200, 17), "relu"),
    (2, 63, (7, 3), "relu"),
]


@pytest.mark.parametrize(("members", "rows", "sizes", "activation"), NETWORKS)
def test_ensemble_mlp(members, rows, sizes, activation):
    weights, biases = make_network(members, sizes)
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, activation),
        [draw(members, rows, sizes[0]), weights, biases],
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ensemble_mlp_in_each_precision(precision):
    weights, biases = make_network(2, (14, 200, 200, 24))
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish"),
        [draw(2, 63, 14), weights, biases],
        precision,
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("rows", [63, 300])
def test_ensemble_mlp_of_chosen_members_without_gradients(rows, monkeypatch):
    """Many rows take the large tiles, and more blocks than there are programs with scratch.

    Many are fewer here: the interpreter takes a second for a thousand.
    """
    monkeypatch.setattr(ensemble_mlp_gpu, "MANY_ROWS", 256)
    monkeypatch.setattr(ensemble_mlp_gpu, "MAX_SLOTS", 4)
    tiles, few = (ensemble_mlp_gpu.tiles_for(n, "fp32") for n in (rows, 63))
    assert (tiles != few) == (rows == 300)
    assert rows > 3 * tiles.m
    weights, biases = make_network(4, (3, 20, 7, 20, 2))
    members = torch.tensor([2, 0])
    with torch.no_grad():
        _compare(
            lambda x, w, b, m: kernels.ensemble_mlp(x, w, b, "swish", m),
            [draw(2, rows, 3), weights, biases, members],
        )


def test_gradients_of_chosen_members():
    weights, biases = make_network(4, (3, 8, 2))
    _compare(
        lambda x, w, b, m: kernels.ensemble_mlp(x, w, b, "relu", m.long()),
        [draw(2, 5, 3), weights, biases, torch.tensor([3.0, 1.0])],
        learning=(0, 1, 2),
    )


def test_only_what_asks_for_a_gradient_gets_one():
    weights, biases = make_network(2, (3, 8, 2))
    for learning in ((0,), (1, 2)):
        _compare(
            lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish"),
            [draw(2, 5, 3), weights, biases],
            learning=learning,
        )


@pytest.mark.parametrize("shape", ["transposed", "expanded", "strided"])
def test_ensemble_mlp_of_views(shape):
    weights, biases = make_network(2, (6, 20, 3))
    views = {
        "transposed": lambda x: x.transpose(1, 2),
        "expanded": lambda x: x[:1, :, :6].expand(2, -1, -1),
        "strided": lambda x: x[:, ::2, :6],
    }
    x = draw(2, 6, 10) if shape == "transposed" else draw(2, 10, 9)
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(views[shape](x), w, b, "swish"),
        [x, weights, biases],
        learning=(0, 1, 2),
    )


def test_nan_passes_through_the_activations():
    weights, biases = make_network(1, (2, 4, 1))
    x = torch.tensor([[[float("nan"), 1.0], [1.0, 1.0]]], device=DEVICE)
    for activation in ("relu", "swish"):
        with using("triton"):
            out = kernels.ensemble_mlp(
                x,
                [w.float().to(DEVICE) for w in weights],
                [b.float().to(DEVICE) for b in biases],
                activation,
            )
        assert torch.isnan(out[0, 0, 0])
        assert torch.isfinite(out[0, 1, 0])


@pytest.mark.parametrize("rows", [1, 63, 256, 500])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_squashed_gaussian(rows, size):
    head = 2.0 * draw(rows, 2 * size)
    head[0, -1], head[-1, -1] = 3.0, -25.0  # outside the clamp
    _compare(
        lambda head, noise: kernels.squashed_gaussian(head, noise, -20.0, 2.0),
        [head, draw(rows, size, seed=2)],
        learning=(0,),
    )


def test_squashed_gaussian_where_tanh_saturates():
    head = torch.tensor([[40.0, -40.0, 1e-4, 0.0, 0.0, -9.0]]).double()
    _compare(
        lambda head, noise: kernels.squashed_gaussian(head, noise, -20.0, 2.0),
        [head, torch.zeros(1, 3).double()],
        learning=(0,),
    )


@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.09, 0.11, 1.0])
def test_small_actions_keep_their_digits(size):
    head = torch.tensor([[size, -size, 0.0, 0.0]]).double()
    _compare(
        lambda head, noise: kernels.squashed_gaussian(head, noise, -20.0, 2.0)[0] / size,
        [head, torch.zeros(1, 2).double()],
    )


@pytest.mark.parametrize(("members", "rows", "size"), [(1, 1, 1), (7, 63, 12), (2, 500, 46)])
def test_gaussian_nll(members, rows, size):
    bounds = [torch.full((size,), v).double() for v in (-2.0, 0.5)]
    _compare(
        kernels.gaussian_nll,
        [draw(members, rows, 2 * size), draw(members, rows, size, seed=2), *bounds],
        learning=(0, 2, 3),
    )


@pytest.mark.parametrize(("members", "rows", "size"), [(1, 1, 1), (7, 63, 12), (2, 500, 17)])
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


@pytest.mark.parametrize("change", [1e-6, 1e-3, 0.05, 0.29, 0.31, 1.0])
def test_kl_of_a_small_change_keeps_its_digits(change):
    """Without the value term: expm1(c) - c, and its gradient, are what is left."""
    zero = torch.zeros(1, 3, 4).double()
    logvar_g = torch.full_like(zero, change).float().double() * torch.tensor([1, -1, 1, -1])
    _compare(
        kernels.gaussian_kl_score,
        [zero, logvar_g, zero, zero, zero, torch.zeros(1, 3).double(), torch.zeros(()).double()],
        learning=(1,),
    )


@pytest.mark.parametrize("rows", [1, 63, 500])
def test_sample_transition(rows):
    size, actions = 5, 3
    mean = draw(rows, size + 1, seed=3)
    mean[rows // 2, 2] = float("nan")
    mean[rows // 3, size] = float("inf")
    _compare(
        kernels.sample_transition,
        [
            draw(rows, size),
            draw(rows, actions, seed=2),
            mean,
            draw(rows, size + 1, seed=4),
            draw(rows, size + 1, seed=5),
            torch.full((size,), -1.0).double(),
            torch.full((size,), 1.5).double(),
        ],
    )


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_adam(decay):
    """Five steps against PyTorch's own in float64; sizes around a block, more tensors than one
    launch takes, and gradients of very different sizes."""
    shapes = [(1,), (2, 3), (1023,), (1024,), (3, 700)] + [(5,)] * 13
    start = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    params = [p.clone().requires_grad_() for p in start]
    truth = torch.optim.Adam(params, lr=1e-2, weight_decay=decay)
    ours = [p.float().to(DEVICE) for p in start]
    moments = [[torch.zeros_like(p) for p in ours] for _ in range(2)]
    steps = [torch.zeros((), device=DEVICE) for _ in ours]
    for step in range(5):
        for i, p in enumerate(params):
            p.grad = draw(*p.shape, seed=100 * step + i) * 10.0 ** (i % 7 - 3)
        truth.step()
        with using("triton"):
            grads = [p.grad.float().to(DEVICE) for p in params]
            decays = [decay] * len(ours)
            kernels.adam_(ours, grads, *moments, steps, decays, 1e-2, 0.9, 0.999, 1e-8)
    assert [int(s) for s in steps] == [5] * len(ours)
    for i, (found, expected, first) in enumerate(zip(ours, params, start, strict=True)):
        assert_near_truth(found.cpu() - first, expected.detach() - first, "tf32", f"change {i}")
        assert_near_truth(found, expected.detach(), "fp32", f"tensor {i}")


def test_adam_refuses_what_does_not_fit_and_writes_nothing():
    p, other = torch.ones(3), torch.ones(4)
    step = torch.zeros(())
    with pytest.raises(ValueError, match=r"exp_avgs\[0\]: expected shape \(3,\), found \(4,\)"):
        kernels.adam_([p], [p], [other], [p], [step], [0.0], 1.0, 0.9, 0.999, 1e-8)
    with pytest.raises(ValueError, match="grads: expected 1 as params has, found 0"):
        kernels.adam_([p], [], [p], [p], [step], [0.0], 1.0, 0.9, 0.999, 1e-8)
    assert p.tolist() == [1.0] * 3
    assert step == 0


def test_a_wrong_element_among_many_is_seen():
    truth = draw(1000)
    found = truth.clone()
    found[7] += 0.01
    with pytest.raises(AssertionError, match="result"):
        assert_near_truth(found, truth, "fp32", "result")


def test_float64_is_refused():
    weights, biases = make_network(1, (2, 1))
    with (
        using("triton"),
        pytest.raises(ValueError, match=r"x: expected torch.float32 .*found torch.float64"),
    ):
        kernels.ensemble_mlp(draw(1, 3, 2), weights, biases, "relu")


@pytest.mark.skipif(not interpreting(), reason="the CPU is refused only where it can't interpret")
def test_operators_are_registered_soundly():
    check_operators("triton")


def test_full_graph_compile():
    check_full_graph("triton", DEVICE)
