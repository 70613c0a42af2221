from dataclasses import replace

import pytest
import torch

import toy
from rmbpo_fast.algo import adversary_fit
from rmbpo_fast.algo.adversary_fit import BALL
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.kernels import gaussian_kl
from rmbpo_fast.run.agent import ADVERSARIES


@pytest.fixture(scope="module")
def model_fit():
    """The line needs few."""
    return {"LOOK_EVERY": 50, "MAX_STEPS": 300}


@pytest.fixture(scope="module")
def game():
    """A fitted model and a critic that prefers the middle of the line."""
    generator = torch.Generator().manual_seed(0)
    data = toy.real_data(600, generator)
    model = toy.world_model(generator)
    model.fit(data, generator)
    agent = toy.sac(generator, sac_lr=3e-3, gamma=0.9)
    toy.train_sac(agent, data, 300, generator)
    return Game(model, agent, toy.rule), data


def _adversary(max_steps=60, lr=1e-3, **settings):
    config = replace(toy.ADVERSARY, **settings)
    generator = torch.Generator().manual_seed(1)
    adversary = ADVERSARIES[config.adversary](1, 1, config, (16, 16), 3, generator, toy.CPU)
    adversary.max_steps = max_steps
    adversary.optimizer.param_groups[0]["lr"] = lr
    return adversary


def _both(adversary, game, data):
    rows = data.all()
    inputs = game.world_model.inputs(rows.obs, rows.action).expand(3, -1, -1)
    with torch.no_grad():
        return game.world_model.predict(inputs), adversary.predict(game.world_model, inputs)


def test_residual_is_exactly_p_before_its_first_step(game):
    game, data = game
    p, g = _both(_adversary(), game, data)
    assert torch.equal(p[0], g[0])
    assert torch.equal(p[1], g[1])


def test_full_starts_as_a_copy_of_p(game):
    game, data = game
    adversary = _adversary(adversary="paper")
    adversary.start_at_nominal(game.world_model)
    p, g = _both(adversary, game, data)
    assert torch.equal(p[0], g[0])
    assert torch.equal(p[1], g[1])


@pytest.mark.parametrize("kind", ADVERSARIES)
def test_lowers_the_value_within_a_small_ball(game, kind, generator):
    game, data = game
    adversary = _adversary(adversary=kind, eta=1.0)
    report = toy.fit(adversary, data, game, generator)
    assert report["adversary/value_drop"] > 0
    # it pays: KL costs less than eta times the drop, or the adversary had better stay at p
    assert 0 < report["adversary/kl_nats"] < report["adversary/value_drop"]


def test_a_larger_eta_is_more_pessimistic(game):
    game, data = game
    reports = [
        toy.fit(_adversary(120, eta=eta), data, game, torch.Generator().manual_seed(2))
        for eta in (0.2, 2.0)
    ]
    assert reports[1]["adversary/value_drop"] > 2 * reports[0]["adversary/value_drop"]
    assert reports[1]["adversary/kl_nats"] > reports[0]["adversary/kl_nats"]


def test_residual_steps_down_the_loss_that_the_others_share(game, generator):
    """Its own train_step is made of other operations than `loss` and autograd."""
    game, _ = game
    stepped, by_autograd = _adversary(eta=1.0), _adversary(eta=1.0)
    for _ in range(3):  # g = p at the first step
        arguments = [torch.randn(3, 32, n, generator=generator) for n in (1, 1, 2, 1)]
        loss = by_autograd.loss(game, *arguments)
        torch.testing.assert_close(stepped.train_step(game, *arguments), loss.detach())
        by_autograd.optimizer.minimize(loss)
        for found, expected in zip(stepped.parameters(), by_autograd.parameters(), strict=True):
            torch.testing.assert_close(found, expected)


def test_eta_zero_leaves_g_at_p_bit_for_bit(game, generator):
    """Every gradient is exactly zero: no stopping rule is involved."""
    game, data = game
    adversary = _adversary(eta=0.0)
    rows = data.all()
    obs, action = (t.expand(3, -1, -1) for t in (rows.obs, rows.action))
    eps, noise = torch.randn(3, len(data), 2), torch.randn(3, len(data), 1)
    for _ in range(5):
        adversary.train_step(game, obs, action, eps, noise)
    p, g = _both(adversary, game, data)
    assert torch.equal(p[0], g[0])
    assert torch.equal(p[1], g[1])


def test_masked_dimensions_copy_p(game, generator):
    game, data = game
    adversary = _adversary(adversary_dims=(1,), eta=2.0)
    toy.fit(adversary, data, game, generator)
    p, g = _both(adversary, game, data)
    for ours, theirs in zip(g, p, strict=True):
        assert torch.equal(ours[..., 0], theirs[..., 0])
        assert not torch.equal(ours[..., 1], theirs[..., 1])


def test_a_mask_beyond_the_predicted_numbers_is_refused():
    with pytest.raises(ValueError, match=r"expected 0 to 1, found \(2,\)"):
        _adversary(adversary_dims=(2,))


def test_logvar_change_is_bounded(game):
    game, data = game
    adversary = _adversary()
    with torch.no_grad():
        adversary.net.biases[-1].fill_(1e4)
    p, g = _both(adversary, game, data)
    torch.testing.assert_close(g[1] - p[1], torch.full_like(p[1], 2.0))


