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
    monkeypatch.setattr(world_model, "PATIENCE_LOOKS", 20)
    monkeypatch.setattr(world_model, "LEARNING_RATE", 5e-3)
    model, data = _model(generator, model_batch_size=64), _data(64, generator)
    report = model.fit(data, generator)
    rows = data.all()
    inputs = model.inputs(rows.obs, rows.action).expand(7, -1, -1)
    mean, _ = model.predict(inputs)
    error = (mean[..., -1] - rows.reward).square().mean() / rows.reward.var()
    assert error < 0.02
    assert report["world_model/steps"] > 1_000


def test_learns_the_noise_level_as_exp_of_half_the_logvar(generator, monkeypatch):
    monkeypatch.setattr(world_model, "LEARNING_RATE", 3e-3)
    monkeypatch.setattr(world_model, "MAX_STEPS", 600)
    model = _model(generator)
    data = _data(4_000, generator, noise=0.2)
    model.fit(data, generator)
    rows = data.all()
    _, logvar = model.predict(model.inputs(rows.obs, rows.action).expand(7, -1, -1))
    std = torch.exp(0.5 * logvar).mean(dim=(0, 1))
    torch.testing.assert_close(std, torch.full((3,), 0.2), rtol=0.2, atol=0)


def test_inputs_are_normalised_and_constant_ones_left_alone(generator, monkeypatch):
    monkeypatch.setattr(world_model, "MAX_STEPS", 20)
    model, data = _model(generator), _data(500, generator)
    data.rows[:500, 1] = 7.0  # obs[1] is constant
    model.fit(data, generator)
    rows = data.all()
    inputs = model.inputs(rows.obs, rows.action)
    assert model.input_std[1] == 1.0
    assert inputs[:, 1].abs().max() < 1e-5
    # statistics are those of the training rows, four fifths of these
    assert inputs[:, 0].std().item() == pytest.approx(1.0, abs=0.1)


def test_elites_are_the_members_with_the_highest_held_out_likelihood(generator, monkeypatch):
    monkeypatch.setattr(world_model, "PATIENCE_LOOKS", 1)
    model = _model(generator)
    report = model.fit(_data(300, generator), generator)
    nll = torch.stack([report[f"world_model/nll_nats_{i}"] for i in range(7)])
    assert sorted(model.elites.tolist()) == sorted(nll.argsort()[:5].tolist())


def _fit_that_sees(scores, generator, monkeypatch):
    """A fit whose looks find these scores [looks, E, rows]; its report, and the weights kept."""
    monkeypatch.setattr(world_model, "LOOK_EVERY", 2)
    model, looks, seen = _model(generator), iter(scores), []

    def look(inputs, targets):
        seen.append(model.net.weights[0].detach().clone())
        return next(looks)

    monkeypatch.setattr(model, "_row_nll", look)
    report = model.fit(_data(500, generator), generator)
    return report, seen, model.net.weights[0]


def test_a_fit_ends_after_five_looks_that_chance_explains(generator, monkeypatch):
    """A hundred rows: a gain of 0.1 standard errors doesn't count, one of 2 does."""
    levels = torch.tensor([0.0, -0.02, -0.3, *[-0.32] * 5])
    noise = torch.randn(8, 100, generator=generator)
    noise = (noise - noise.mean(1, keepdim=True)) / noise.std(1, keepdim=True)
    scores = (levels[:, None] + noise)[:, None].expand(-1, 7, -1)
    report, *_ = _fit_that_sees(scores, generator, monkeypatch)
    # the first look counts, the third does, and five don't
    assert report["world_model/steps"] == 2 * 8


def test_each_member_keeps_the_weights_of_its_own_best_look(generator, monkeypatch):
    scores = torch.zeros(8, 7, 100)
    scores[2, 0] = -1.0
    scores[4, 1] = -1.0
    report, seen, kept = _fit_that_sees(scores, generator, monkeypatch)
    assert report["world_model/steps"] == 2 * 8  # five after the third look
    for member, look in ((0, 2), (1, 4), (2, 0)):
        assert torch.equal(kept[member], seen[look][member])


@pytest.mark.parametrize("count", [300, 30_000])
def test_a_fit_takes_no_more_steps_however_much_data_there_is(count, generator, monkeypatch):
    """Each look finds an improvement here."""
    monkeypatch.setattr(world_model, "MAX_STEPS", 33)
    monkeypatch.setattr(world_model, "LOOK_EVERY", 10)
    model = _model(generator)
    better = iter(range(0, -100, -1))
    monkeypatch.setattr(
        model, "_row_nll", lambda x, y: torch.full((7, len(x)), float(next(better)))
    )
    steps = []
    monkeypatch.setattr(model, "_train_step", steps.append)
    report = model.fit(_data(count, generator), generator)
    assert len(steps) == report["world_model/steps"] == 33
    assert all(rows.shape == (7, 256) for rows in steps)


def test_each_member_sees_one_bootstrap_for_the_whole_fit(generator, monkeypatch):
    """Members get different rows, and a member the same ones from its first batch to its last."""
    monkeypatch.setattr(world_model, "PATIENCE_LOOKS", 1)
    model, data = _model(generator), _data(100, generator)
    seen = []
    monkeypatch.setattr(model, "_train_step", seen.append)
    model.fit(data, generator)
    first, last = (torch.cat(half, dim=1) for half in (seen[:50], seen[50:]))
    rows = [set(member.tolist()) for member in first]
    assert [set(member.tolist()) for member in last] == rows
    # of 80 training rows, 80 draws with replacement leave out a third
    assert all(40 < len(member) < 62 for member in rows)
    assert len({frozenset(member) for member in rows}) == 7


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
    with pytest.raises(DivergedError, match="held-out likelihood"):
        model.fit(data, generator)
