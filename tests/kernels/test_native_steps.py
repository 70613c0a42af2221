"""The native gradient steps against the learners' own losses with autograd, in float64.

An optimiser's first moments after one step from zero are a tenth of the gradients, so they show
every gradient as the step used it.
"""

import copy

import pytest
import torch

from rmbpo_fast import kernels
from rmbpo_fast.algo import sac as sac_module
from rmbpo_fast.algo.correlation import noise_factor
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.gaussian_adversary import (
    PaperAdversary,
    PathwiseAdversary,
    ResidualAdversary,
)
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import SAC, EntropyDraw
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import AdversaryConfig, ModelConfig, SACConfig
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.steps.adversary_step import op as adversary_op
from rmbpo_fast.kernels.steps.nominal_step.reference import nominal_loss
from rmbpo_fast.kernels.testing import assert_near_truth, draw
from rmbpo_fast.worlds.transition import Transition

pytestmark = [
    pytest.mark.skipif(backend.native is None, reason="the native library isn't installed"),
    pytest.mark.usefixtures("native_level"),
]
CPU = torch.device("cpu")
S, A, E = 5, 2, 3
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])


def _stirred(module):
    """Moves every parameter: biases start at 0, where relus have their kink."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p += 0.1 * draw(*p.shape, seed=i).float()
    return module


def _double(module, optimizers):
    """A copy in float64, optimisers included; `optimizers(copy)` are they."""
    exact = copy.deepcopy(module).double()
    for optimizer in optimizers(exact):
        optimizer.state.clear()
    return exact


def _assert_same_gradients(found, truth, precision):
    found, truth = found.lists().exp_avgs, truth.lists().exp_avgs
    for i, (a, b) in enumerate(zip(found, truth, strict=True)):
        assert_near_truth(a, b, precision, f"gradient {i}")


def _world_model(hidden=(23, 40), **settings):
    config = ModelConfig(num_members=E, model_hidden=hidden, **settings)
    generator = torch.Generator().manual_seed(0)
    bounds = (torch.full((S,), -1.0), torch.full((S,), 1.5))
    model = _stirred(WorldModel(S, A, config, *bounds, generator, CPU))
    for group in model.optimizer.param_groups[: len(hidden) + 1]:
        group["weight_decay"] = 1e-3
    model.noise_factor.copy_(noise_factor(draw(50, S + 1) @ draw(S + 1, S + 1, seed=7)))
    return model


def _sac(**settings):
    config = SACConfig(sac_hidden=(40, 23), **settings)
    sac = _stirred(SAC(S, A, config, torch.Generator().manual_seed(1), CPU))
    for critic in (sac.critic, sac.target_critic):  # a mean of Q that is no small difference
        critic.net.biases[-1].data += 1.0
    return sac


@PRECISIONS
@pytest.mark.parametrize("rows", [1, 63, 256])
def test_nominal_step(rows, precision):
    model = _world_model()
    exact = _double(model, lambda m: [m.optimizer])
    table = (draw(300, S + A), draw(300, S + 1, seed=2))
    batch = torch.randint(300, (E, rows), generator=torch.Generator().manual_seed(0))
    exact.table = table
    exact._train_step(batch)
    model.table = tuple(t.float() for t in table)
    with using("native", precision):
        model._train_step(batch)
    _assert_same_gradients(model.optimizer, exact.optimizer, precision)
    if precision == "fp32":
        for found, truth in zip(model.parameters(), exact.parameters(), strict=True):
            assert_near_truth(found, truth.detach(), "fp32")


def test_nominal_step_gives_the_loss_before_it():
    model = _world_model()
    inputs, targets = draw(E, 63, S + A).float(), draw(E, 63, S + 1, seed=2).float()
    bounds = (model.min_logvar, model.max_logvar, 0.01)
    expected = nominal_loss(model.net(inputs), targets, *bounds).item()
    with using("native"):
        state = model.optimizer.lists()
        found = kernels.nominal_step_(inputs, targets, model.net.layers, *bounds, state)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@PRECISIONS
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "entropy elsewhere"])
@pytest.mark.parametrize("rows", [1, 63, 256])
def test_sac_step(rows, elsewhere, packed, precision):
    """Steps too small to matter, so that the actor's gradient is at the same critics."""
    # an entropy target far off, so that the temperature's gradient is no small difference
    sac = _sac(sac_lr=1e-12, target_entropy=-20.0)
    exact = _double(sac, lambda s: s.optimizers.values())
    replay = ReplayBuffer(S, A, 1)
    batch = replay.unpack(draw(rows, replay.width))
    batch = batch._replace(terminated=(batch.terminated > 0).double())
    noises = [draw(rows, A, seed=i) for i in (3, 4)]
    entropy = EntropyDraw(draw(rows, S, seed=5), draw(rows, A, seed=6)) if elsewhere else None
    truth = exact.step(batch, *noises, entropy)
    moved = [t.float() for t in batch]
    if packed:
        moved = replay.unpack(torch.cat([t.reshape(rows, -1) for t in moved], dim=1))
    with using("native", precision):
        entropy = entropy and EntropyDraw(*(t.float() for t in entropy))
        found = sac.step(Transition(*moved), *(n.float() for n in noises), entropy)
    assert found.keys() == truth.keys()
    for name in found:
        assert_near_truth(found[name], truth[name], precision, name)
    kinks = "bf16_kinks" if precision == "bf16" else precision
    for name in sac.optimizers:
        _assert_same_gradients(sac.optimizers[name], exact.optimizers[name], kinks)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "entropy elsewhere"])
