"""The native networks against their reference in float64, at each instruction set."""

from functools import partial

import pytest
import torch

from parity import compare, off_kinks, rounded_mlp
from rmbpo_fast import kernels
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network

pytestmark = [
    pytest.mark.skipif(backend.native is None, reason="the native library isn't installed"),
    pytest.mark.usefixtures("native_level"),
]
_compare = partial(compare, "native")


NETWORKS = [
    (members, rows, sizes)
    for rows in (1, 63, 256, 500)
    for members, sizes in ((1, (5, 11, 17)), (3, (5, 11, 17, 23)), (2, (14, 200, 200, 24)))
] + [
    (2, 63, (23, 512, 200, 17)),
    (2, 256, (14, 256, 256, 1)),
    (2, 500, (17, 512, 256, 5)),
    (2, 63, (7, 3)),
    (3, 2, (1, 1, 1)),
]


@pytest.mark.parametrize(("members", "rows", "sizes"), NETWORKS)
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_ensemble_mlp_in_bf16(members, rows, sizes, activation):
    """Against float64 products of the same rounded numbers."""
    weights, biases = make_network(members, sizes)
    x, weight_of_loss = draw(members, rows, sizes[0]), draw(members, rows, sizes[-1], seed=9)
    keep = off_kinks(x, weights, biases) if activation == "relu" else 1.0
    results = []
    for dtype in (torch.float64, torch.float32):
        leaves = [t.to(dtype).requires_grad_() for t in (x, *weights, *biases)]
        w, b = leaves[1 : len(sizes)], leaves[len(sizes) :]
        with using("native", "bf16"):
            if dtype == torch.float64:
                out = rounded_mlp(leaves[0], w, b, activation)
            else:
                out = kernels.ensemble_mlp(leaves[0], w, b, activation)
        loss = (out * (weight_of_loss * keep).to(dtype)).sum()
        results.append([out, *torch.autograd.grad(loss, leaves)])
    for i, (truth, found) in enumerate(zip(*results, strict=True)):
        assert_near_truth(found, truth, "bf16_products", f"result {i}")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_results_in_both_precisions_are_near_the_exact_ones(precision, activation):
    weights, biases = make_network(3, (14, 200, 200, 200, 24))
    with torch.no_grad():
        _compare(
            lambda x, w, b: kernels.ensemble_mlp(x, w, b, activation),
            [draw(3, 256, 14), weights, biases],
            precision,
        )


@pytest.mark.parametrize(("members", "rows", "sizes"), NETWORKS)
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_ensemble_mlp(members, rows, sizes, activation):
    weights, biases = make_network(members, sizes)
    x = draw(members, rows, sizes[0])
    keep = off_kinks(x, weights, biases) if activation == "relu" else 1.0
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, activation) * torch.as_tensor(keep).to(x),
        [x, weights, biases],
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [1, 63, 1_000])
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_ensemble_mlp_of_chosen_members_without_gradients(rows, activation, precision):
    weights, biases = make_network(4, (3, 200, 7, 100, 2))
    with torch.no_grad():
        _compare(
            lambda x, w, b, m: kernels.ensemble_mlp(x, w, b, activation, m),
            [draw(2, rows, 3), weights, biases, torch.tensor([2, 0])],
            precision,
        )


def test_gradients_of_chosen_members():
    weights, biases = make_network(4, (3, 8, 2))
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish", torch.tensor([3, 1])),
        [draw(2, 5, 3), weights, biases],
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("learning", [(0,), (1, 2)])
def test_only_what_asks_for_a_gradient_gets_one(learning, precision):
    weights, biases = make_network(2, (3, 8, 20, 2))
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish"),
        [draw(2, 300, 3), weights, biases],
        precision,
        learning=learning,
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", ["transposed", "expanded", "strided"])
def test_ensemble_mlp_of_views(shape, precision):
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
        precision,
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("activation", ["swish", "relu"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(activation, bad, precision):
    """And in its own row."""
    weights = [torch.ones(1, 2, 40), torch.ones(1, 40, 1)]
    biases = [torch.zeros(1, 1, 40), torch.zeros(1, 1, 1)]
    x = torch.ones(1, 30, 2)
    x[0, 17, 1] = bad
    with using("native", precision):
        out = kernels.ensemble_mlp(x, weights, biases, activation)
    with using("reference"):
        expected = kernels.ensemble_mlp(x, weights, biases, activation)
    # -infinity: the reference's swish is -inf / inf, NaN; ours stays infinite
    assert (torch.isfinite(out) == torch.isfinite(expected)).all()
    if bad != bad:
        assert torch.isnan(out[0, 17, 0])


def test_an_unknown_member_is_refused_and_nothing_is_computed():
    weights, biases = ([t.float() for t in ts] for ts in make_network(3, (2, 1)))
    with (
        using("native"),
        torch.no_grad(),
        pytest.raises(ValueError, match="members: expected 0 to 2, found 3"),
    ):
        kernels.ensemble_mlp(draw(2, 4, 2).float(), weights, biases, "relu", torch.tensor([0, 3]))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_results_do_not_depend_on_threads(precision):
    """The same sums in the same order, whoever computes them."""
    weights, biases = ([t.float() for t in ts] for ts in make_network(3, (14, 200, 200, 24)))
    x = draw(3, 256, 14).float().requires_grad_()
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with using("native", precision):
            out = kernels.ensemble_mlp(x, weights, biases, "swish")
            found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)
