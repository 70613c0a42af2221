"""Every Triton kernel against its reference in float64: outputs and all gradients.

Without a GPU Triton's interpreter runs the kernels, which shows the numbers and not the speed.
"""

import pytest
import torch

from rmbpo_fast import kernels
from rmbpo_fast.kernels.backend import interpreting, using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network

pytest.importorskip("triton")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PRECISIONS = ("fp32", "tf32", "bf16")


def _compare(function, tensors, precision="fp32", learning=()):
    """function(*tensors) on the reference in float64 and on triton in float32.

    Args:
        tensors: float64 inputs, or lists of them.
        learning: positions of those whose gradients are compared.
    """
    results = []
    for backend, dtype, device in (
        ("reference", torch.float64, torch.device("cpu")),
        ("triton", torch.float32, DEVICE),
    ):

        def move(t, place, dtype=dtype, device=device):
            if isinstance(t, list):
                return [move(s, place) for s in t]
            moved = t.to(device, dtype if t.is_floating_point() else None)
            return moved.clone().requires_grad_(place in learning)

        inputs = [move(t, i) for i, t in enumerate(tensors)]
        with using(backend, precision):
            outputs = function(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            leaves = []
            for place in learning:
                leaves += inputs[place] if isinstance(inputs[place], list) else [inputs[place]]
            loss = sum((o * draw(*o.shape, seed=9).to(o)).sum() for o in outputs)
            gradients = torch.autograd.grad(loss, leaves) if leaves else ()
        results.append([*outputs, *gradients])
    for i, (truth, found) in enumerate(zip(*results, strict=True)):
        if truth.dtype == torch.bool:
            assert (found.cpu() == truth).all()
        else:
            assert_near_truth(found, truth, precision, f"result {i}")


NETWORKS = [
    (1, 1, (5, 11, 17), "relu"),
    (3, 63, (5, 11, 17, 23), "swish"),
    (2, 500, (11, 23, 5), "swish"),
    (2, 256, (14, 256, 256, 1), "relu"),
    (2, 63, (23, 512, 200, 17), "relu"),
    (3, 63, (14, 200, 200, 24), "swish"),
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


@pytest.mark.parametrize("rows", [63, 5_000])
def test_ensemble_mlp_of_chosen_members_without_gradients(rows):
    """Many rows take the large tiles, and more blocks than there are programs with scratch."""
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
    """opcheck: schema, fake shapes and strides against the real ones."""
    weights, biases = ([t.float() for t in ts] for ts in make_network(2, (3, 8, 2)))
    x = draw(2, 5, 3).float()
    with using("triton"):
        ops = torch.ops.rmbpo_fast
        for save in (True, False):
            torch.library.opcheck(
                ops.triton_ensemble_mlp_fwd, (x, weights, biases, None, "swish", "fp32", save)
            )
        outputs, pre = ops.triton_ensemble_mlp_fwd(x, weights, biases, None, "swish", "fp32", True)
        d_out = draw(2, 5, 2).float()
        for need in ((True, False), (False, True)):
            torch.library.opcheck(
                ops.triton_ensemble_mlp_bwd,
                (d_out, x, weights, outputs, pre, "swish", "fp32", *need),
            )
        head, noise = draw(5, 4).float(), draw(5, 2).float()
        torch.library.opcheck(ops.triton_squashed_gaussian_fwd, (head, noise, -20.0, 2.0))
        torch.library.opcheck(
            ops.triton_squashed_gaussian_bwd, (noise, noise[:, 0], head, noise, -20.0, 2.0)
        )
        nll = (draw(2, 5, 4).float(), draw(2, 5, 2).float(), torch.zeros(2), torch.ones(2))
        torch.library.opcheck(ops.triton_gaussian_nll, nll)
        g = [draw(2, 5, 3, seed=i).float() for i in range(5)]
        torch.library.opcheck(
            ops.triton_gaussian_kl_score, (*g, draw(2, 5).float(), torch.tensor(0.5))
        )
        d = [draw(5, 4, seed=i).float() for i in range(3)]
        bounds = (-torch.ones(3), torch.ones(3))
        torch.library.opcheck(
            ops.triton_sample_transition, (draw(5, 3).float(), noise, *d, *bounds)
        )
        adam = [[draw(3, seed=i).float().abs()] for i in range(4)]
        torch.library.opcheck(
            ops.triton_adam_, (*adam, [torch.ones(())], [0.1], 1e-3, 0.9, 0.999, 1e-8)
        )


def test_full_graph_compile():
    weights, biases = ([t.float().to(DEVICE) for t in ts] for ts in make_network(2, (3, 8, 4)))
    for t in (*weights, *biases):
        t.requires_grad_()
    x, noise = draw(2, 5, 3).float().to(DEVICE), draw(2, 5, 2).float().to(DEVICE)

    def loss(x, noise):
        head = kernels.ensemble_mlp(x, weights, biases, "swish")
        action, log_prob = kernels.squashed_gaussian(head, noise, -20.0, 2.0)
        return action.square().sum() + log_prob.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    with using("triton"):
        expected = torch.autograd.grad(loss(x, noise), weights)
        found = torch.autograd.grad(compiled(x, noise), weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