def test_sac_step_moves_what_the_reference_moves(elsewhere, monkeypatch):
    """Parameters and targets after three steps: the actor sees the new critics, targets follow."""
    monkeypatch.setattr(sac_module, "TAU", 0.3)
    sac = _sac(sac_lr=1e-2)
    other = copy.deepcopy(sac)
    replay = ReplayBuffer(S, A, 1)
    for seed in range(3):
        batch = replay.unpack(draw(64, replay.width, seed=seed).float())
        batch = batch._replace(terminated=(batch.terminated > 0).float())
        noises = [draw(64, A, seed=10 + seed + i).float() for i in (0, 1)]
        # far off, where the step changes the policy more
        where = EntropyDraw(30 * draw(64, S, seed=20).float(), noises[0]) if elsewhere else None
        sac.step(batch, *noises, where)
        with using("native"):
            other.step(batch, *noises, where)
    for (name, p), q in zip(sac.state_dict().items(), other.state_dict().values(), strict=True):
        # Adam's steps are about lr whatever the gradient's size, so a gradient near 0 may differ
        torch.testing.assert_close(q, p, rtol=0, atol=2e-3, msg=name)
        assert (q - p).abs().mean() < 1e-5, name


def _game(sac, model):
    def rule(obs):  # ends about half of the rows
        return obs[..., 0] > 0.1

    return Game(model, sac, rule)


@PRECISIONS
@pytest.mark.parametrize("rows", [1, 63, 256])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("settings", [{}, {"adversary_dims": (0, S)}], ids=str)
def test_adversary_step(rows, settings, correlated, precision):
    config = AdversaryConfig(eta=0.3, kl_target_nats=None, **settings)
    model, sac = _world_model(correlated_noise=correlated), _sac()
    generator = torch.Generator().manual_seed(2)
    adversary = _stirred(ResidualAdversary(S, A, config, (40, 23), E, generator, CPU))
    exact = _double(adversary, lambda a: [a.optimizer])
    exact_game = _game(copy.deepcopy(sac).double(), copy.deepcopy(model).double())
    exact_game.world_model.obs_low = exact_game.world_model.obs_low.double()
    exact_game.world_model.obs_high = exact_game.world_model.obs_high.double()
    arguments = [draw(E, rows, n, seed=n) for n in (S, A, S + 1)] + [draw(E, rows, A, seed=99)]
    truth = exact.train_step(exact_game, *arguments)
    with using("native", precision):
        found = adversary.train_step(_game(sac, model), *(t.float() for t in arguments))
    assert_near_truth(found, truth, precision, "loss")
    _assert_same_gradients(adversary.optimizer, exact.optimizer, precision)


