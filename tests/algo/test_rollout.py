from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import toy
from no_host import NoHost
from rmbpo_fast.algo.gaussian_adversary import ResidualAdversary
from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.rollout import ImaginedWorld, horizon_at, imagine, spread_starts
from rmbpo_fast.config import RolloutConfig
from rmbpo_fast.presets import preset
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.loop import imagine_for_all
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.termination import never

TASK = find_task("inverted_pendulum")


@pytest.fixture(scope="module")
def model_fit() -> dict[str, int]:
    """What is imagined is compared with the model's own predictions, whatever it has learned."""
    return {"LOOK_EVERY": 25, "PATIENCE_LOOKS": 1}


def _parts(generator):
    model, agent = toy.world_model(generator), toy.sac(generator)
    model.fit(toy.real_data(500, generator), generator)
    return model, agent


def _imagine(starts, horizon, generator, rule=toy.rule, dynamics=None, capacity=10_000):
    model, agent = _parts(torch.Generator().manual_seed(0))
    buffer = ReplayBuffer(1, 1, capacity)
    # as an adversary would have them
    other = dynamics and SimpleNamespace(dynamics=lambda model, *arguments: dynamics(*arguments))
    world = ImaginedWorld(model, other, rule)
    stored = imagine(starts, horizon, world, agent, buffer, generator)
    return buffer, stored


def test_horizon_is_a_truncated_ramp():
    config = preset("hopper").rollout
    expected = {0: 1, 20: 1, 29: 1, 30: 2, 85: 8, 149: 14, 150: 15, 400: 15}
    assert {epoch: horizon_at(epoch, config) for epoch in expected} == expected
    assert horizon_at(1_000, RolloutConfig()) == 1


def test_a_longer_horizon_imagines_more_steps_that_follow_each_other(generator):
    starts = torch.rand(200, 1, generator=generator) - 0.5
    buffer, stored = _imagine(starts, 3, generator, rule=never)
    assert stored == len(buffer) == 600
    data = buffer.all()
    # rows are shuffled between steps, so compare as sets
    assert set(data.obs[200:400, 0].tolist()) == set(data.next_obs[:200, 0].tolist())
    assert set(data.obs[:200, 0].tolist()) == set(starts[:, 0].tolist())


def test_actions_are_sampled(generator):
    buffer, _ = _imagine(torch.zeros(500, 1), 1, generator)
    assert buffer.all().action.std() > 0.1


def test_next_states_are_sampled_from_the_model(generator):
    buffer, _ = _imagine(
        torch.zeros(2_000, 1),
        1,
        generator,
        dynamics=lambda x, _, noise: (torch.zeros_like(noise), torch.full_like(noise, -2.0), noise),
    )
    std = torch.tensor(-1.0).exp().item()
    assert buffer.all().next_obs.std().item() == pytest.approx(std, rel=0.05)


def test_finished_rows_are_dropped(generator):
    """Each step moves by one; the line ends at 2, so a row from 0 lives for three steps."""

    def march(inputs, _, noise):
        mean = torch.zeros(*inputs.shape[:-1], 2)
        mean[..., 0] = 1.0
        return mean, torch.full_like(mean, -50.0), noise

    buffer, stored = _imagine(torch.zeros(100, 1), 6, generator, dynamics=march)
    data = buffer.all()
    assert stored == len(buffer) == 300
    assert data.terminated[:200].sum() == 0
    assert data.terminated[200:].sum() == 100
    assert data.obs.max() <= 2.01


def test_a_prediction_that_is_not_finite_is_dropped(generator):
    def broken(inputs, _, noise):
        mean = torch.zeros(*inputs.shape[:-1], 2)
        mean[0, 0, 0] = torch.nan
        mean[1, 0, 1] = torch.inf
        return mean, torch.full_like(mean, -5.0), noise

    buffer, stored = _imagine(torch.zeros(100, 1), 2, generator, rule=never, dynamics=broken)
    assert stored == 98 + 96
    assert torch.isfinite(buffer.oldest_first()).all()


