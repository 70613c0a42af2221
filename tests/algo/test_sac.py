import copy

import pytest
import torch

from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import EntropyDraw
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
    actions = agent.act(obs, generator)
    assert actions.std() > 0.1
    assert (actions.abs() <= 1).all()
    mean, _ = agent.actor(obs[:1])
    torch.testing.assert_close(agent.act_deterministic(obs[:1]), torch.tanh(mean))


def test_targets_follow_by_tau_at_every_update(generator):
    agent = sac(generator)
    before = [t.clone() for t in agent.target_params]
    train_sac(agent, _uniform_data(generator), 1, generator)
    for old, target, critic in zip(before, agent.target_params, agent.critic_params, strict=True):
        torch.testing.assert_close(target, old + 0.005 * (critic - old))


def test_the_actors_step_leaves_the_critics_alone(generator):
    agent = sac(generator)
    before = [p.detach().clone() for p in agent.critic_params]
    loss, _ = agent.actor_objective(torch.randn(8, 1), torch.randn(8, 1))
    agent.optimizers["actor"].minimize(loss)
    assert all(p.grad is None for p in agent.critic_params)
    assert all(torch.equal(p, old) for p, old in zip(agent.critic_params, before, strict=True))


def test_temperature_brings_the_entropy_to_its_target(generator):
    agent = sac(generator, sac_lr=3e-3, init_temperature=0.1, target_entropy=-1.5)
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
        other.update(batch, *noise[:2], EntropyDraw(torch.full((128, 1), state), noise[2]))
        assert sign * (other.log_temperature.item() - start) > 0


@pytest.mark.parametrize("rows", [None, 20])
def test_the_loop_tells_it_the_newest_real_states(small, monkeypatch, rows):
    config = small.replace(entropy_rows=rows, explore="nominal")
    agent = build(config, find_task("inverted_pendulum"), torch.device("cpu"))
    agent.envs.close()
    seen = []
    for learner in (agent.sac, agent.explorer):
        monkeypatch.setattr(learner, "update", lambda *a: seen.append(a[3]) or {})
    for buffer, count in ((agent.real, 60), (agent.imagined, 10), (agent.nominal, 10)):
        buffer.add_(torch.arange(count).float()[:, None].expand(-1, buffer.width))
    loop.update_policy(agent, config, 3)
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
    noise = torch.zeros(16, 1)
    with torch.no_grad():
        q = agent.critic(batch.obs, batch.action)
    done = batch._replace(terminated=torch.ones(16))
    expected = 0.5 * (q - batch.reward).square().mean(-1).sum()
    torch.testing.assert_close(agent.critic_objective(done, noise)[0], expected)
    open_end = batch._replace(terminated=torch.zeros(16))
    assert not torch.allclose(agent.critic_objective(open_end, noise)[0], expected)