@PRECISIONS
@pytest.mark.parametrize("settings", [{}, {"adversary_dims": (0, S)}], ids=str)
def test_prediction_of_g(settings, precision):
    model, generator = _world_model(), torch.Generator().manual_seed(2)
    config = AdversaryConfig(**settings)
    adversary = _stirred(ResidualAdversary(S, A, config, (40, 23), E, generator, CPU))
    inputs, members = draw(2, 63, S + A), torch.tensor([2, 0])
    with torch.no_grad():
        exact = copy.deepcopy(adversary).double()
        truth = exact.predict(copy.deepcopy(model).double(), inputs, members)
        with using("native", precision):
            found = adversary.predict(model, inputs.float(), members)
    for a, b in zip(found, truth, strict=True):
        assert_near_truth(a, b, precision)


@pytest.mark.parametrize(
    ("kind", "fused", "correlated"),
    [
        *((ResidualAdversary, 1, correlated) for correlated in (False, True)),
        *((PathwiseAdversary, 0, correlated) for correlated in (False, True)),
        (PaperAdversary, 0, False),  # it has no noise of its own to shift
    ],
)
def test_the_adversarys_training_takes_the_native_step(kind, fused, correlated, monkeypatch):
    """And its own loss where the step is of another objective."""
    sac, model = _sac(), _world_model(correlated_noise=correlated)
    real = ReplayBuffer(S, A, 100)
    real.add_(draw(100, real.width).float())
    rows = torch.randint(100, (1, E, 8))
    taken, step = [], adversary_op.adversary_step_native_
    watched = lambda *a: taken.append(1) or step(*a)  # noqa: E731
    monkeypatch.setattr(adversary_op, "adversary_step_native_", watched)
    generator = torch.Generator().manual_seed(0)
    adversary = kind(S, A, AdversaryConfig(), (40, 23), E, generator, CPU)
    before = [p.detach().clone() for p in adversary.parameters()]
    with using("native"):
        adversary.train_steps(rows, real, _game(sac, model), generator)
    assert len(taken) == fused
    moved = zip(before, adversary.parameters(), strict=True)
    assert any(not torch.equal(p, q) for p, q in moved)


def _everything(sac, model, adversary):
    for module in (sac, model, adversary):
        yield from module.state_dict().values()
    for optimizer in (*sac.optimizers.values(), model.optimizer, adversary.optimizer):
        for state in optimizer.state.values():
            yield from state.values()