def test_every_row_meets_every_elite_equally_often(generator):
    """The elites' share is balanced at each step, and which row goes where is drawn anew."""

    def mark(inputs, elites, noise):
        mean = torch.zeros(*inputs.shape[:-1], 2)
        mean[..., 1] = elites[:, None].float()
        return mean, torch.full_like(mean, -50.0), noise

    starts = torch.arange(100.0)[:, None] / 1_000
    buffer, _ = _imagine(starts, 40, generator, rule=never, dynamics=mark)
    data = buffer.all()
    elite = data.reward.round()
    low, high = elite.unique().tolist()
    for step in elite.split(100):
        assert (step == low).sum() == 50
    share = torch.stack([elite[(data.obs - s).abs().flatten() < 1e-5].mean() for s in starts])
    assert ((share - (low + high) / 2).abs() < 0.4 * (high - low)).all()


def test_starts_are_spread_where_asked_and_not_into_the_end(generator):
    starts = torch.tensor([0.0, 1.9]).repeat(5_000)[:, None].repeat(1, 2)
    moved = spread_starts(starts, (0.5, 0.0), toy.rule, generator)
    assert torch.equal(moved[:, 1], starts[:, 1])
    middle, edge = (moved - starts)[:, 0].view(-1, 2).unbind(1)
    assert middle.abs().max() <= 0.5
    assert middle.mean().item() == pytest.approx(0.0, abs=0.02)
    assert middle.std().item() == pytest.approx(0.5 / 3**0.5, rel=0.03)
    assert not toy.rule(moved).any()
    # from 1.9 the end at 2 is 0.1 away: of the unit of draws 0.4 lead past it and move nothing
    assert (edge == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)


def test_no_spread_draws_nothing(generator):
    """An MBPO of this version and one of before it see the same noise."""
    starts, before = torch.zeros(10, 2), generator.get_state()
    for none in ((), (0.0, 0.0)):
        assert spread_starts(starts, none, toy.rule, generator) is starts
    assert torch.equal(generator.get_state(), before)


def test_rollouts_begin_from_spread_states(small):
    config = small.replace(start_spread=(0.5, 0.0, 0.0, 0.0))
    agent = build(config, TASK, toy.CPU)
    agent.real.add_(torch.zeros(50, agent.real.width))
    imagine_for_all(agent, 1, True, 50)
    obs = agent.players[0].imagined.all().obs
    assert obs[:, 0].std() > 0.2
    assert not obs[:, 1:].any()


def test_the_same_stream_gives_the_same_numbers():
    starts = torch.zeros(50, 1)
    rows = [
        _imagine(starts, 2, torch.Generator().manual_seed(7))[0].oldest_first() for _ in range(2)
    ]
    assert torch.equal(*rows)


def test_no_round_trip_to_the_host(generator):
    model, agent = _parts(generator)
    buffer = ReplayBuffer(1, 1, 1_000)
    with NoHost():
        world = ImaginedWorld(model, None, toy.rule)
        imagine(torch.zeros(50, 1), 3, world, agent, buffer, generator)
    assert len(buffer) > 0


def test_no_round_trip_in_an_adversarys_world_with_a_learned_ending(generator):
    model, agent = _parts(generator)
    config = replace(toy.ADVERSARY, eta=1.0)
    adversary = ResidualAdversary(1, 1, config, (16, 16), 3, generator, toy.CPU)
    ending = LearnedTermination(1, toy.CPU, generator)
    buffer = ReplayBuffer(1, 1, 1_000)
    world = ImaginedWorld(model, adversary, ending)
    with NoHost():
        imagine(torch.zeros(50, 1), 3, world, agent, buffer, generator)
    assert len(buffer) > 0


def test_the_round_trip_check_itself_fails_on_one():
    with pytest.raises(AssertionError, match="round trip"), NoHost():
        torch.ones(()).item()
