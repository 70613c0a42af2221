"""Noise that moves several predicted numbers at once: --correlated-noise."""

from dataclasses import replace
from functools import cache, partial

import mujoco
import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov

import toy
from rmbpo_fast.algo import world_model
from rmbpo_fast.algo.correlation import noise_factor
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.gaussian_adversary import PathwiseAdversary, ResidualAdversary
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import SAC
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import SACConfig
from rmbpo_fast.kernels import backend
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.transition import Transition

MODEL = replace(toy.MODEL, model_batch_size=32)
CORRELATED = replace(MODEL, correlated_noise=True)


def _drawn(count, correlation, generator):
    factor = torch.linalg.cholesky(torch.tensor(correlation))
    return torch.randn(count, len(factor), generator=generator) @ factor.T


def test_the_factor_has_the_correlation_of_the_errors(generator):
    expected = [[1.0, -0.8, 0.3], [-0.8, 1.0, 0.0], [0.3, 0.0, 1.0]]
    factor = noise_factor(_drawn(20_000, expected, generator) * torch.tensor([1.0, 50.0, 0.01]))
    torch.testing.assert_close(factor @ factor.T, torch.tensor(expected), atol=0.02, rtol=0)
    assert torch.equal(factor, factor.tril())
    torch.testing.assert_close(factor.square().sum(1), torch.ones(3))


def test_rows_that_no_gaussian_explains_dont_decide_it(generator):
    errors = _drawn(2_000, [[1.0, 0.0], [0.0, 1.0]], generator)
    errors[:5] = 1_000.0  # a plain correlation would be 1
    factor = noise_factor(errors)
    assert (factor @ factor.T)[0, 1].abs() < 0.1


def test_one_cause_of_all_numbers_leaves_the_factor_invertible(generator):
    """And a number that never errs has no correlation that would spoil the others'."""
    cause = torch.randn(500, 1, generator=generator)
    errors = torch.cat([cause, -2.0 * cause, torch.zeros(500, 2)], dim=1)
    factor = noise_factor(errors)
    assert torch.isfinite(factor).all()
    assert factor.diagonal().min() > 0.01
    noise = torch.randn(2_000, 4, generator=generator) @ factor.T
    assert torch.corrcoef(noise[:, :2].T)[0, 1] < -0.99
    assert torch.equal(factor[2:], torch.eye(4)[2:])
    assert torch.equal(noise_factor(errors[:1]), torch.eye(4))


def _pushed(count, generator):
    """One force moves both observations of a step, the second the other way and twice as far."""
    obs = torch.rand(count, 2, generator=generator) - 0.5
    action = torch.rand(count, 1, generator=generator) * 2 - 1
    force = 0.1 * torch.randn(count, 1, generator=generator)
    change = torch.cat([0.2 * action + force, -2.0 * force], dim=1)
    reward = obs[:, 0] + 0.05 * torch.randn(count, generator=generator)
    data = ReplayBuffer(2, 1, count)
    data.add_(data.pack(Transition(obs, action, reward, obs + change, torch.zeros(count))))
    return data


def _model(config, generator):
    free = torch.full((2,), torch.inf)
    model = WorldModel(2, 1, config, -free, free, generator, toy.CPU)
    for group in model.optimizer.param_groups:
        group |= {"lr": 1e-2, "weight_decay": 0.0}
    return model


@pytest.fixture(scope="module")
def pushed():
    generator = torch.Generator().manual_seed(0)
    data, model = _pushed(2_000, generator), _model(CORRELATED, generator)
    with pytest.MonkeyPatch.context() as patch:
        # enough to learn the noise's level, which the optimum below depends on
        patch.setattr(world_model, "PATIENCE_LOOKS", 20)
        model.fit(data, generator)
    return model, data


def _steps(dynamics, model, count=4_000):
    """Steps from one state: (change of two observations, reward), [count, 3]."""
    inputs = model.inputs(torch.zeros(count, 2), torch.zeros(count, 1)).expand(2, -1, -1)
    noise = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        mean, logvar, noise = dynamics(inputs, model.elites, noise)
    return (mean + torch.exp(0.5 * logvar) * noise)[0]