def test_steps_refuse_what_does_not_fit_and_write_nothing():
    sac, model = _sac(), _world_model()
    generator = torch.Generator().manual_seed(2)
    adversary = ResidualAdversary(S, A, AdversaryConfig(), (40, 23), E, generator, CPU)
    optimizers = kernels.SacOptimizers(
        *(sac.optimizers[n].lists() for n in ("actor", "critic", "temperature"))
    )
    networks = kernels.SacNetworks(
        *(net.net.layers for net in (sac.actor, sac.critic, sac.target_critic))
    )
    settings = kernels.SacSettings(-20.0, 2.0, 0.99, 0.005, -1.0)
    columns = [torch.zeros(8, n) for n in (S, A)], torch.zeros(8), torch.zeros(8, S)
    batch = kernels.SacBatch(
        *columns[0], columns[1], columns[2], columns[1], torch.zeros(8, A), torch.zeros(8, A)
    )
    bounds = (model.min_logvar, model.max_logvar)
    inputs, targets = torch.zeros(E, 8, S + A), torch.zeros(E, 8, S + 1)

    def sac_step(**changes):
        arguments = {
            "batch": batch,
            "networks": networks,
            "log_temperature": sac.log_temperature,
            "optimizers": optimizers,
            "settings": settings,
        }
        return kernels.sac_step_(**{**arguments, **changes})

    def nominal(inputs=inputs, targets=targets, layers=model.net.layers, optimizer=None):
        optimizer = optimizer or model.optimizer.lists()
        return kernels.nominal_step_(inputs, targets, layers, *bounds, 0.01, optimizer)

    nominal_layers = kernels.Nominal(model.net.layers, *bounds, model.obs_low, model.obs_high)
    mask = torch.ones(S + 1, dtype=torch.bool)

    states = torch.zeros(E, 8, S)

    def drawn(inputs=inputs, obs=states, eps=targets, mask=mask):
        return kernels.adversary_draw(inputs, obs, eps, nominal_layers, adversary.net.layers, mask)

    def adversary_step(draw, **changes):
        arguments = {
            "advantage": torch.zeros(E, 8),
            "adversary": adversary.net.layers,
            "mask": mask,
            "eta": torch.tensor(0.1),
            "optimizer": adversary.optimizer.lists(),
        }
        return kernels.adversary_step_(inputs, draw, **{**arguments, **changes})

    with using("native"):
        good = drawn()
        model.optimizer.lists(), adversary.optimizer.lists()
        before = [t.clone() for t in _everything(sac, model, adversary)]
        cases = [
            (lambda: sac_step(batch=batch._replace(actor_noise=torch.zeros(7, A))),
             r"actor_noise: expected shape \(8, 2\), found \(7, 2\)"),
            (lambda: sac_step(batch=batch._replace(reward=torch.zeros(8).double())),
             "reward: expected torch.float32 on cpu, found torch.float64"),
            (lambda: sac_step(batch=batch._replace(
                **{n: t.double() for n, t in batch._asdict().items() if t is not None})),
             "log_temperature: expected torch.float64 on cpu, found torch.float32"),
            (lambda: sac_step(batch=batch._replace(obs=torch.zeros(8, S, device="meta"))),
             "action: expected torch.float32 on meta, found torch.float32 on cpu"),
            (lambda: sac_step(batch=batch._replace(entropy_obs=torch.zeros(8, S))),
             "expected entropy_obs and entropy_noise together, found one of them"),
            (lambda: sac_step(batch=batch._replace(
                entropy_obs=torch.zeros(7, S), entropy_noise=torch.zeros(8, A))),
             r"entropy_obs: expected shape \(8, 5\), found \(7, 5\)"),
            (lambda: sac_step(networks=networks._replace(target=networks.actor)), "target, layer"),
            (lambda: sac_step(optimizers=optimizers._replace(actor=optimizers.critic)),
             "actor: expected an optimiser of"),
            (lambda: nominal(inputs=torch.zeros(E, 7, S + A)),
             r"inputs: expected shape \(3, 8, 7\), found \(3, 7, 7\)"),
            (lambda: nominal(targets=targets.double()), "targets: expected torch.float32"),
            (lambda: nominal(layers=adversary.net.layers), "expected an optimiser of"),
            (lambda: nominal(optimizer=adversary.optimizer.lists()), "expected an optimiser of"),
            (lambda: drawn(obs=torch.zeros(E, 8, S + 1)), "obs: expected shape"),
            (lambda: drawn(mask=mask[1:]), r"mask: expected shape \(6,\)"),
            (lambda: kernels.residual_gaussian(targets, targets[:, :7], *bounds, mask),
             r"head_g: expected shape \(3, 8, 6\), found \(3, 7, 6\)"),
            (lambda: adversary_step(good, advantage=torch.zeros(E, 8).double()),
             "advantage: expected torch.float32"),
            (lambda: adversary_step(good, advantage=torch.zeros(E, 7)),
             r"advantage: expected shape \(3, 8\)"),
            (lambda: adversary_step(good, eta=torch.zeros(1)), r"eta: expected shape \(\)"),
        ]  # fmt: skip
        for call, words in cases:
            with pytest.raises(ValueError, match=words):
                call()
        after = list(_everything(sac, model, adversary))
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
