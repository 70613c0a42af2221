"""Every native kernel against its reference in float64, at each instruction set of the machine."""

import copy
from functools import partial

import pytest
import torch
from parity import check_full_graph, check_operators, compare

from rmbpo_fast import kernels
from rmbpo_fast.config import SACConfig
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network
from rmbpo_fast.replay import ReplayBuffer
from rmbpo_fast.sac import SAC
from rmbpo_fast.types import Transition

native = backend.native
pytestmark = pytest.mark.skipif(native is None, reason="the native library isn't installed")
LEVELS = native.levels() if native is not None else ["generic"]


@pytest.fixture(params=[(level, 1) for level in LEVELS] + [(LEVELS[0], 3)], ids=str, autouse=True)
def _level_and_threads(request):
    """Three threads: no size divides evenly, and members are cut in the middle."""
    level, threads = request.param
    native.use_level(level)
    torch.set_num_threads(threads)
    yield
    native.use_level(LEVELS[0])


_compare = partial(compare, "native")


def _off_kinks(x, weights, biases):
    """[E, B, 1]: 1 where no relu's input is so near 0 that rounding decides about its gradient."""
    keep = torch.ones(*x.shape[:2], 1, dtype=torch.float64)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        z = x @ weight + bias
        keep *= (z.abs() > 1e-5).all(-1, keepdim=True)
        x = z.relu()
    return keep


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
def test_ensemble_mlp(members, rows, sizes, activation):
    weights, biases = make_network(members, sizes)
    x = draw(members, rows, sizes[0])
    keep = _off_kinks(x, weights, biases) if activation == "relu" else 1.0
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, activation) * torch.as_tensor(keep).to(x),
        [x, weights, biases],
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("rows", [1, 63, 1_000])
@pytest.mark.parametrize("activation", ["swish", "relu"])
def test_ensemble_mlp_of_chosen_members_without_gradients(rows, activation):
    weights, biases = make_network(4, (3, 200, 7, 100, 2))
    with torch.no_grad():
        _compare(
            lambda x, w, b, m: kernels.ensemble_mlp(x, w, b, activation, m),
            [draw(2, rows, 3), weights, biases, torch.tensor([2, 0])],
        )


def test_gradients_of_chosen_members():
    weights, biases = make_network(4, (3, 8, 2))
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish", torch.tensor([3, 1])),
        [draw(2, 5, 3), weights, biases],
        learning=(0, 1, 2),
    )


@pytest.mark.parametrize("learning", [(0,), (1, 2)])
def test_only_what_asks_for_a_gradient_gets_one(learning):
    weights, biases = make_network(2, (3, 8, 20, 2))
    _compare(
        lambda x, w, b: kernels.ensemble_mlp(x, w, b, "swish"),
        [draw(2, 300, 3), weights, biases],
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


@pytest.mark.parametrize("activation", ["swish", "relu"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(activation, bad):
    """And in its own row."""
    weights = [torch.ones(1, 2, 40), torch.ones(1, 40, 1)]
    biases = [torch.zeros(1, 1, 40), torch.zeros(1, 1, 1)]
    x = torch.ones(1, 30, 2)
    x[0, 17, 1] = bad
    with using("native"):
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
    head = torch.tensor([[40.0, -40.0, 1e-4, 1e-6, 0.0, 0.0, -9.0, -20.0]])
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
    with pytest.raises(ValueError, match="native has precision fp32 only, found 'bf16'"):
        backend.use("native", "bf16")
    with pytest.raises(ValueError, match=r"level: expected one of .*generic, found warp"):
        native.use_level("warp")
    with pytest.raises(ValueError, match="native needs the CPU, and the device is cuda"):
        backend.choose_backend("native", torch.device("cuda"))


def test_auto_is_native_here():
    before = backend.active()
    try:
        assert backend.choose_backend("auto", torch.device("cpu"))["backend"] == "native"
        assert backend.choose_backend("auto", torch.device("cpu"), "bf16")["backend"] == "reference"
    finally:
        backend.use(*before)


def test_results_do_not_depend_on_threads():
    """The same sums in the same order, whoever computes them."""
    weights, biases = ([t.float() for t in ts] for ts in make_network(3, (14, 200, 200, 24)))
    x = draw(3, 256, 14).float().requires_grad_()
    leaves = [t.requires_grad_() for t in (x, *weights, *biases)]
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with using("native"):
            out = kernels.ensemble_mlp(x, weights, biases, "swish")
            found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert torch.equal(a, b)


def test_operators_are_registered_soundly():
    check_operators("native")


def test_full_graph_compile():
    check_full_graph("native")


@pytest.mark.parametrize(("rows", "sizes"), [(1, (3, 1)), (63, (5, 2)), (256, (11, 3))])
@pytest.mark.parametrize("packed", [True, False])
def test_sac_gradients(rows, sizes, packed):
    """Against the objectives and autograd, in float64."""
    obs_size, actions = sizes
    config = SACConfig(sac_hidden=(40, 23))
    cpu, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    sac = SAC(obs_size, actions, config, generator, cpu)
    with torch.no_grad():  # biases start at 0: relus at their kink
        for p in sac.parameters():
            p += 0.1 * draw(*p.shape, seed=p.numel()).float()
    exact = copy.deepcopy(sac).double()
    width = 2 * obs_size + actions + 2
    batch = ReplayBuffer(obs_size, actions, 1).unpack(draw(rows, width))
    batch = batch._replace(terminated=(batch.terminated > 0).double())
    noise = draw(rows, actions, seed=3)

    def results(sac, dtype):
        moved = [t.to(dtype).clone() for t in batch]
        if packed:
            columns = torch.cat([t.reshape(rows, -1) for t in moved], dim=1)
            moved = ReplayBuffer(obs_size, actions, 1).unpack(columns)
        found = sac.critic_gradients(Transition(*moved), noise.to(dtype))
        return [*found, *sac.actor_gradients(moved[0], noise.to(dtype))]

    truth = results(exact, torch.float64)
    with using("native"):
        found = results(sac, torch.float32)
    for i, (a, b) in enumerate(zip(found, truth, strict=True)):
        if isinstance(b, torch.Tensor):
            assert_near_truth(a, b.detach(), "fp32", f"result {i}")
            continue
        for j, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_near_truth(x, y, "fp32", f"result {i}, gradient {j}")


def test_sac_gradients_refuse_what_does_not_fit():
    cpu, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    sac = SAC(3, 2, SACConfig(sac_hidden=(8,)), generator, cpu)
    bounds = (-20.0, 2.0)
    arguments = (sac.actor.net.layers, sac.critic.net.layers, sac.log_temperature, bounds)
    obs, noise = torch.zeros(5, 3), torch.zeros(5, 2)
    with pytest.raises(ValueError, match="expected native to be active, found reference"):
        kernels.sac_actor_gradients(obs, noise, *arguments)
    with using("native"):
        with pytest.raises(ValueError, match=r"noise: expected shape \(5, 2\), found \(4, 2\)"):
            kernels.sac_actor_gradients(obs, noise[:4], *arguments)
        with pytest.raises(ValueError, match=r"actor, layer 0: expected \(1, 4, 8\)"):
            kernels.sac_actor_gradients(torch.zeros(5, 4), noise, *arguments)
        with pytest.raises(ValueError, match=r"obs: expected torch.float32 .* found torch.float64"):
            kernels.sac_actor_gradients(obs.double(), noise, *arguments)
