import copy
import math

import pytest
import torch

from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import EntropyDraw
from rmbpo_fast.kernels import SacBatch, SacNetworks, SacSettings
from rmbpo_fast.kernels.steps.sac_step.reference import actor_objective, critic_objective
from rmbpo_fast.run import loop
from rmbpo_fast.run.agent import build
from rmbpo_fast.worlds.tasks import find_task
from toy import rule, sac, train_sac, transitions


def _uniform_data(generator):
    obs = torch.rand(5_000, 1, generator=generator) * 4 - 2
    action = torch.rand(5_000, 1, generator=generator) * 2 - 1
    data = ReplayBuffer(1, 1, 5_000)
    data.add_(data.pack(transitions(obs, action, torch.zeros(5_000, 1))))
    return data


def _step_of(agent, obs, action=None, reward=None, next_obs=None, terminated=None):
    """What the gradient step's losses take, without noise."""
    zero, nothing = torch.zeros(len(obs)), torch.zeros(len(obs), 1)
    parts = (nothing if action is None else action, zero if reward is None else reward)
    parts += (obs if next_obs is None else next_obs, zero if terminated is None else terminated)
    nets = (agent.actor.net, agent.critic.net, agent.target_critic.net)
    batch = SacBatch(obs, *parts, nothing, nothing)
    settings = SacSettings(-20.0, 2.0, agent.gamma, 0.005, -1.0)
    return batch, SacNetworks(*(net.layers for net in nets)), settings


def test_solves_the_point_mass(generator):
    agent = sac(generator, sac_lr=3e-3, gamma=0.9)
    train_sac(agent, _uniform_data(generator), 600, generator)
    obs = torch.linspace(-1.5, 1.5, 31)[:, None]
    first = obs.abs().mean()
    for _ in range(8):
        obs = obs + 0.3 * agent.act_deterministic(obs)
    assert obs.abs().mean() < 0.15 * first
    assert not rule(obs).any()


def test_actions_are_drawn_and_the_deterministic_one_is_the_mean(generator):
    agent = sac(generator)
    obs = torch.zeros(4_000, 1)
    actions = agent.act(obs, agent.draw_noise((4_000,), generator))
    assert actions.std() > 0.1
    assert (actions.abs() <= 1).all()
    mean, _ = agent.actor(obs[:1])
    torch.testing.assert_close(agent.act_deterministic(obs[:1]), torch.tanh(mean))


def test_targets_follow_by_tau_at_every_update(generator):
    agent = sac(generator)
    targets, critics = (list(net.parameters()) for net in (agent.target_critic, agent.critic))
    before = [t.clone() for t in targets]
    train_sac(agent, _uniform_data(generator), 1, generator)
    for old, target, critic in zip(before, targets, critics, strict=True):
        torch.testing.assert_close(target, old + 0.005 * (critic - old))


def test_the_actors_step_leaves_the_critics_alone(generator):
    agent = sac(generator)
    batch, networks, settings = _step_of(agent, torch.randn(8, 1))
    loss, _ = actor_objective(batch, networks, agent.log_temperature, settings)
    loss.backward()
    assert all(p.grad is None for p in agent.critic.parameters())
    assert all(p.grad is not None for p in agent.actor.parameters())


def test_temperature_brings_the_entropy_to_its_target(generator):
    agent = sac(generator, sac_lr=3e-3, target_entropy=-1.5)
    agent.log_temperature.data.fill_(math.log(0.1))
    report = train_sac(agent, _uniform_data(generator), 600, generator)
    assert abs(report["sac/entropy_nats"].item() + 1.5) < 0.3


def test_temperature_looks_where_it_is_told_to(generator):
    """A policy that is wide at s = 1 and narrow at s = -1: too much entropy, and too little."""
    agent = sac(generator, target_entropy=-1.0)
    with torch.no_grad():
        for p in agent.actor.parameters():
            p.zero_()
        first, second, last = agent.actor.net.weights
        first[0, 0, 0] = second[0, 0, 0] = 1.0
        last[0, 0, 1] = 4.0  # log-std: -4, and 4 more for each unit of a positive s
        agent.actor.net.biases[2][0, 0, 1] = -4.0
    start = agent.log_temperature.item()
    batch = _uniform_data(generator).sample(128, generator)
    noise = torch.randn(3, 128, 1, generator=generator)
    for state, sign in ((1.0, -1.0), (-1.0, 1.0)):
        other = copy.deepcopy(agent)
        other.step(batch, *noise[:2], EntropyDraw(torch.full((128, 1), state), noise[2]))
        assert sign * (other.log_temperature.item() - start) > 0


@pytest.mark.parametrize("rows", [None, 20])
def test_the_loop_tells_it_the_newest_real_states(small, monkeypatch, rows):
    config = small.replace(entropy_rows=rows, explore="nominal")
    agent = build(config, find_task("inverted_pendulum"), torch.device("cpu"))
    agent.envs.close()
    seen = []
    for player in agent.players:
        monkeypatch.setattr(player.learner, "step", lambda *a: seen.append(a[3]) or {})
    for buffer, count in zip(agent.buffers(), (60, 10, 10), strict=True):
        buffer.add_(torch.arange(count).float()[:, None].expand(-1, buffer.width))
    loop.update_policies(agent, 3)
    if rows is None:
        assert seen == [None] * 6
        return
    obs, noise = map(torch.stack, zip(*seen, strict=True))
    assert obs.shape == (6, config.sac.sac_batch_size, 4)
    assert noise.shape == (6, config.sac.sac_batch_size, 1)
    assert len(obs.flatten(1).unique(dim=0)) == 6
    assert len(noise.unique()) == noise.numel()
    assert obs.min() == 40
    assert obs.max() == 59


def test_a_terminal_is_not_bootstrapped_and_a_time_limit_is(generator):
    agent = sac(generator)
    batch = _uniform_data(generator).sample(16, generator)
    with torch.no_grad():
        q = agent.critic(batch.obs, batch.action)
    expected = 0.5 * (q - batch.reward).square().mean(-1).sum()

    def loss(terminated):
        step = _step_of(agent, **{**batch._asdict(), "terminated": terminated})
        return critic_objective(*step[:2], agent.log_temperature, step[2])[0]

    torch.testing.assert_close(loss(torch.ones(16)), expected)
    assert not torch.allclose(loss(torch.zeros(16)), expected)