def test_a_force_moves_imagined_numbers_together_and_each_as_far_as_before(pushed):
    model, _ = pushed
    steps = _steps(model.dynamics, model)
    correlation = torch.corrcoef(steps.T)
    assert correlation[0, 1] < -0.97
    assert correlation[:2, 2].abs().max() < 0.1
    torch.testing.assert_close(steps.std(0), torch.tensor([0.1, 0.2, 0.05]), rtol=0.2, atol=0)


def test_without_it_each_number_is_drawn_on_its_own(generator):
    model = _model(MODEL, generator)
    model.fit(_pushed(500, generator), generator)
    assert torch.corrcoef(_steps(model.dynamics, model).T)[0, 1].abs() < 0.1
    assert "noise_factor" not in model.state_dict()  # older checkpoints don't have it either


def test_the_factor_is_part_of_a_checkpoint(pushed, generator):
    model, _ = pushed
    other = _model(CORRELATED, generator)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.noise_factor, model.noise_factor)
    assert not torch.equal(other.noise_factor, torch.eye(3))


class _Downhill(SAC):
    """V(s) = s1 + 2 s2, whatever the action."""

    def value(self, obs, noise):
        return obs @ torch.tensor([1.0, 2.0])


def _game(model, generator):
    agent = _Downhill(2, 1, SACConfig(sac_hidden=(8,), gamma=1.0), generator, toy.CPU)
    return Game(model, agent, lambda obs: torch.zeros(obs.shape[:-1], dtype=torch.bool))


def _adversary(kind=ResidualAdversary, **settings):
    config = replace(toy.ADVERSARY, **settings)
    return kind(2, 1, config, (16, 16), 3, torch.Generator().manual_seed(1), toy.CPU)


def test_g_is_p_before_its_first_step(pushed):
    model, _ = pushed
    adversary = _adversary()
    theirs = _steps(lambda *args: adversary.dynamics(model, *args), model)
    assert torch.equal(theirs, _steps(model.dynamics, model))


@pytest.mark.parametrize("kind", [ResidualAdversary, PathwiseAdversary])
def test_its_loss_is_one_graph_to_torch_compile(pushed, generator, kind, monkeypatch):
    """As on a GPU, where a graph break is an error; here without a compiler behind the tracing."""
    model, _ = pushed
    game = _game(model, generator)
    arguments = [torch.randn(3, 4, n, generator=generator) for n in (2, 1, 3, 1)]
    eager = _adversary(kind).train_step(game, *arguments)
    tracer = partial(torch.compile, fullgraph=True, backend="eager")
    monkeypatch.setattr(backend, "_compiled", cache(tracer))
    with backend.using("reference", fuse=True):
        torch.testing.assert_close(_adversary(kind).train_step(game, *arguments), eager)


