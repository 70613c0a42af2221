import pytest
import torch

from rmbpo_fast.algo import world_model
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import ModelConfig
from rmbpo_fast.errors import DivergedError
from rmbpo_fast.worlds.transition import Transition

INF = torch.full((2,), torch.inf)


def _model(generator, low=-INF, high=INF, **settings):
    config = ModelConfig(model_hidden=(32, 32), **settings)
    return WorldModel(2, 1, config, low, high, generator, torch.device("cpu"))


def _data(count, generator, noise=0.0):
    """A linear system: state change (0.1 s1, a) and reward -s0, with Gaussian noise."""
    obs = torch.randn(count, 2, generator=generator) * torch.tensor([3.0, 0.5])
    action = torch.rand(count, 1, generator=generator) * 2 - 1
    change = torch.stack([0.1 * obs[:, 1], action[:, 0]], dim=1)
    change = change + noise * torch.randn(count, 2, generator=generator)
    reward = -obs[:, 0] + noise * torch.randn(count, generator=generator)
    buffer = ReplayBuffer(2, 1, count)
    buffer.add_(buffer.pack(Transition(obs, action, reward, obs + change, torch.zeros(count))))
    return buffer


def test_overfits_64_transitions(generator, monkeypatch):
    monkeypatch.setattr(world_model, "PATIENCE_EPOCHS", 20)
    monkeypatch.setattr(world_model, "LEARNING_RATE", 5e-3)
    model, data = _model(generator), _data(64, generator)
    report = model.fit(data, generator)
    rows = data.all()
    inputs = model.inputs(rows.obs, rows.action).expand(7, -1, -1)
    mean, _ = model.predict(inputs)
    error = (mean[..., -1] - rows.reward).square().mean() / rows.reward.var()
    assert error < 0.02
    assert report["world_model/epochs"] > 60


def test_learns_the_noise_level_as_exp_of_half_the_logvar(generator, monkeypatch):
    monkeypatch.setattr(world_model, "PATIENCE_EPOCHS", 15)
    model = _model(generator)
    data = _data(4_000, generator, noise=0.2)
    model.fit(data, generator)
    rows = data.all()
    _, logvar = model.predict(model.inputs(rows.obs, rows.action).expand(7, -1, -1))
    std = torch.exp(0.5 * logvar).mean(dim=(0, 1))
    torch.testing.assert_close(std, torch.full((3,), 0.2), rtol=0.2, atol=0)


def test_inputs_are_normalised_and_constant_ones_left_alone(generator):
    model, data = _model(generator), _data(500, generator)
    data.rows[:500, 1] = 7.0  # obs[1] is constant
    model.fit(data, generator)
    rows = data.all()
    inputs = model.inputs(rows.obs, rows.action)
    assert model.input_std[1] == 1.0
    assert inputs[:, 1].abs().max() < 1e-5
    # statistics are those of the training rows, four fifths of these
    assert inputs[:, 0].std().item() == pytest.approx(1.0, abs=0.1)


def test_elites_are_the_members_with_the_lowest_holdout_error(generator, monkeypatch):
    monkeypatch.setattr(world_model, "PATIENCE_EPOCHS", 1)
    model = _model(generator)
    report = model.fit(_data(300, generator), generator)
    errors = torch.stack([report[f"world_model/holdout_mse_{i}"] for i in range(7)])
    assert sorted(model.elites.tolist()) == sorted(errors.argsort()[:5].tolist())


def test_each_member_sees_one_bootstrap_for_the_whole_fit(generator, monkeypatch):
    """Members get different rows, and a member the same ones in each epoch."""
    monkeypatch.setattr(world_model, "PATIENCE_EPOCHS", 3)
    model, data = _model(generator, model_batch_size=1_000), _data(100, generator)
    seen = []
    original = world_model.nominal_step_

    def spy(inputs, *more):
        seen.append(inputs[..., 0].sort(dim=1).values)
        return original(inputs, *more)

    monkeypatch.setattr(world_model, "nominal_step_", spy)
    model.fit(data, generator)
    assert len(seen) > 3
    assert all(torch.equal(epoch, seen[0]) for epoch in seen)
    assert not torch.equal(seen[0][0], seen[0][1])
    assert len(set(seen[0][0].tolist())) < 70  # 80 draws with replacement from 80 rows


def test_member_choice_equals_the_full_prediction(generator):
    model = _model(generator)
    inputs, members = torch.randn(7, 4, 3), torch.tensor([5, 2])
    mean, logvar = model.predict(inputs)
    some_mean, some_logvar = model.predict(inputs[members], members)
    torch.testing.assert_close(some_mean, mean[members])
    torch.testing.assert_close(some_logvar, logvar[members])


def test_predictions_are_clipped_like_observations(generator):
    model = _model(generator, -torch.tensor([torch.inf, 10.0]), torch.tensor([torch.inf, 10.0]))
    next_obs, reward = model.next_state(
        torch.tensor([[50.0, 9.0]]), torch.tensor([[1.0, 5.0, 2.0]])
    )
    assert next_obs.tolist() == [[51.0, 10.0]]
    assert reward.tolist() == [2.0]


def test_weight_decay_is_the_gradient_of_half_the_squared_sum(generator):
    """One Adam step on a zero loss: only the decay term moves weights, against their sign."""
    model = _model(generator)
    before = [w.detach().clone() for w in model.net.weights]
    (0.0 * sum(p.sum() for p in model.parameters())).backward()
    model.optimizer.step()
    for old, new in zip(before, model.net.weights, strict=True):
        moved = old != new
        assert torch.equal(torch.sign(old - new)[moved], torch.sign(old)[moved])
        assert moved.float().mean() > 0.99
    assert all((b == 0).all() for b in model.net.biases)


def test_a_diverged_fit_says_so(generator):
    model, data = _model(generator), _data(100, generator)
    data.rows[0, 3] = torch.nan
    with pytest.raises(DivergedError, match="holdout error"):
        model.fit(data, generator)