def test_residual_kl_does_not_depend_on_p(game, generator):
    """KL = sum of (exp(l) - l - 1 + m^2) / 2 in units of p's spread, so it survives p's refit."""
    game, data = game
    adversary = _adversary(eta=2.0)
    toy.fit(adversary, data, game, generator)
    rows = data.all()
    inputs = game.world_model.inputs(rows.obs, rows.action).expand(3, -1, -1)
    found = []
    for shift in (0.0, 3.0):
        mean_p = torch.full((3, len(data), 2), shift)
        logvar_p = torch.full_like(mean_p, -shift)
        mean_g, logvar_g = adversary.around(game.world_model, inputs, mean_p, logvar_p)
        found.append(gaussian_kl(mean_g, logvar_g, mean_p, logvar_p))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["kl_target_nats", "drop_target"])
def test_a_target_moves_eta_towards_it(game, generator, name):
    game, data = game
    for target, grows in ((10.0, True), (1e-9, False)):
        adversary = _adversary(**{name: target})
        toy.fit(adversary, data, game, generator)
        assert (adversary.eta.item() > 0.3) == grows


def test_kl_target_is_met_after_some_fits(game, generator):
    game, data = game
    adversary = _adversary(eta=0.1, kl_target_nats=0.02, lr=3e-3)
    kl = [toy.fit(adversary, data, game, generator)["adversary/kl_nats"].item() for _ in range(8)]
    assert 0.015 < sum(kl[-3:]) / 3 < 0.025


def test_a_fit_with_a_kl_target_stays_in_a_ball_around_p(game):
    """Though the best response to its eta is far outside; and eta falls, which it would not do for
    the KL inside."""
    game, data = game
    kl, eta = [], []
    for target in (None, 0.005):
        adversary = _adversary(kl_target_nats=target, eta=50.0)
        for _ in range(3):
            # the same rows are held out in each fit: on others g may start outside
            same = torch.Generator().manual_seed(2)
            kl.append(toy.fit(adversary, data, game, same)["adversary/kl_nats"].item())
            eta.append(adversary.eta.item())
        moments = [t for state in adversary.optimizer.state.values() for t in state.values()]
    assert kl[2] > 1.0
    assert 0.0 < max(kl[3:]) <= BALL * 0.005
    assert eta[3:] == sorted(eta[3:], reverse=True)
    assert eta[3] < 50.0
    assert not any(t.any() for t in moments)  # they would point outside again


def test_drop_target_is_met_after_some_fits(game, generator):
    game, data = game
    adversary = _adversary(eta=0.02, kl_target_nats=None, drop_target=0.1, lr=3e-3)
    name = "adversary/newest_drop_share"
    shares = [toy.fit(adversary, data, game, generator)[name].item() for _ in range(8)]
    assert 0.08 < sum(shares[-3:]) / 3 < 0.12


def test_what_is_said_of_the_newest_states_is_of_them_alone(game, generator, monkeypatch):
    """And the share of V is the drop of a step in each of the 1 / (1 - gamma) to come."""
    game, data = game
    monkeypatch.setattr(adversary_fit, "HOLDOUT_MAX_ROWS", 100)
    adversary = _adversary(eta=1.0)
    toy.fit(adversary, data, game, generator)
    old = ReplayBuffer(1, 1, 300)
    old.add_(torch.full((200, data.width), float("nan")))
    old.add_(data.oldest_first()[-100:])
    state = generator.get_state()
    found = adversary.report_newest(old, game, generator)
    rows = torch.arange(500, 600).expand(3, -1)
    drawn = adversary.draw(rows, data, game, generator.set_state(state))
    expected = adversary.effect(game, *drawn)
    assert found["adversary/newest_kl_nats"] == expected.kl.sum(-1).mean() > 0
    share = 10 * expected.drop.mean() / expected.value.mean().abs()
    torch.testing.assert_close(found["adversary/newest_drop_share"], share)  # gamma is 0.9


def test_a_fit_goes_on_from_the_last_one(game, generator):
    game, data = game
    adversary = _adversary(eta=2.0)
    toy.fit(adversary, data, game, generator)
    learned = adversary.net.weights[-1].detach().clone()
    adversary.max_steps = 1
    toy.fit(adversary, data, game, generator)
    assert (adversary.net.weights[-1] - learned).norm() < 0.5 * learned.norm()


def test_the_adversary_gains_from_making_the_agent_fail(game):
    """done(s') is part of the target: a final state is worth its reward only."""
    game, _ = game
    noise, obs = torch.zeros(1, 2, 1), torch.full((1, 2, 1), 1.9)
    sample = torch.tensor([[[0.05, -1.0], [0.15, -1.0]]])  # the second crosses the end at 2
    alive, failed = game.target(obs, sample, noise)[0].tolist()
    assert failed == -1.0
    assert alive != -1.0


def test_value_spread_under_p_is_measured(game, generator):
    """Against many draws at the same states: the report's std of V(s') under p."""
    game, data = game
    adversary = _adversary()
    report = toy.fit(adversary, data, game, generator)
    rows = data.sample(500, generator)
    obs, action = (t.expand(3, -1, -1) for t in (rows.obs, rows.action))
    mean, logvar = game.world_model.predict(game.world_model.inputs(obs, action))
    noise = torch.randn(3, 500, 1, generator=generator)
    with torch.no_grad():
        draws = torch.stack(
            [
                game.target(obs, mean + torch.exp(logvar / 2) * torch.randn_like(mean), noise)
                for _ in range(50)
            ]
        )
    expected = draws.var(0).mean().sqrt().item()
    assert report["adversary/value_std"].item() == pytest.approx(expected, rel=0.25)