def test_a_residual_step_goes_down_the_same_loss(pushed, generator):
    model, _ = pushed
    game = _game(model, generator)
    stepped, by_autograd = _adversary(), _adversary()
    for _ in range(3):  # g = p at the first step
        arguments = [torch.randn(3, 32, n, generator=generator) for n in (2, 1, 3, 1)]
        loss = by_autograd.loss(game, *arguments)
        torch.testing.assert_close(stepped.train_step(game, *arguments), loss.detach())
        by_autograd.optimizer.minimize(loss)
        for found, expected in zip(stepped.parameters(), by_autograd.parameters(), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", [ResidualAdversary, PathwiseAdversary])
def test_the_optimum_pushes_along_the_force(pushed, generator, kind):
    """For a linear V, g* = p exp(-eta V) moves the mean by -eta Sigma grad V, Sigma p's covariance,
    at a KL of eta^2 Var(V) / 2. With one force that is one way, though V would have both fall."""
    model, data = pushed
    game, eta = _game(model, generator), 1.5
    adversary = _adversary(kind, eta=eta)
    adversary.max_steps = 600
    adversary.optimizer.param_groups[0]["lr"] = 3e-3
    report = toy.fit(adversary, data, game, generator)
    gradient = torch.tensor([1.0, 2.0, 1.0])  # of V over s1 and s2, and of the reward
    p = _steps(model.dynamics, model)
    g = _steps(lambda *args: adversary.dynamics(model, *args), model)
    expected = -eta * torch.cov(p.T) @ gradient
    assert expected[0] > 0 > expected[1]
    torch.testing.assert_close((g - p).mean(0), expected, rtol=0.25, atol=0.01)
    variance = (p @ gradient).var()
    torch.testing.assert_close(
        report["adversary/kl_nats"], eta**2 * variance / 2, rtol=0.3, atol=0.0
    )
    torch.testing.assert_close(report["adversary/value_drop"], eta * variance, rtol=0.3, atol=0.0)


def test_the_effect_is_told_of_the_predicted_numbers_and_not_of_their_noise(pushed, generator):
    """Shift and variance of each number as draws have them; KL in parts of its closed form."""
    model, _ = pushed
    adversary = _adversary()
    with torch.no_grad():  # the same m and l everywhere
        adversary.net.biases[-1].copy_(
            torch.tensor([0.5, -0.2, 0.3, 0.4, -0.6, 0.2]).expand(3, 1, -1)
        )
    obs, action = torch.zeros(2, 1, 2), torch.zeros(2, 1, 1)
    noise = torch.zeros(2, 1, 3)
    game = _game(model, generator)
    found = adversary.effect(game, obs, action, noise, action, model.elites)
    p = _steps(model.dynamics, model, 100_000)
    g = _steps(lambda *args: adversary.dynamics(model, *args), model, 100_000)
    shift = (g.mean(0) - p.mean(0)) / p.std(0)
    torch.testing.assert_close(found.shift[0, 0], shift, atol=0.02, rtol=0)
    change = 2.0 * (g.std(0) / p.std(0)).log()
    torch.testing.assert_close(found.logvar_change[0, 0], change, atol=0.02, rtol=0)
    covariance, mean = torch.cov(p.T), g.mean(0) - p.mean(0)
    inverse = torch.linalg.inv(covariance)
    ratio = inverse @ torch.cov(g.T)
    kl = 0.5 * (ratio.trace() - 3 - torch.logdet(ratio) + mean @ inverse @ mean)
    torch.testing.assert_close(found.kl[0, 0].sum(), kl, rtol=0.05, atol=0)


def _upright_pendulum():
    """A [4, 4] and B [4] of s' = A s + B u around the upright pole, a step of two frames."""
    model = Physics(find_task("inverted_pendulum")).model
    data = mujoco.MjData(model)

    def step(state, force):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[0] = state[:2], state[2:], force
        mujoco.mj_step(model, data, 2)
        return np.concatenate([data.qpos, data.qvel])

    small = 1e-5
    columns = [(step(small * e, 0.0) - step(-small * e, 0.0)) / (2 * small) for e in np.eye(4)]
    push = (step(np.zeros(4), small) - step(np.zeros(4), -small)) / (2 * small)
    return np.stack(columns, axis=1), push


def test_drawn_on_their_own_the_pendulums_numbers_let_the_cart_wander_to_its_rails_end(generator):
    """The stationary spread of a balanced pendulum in noise of the force, from Lyapunov's equation,
    with the gains of the authors' released policies: the cart stays within centimetres, but not
    where each number has its own noise of the same std. The rail ends at 1 m."""
    a, push = _upright_pendulum()
    loop = a + np.outer(push, [2.0, 28.0, 2.0, 2.5])
    std = 0.2 * np.abs(push)
    errors = torch.randn(2_000, 1, generator=generator) * torch.tensor(push).float()
    factor = noise_factor(errors).double().numpy()
    noises = {
        "one force": 0.2**2 * np.outer(push, push),
        "alone": np.diag(std**2),
        "correlated": std[:, None] * (factor @ factor.T) * std,
    }
    wander = {
        name: np.sqrt(solve_discrete_lyapunov(loop, noise)[0, 0]) for name, noise in noises.items()
    }
    assert wander["one force"] < 0.02
    assert wander["alone"] > 0.4
    assert wander["correlated"] < 0.03
