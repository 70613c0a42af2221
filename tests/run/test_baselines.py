"""What --algo sac, --randomize and --explore nominal do; that they learn is in bench/."""

import numpy as np
import pytest
import torch

from conftest import flags, read_metrics
from rmbpo_fast import train
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.policy import Policy
from rmbpo_fast.run import loop
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.checkpoint import load_newest
from rmbpo_fast.run.state import load_tree_into
from rmbpo_fast.worlds.distortion import distorted_task
from rmbpo_fast.worlds.randomized_env import RandomizedVector, parse_ranges
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.vector_env import make_vector_env

PENDULUM = find_task("inverted_pendulum")


def run(small_flags, run_dir, **more):
    assert train.main([*small_flags, *flags(run_dir=run_dir, **more)]) == 0
    return read_metrics(run_dir)


def test_sac_learns_from_real_data_only(small_flags, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "fit_and_imagine", None)  # calling it fails
    batches = []
    original = loop.sample_mixed

    def watched(real, imagined, *arguments):
        batches.append((len(imagined), arguments[2]))
        return original(real, imagined, *arguments)

    monkeypatch.setattr(loop, "sample_mixed", watched)
    last = run(small_flags, tmp_path / "run", algo="sac")[-1]
    assert set(batches) == {(0, 1.0)}
    assert last["world_model/nll_nats"] == last["rollout/imagined_steps"] == ""
    assert int(last["sac/updates"]) == 50


def test_a_randomised_episode_keeps_its_world_and_the_next_has_another():
    ranges = parse_ranges(("pole_mass=2:200", "gravity=8:12"), PENDULUM)
    vector = RandomizedVector(PENDULUM, 2, 5, ranges)
    push = np.full((2, 1), 0.5)
    seen = set()
    for _ in range(6):
        first = vector.reset(np.arange(2))
        assert first.shape == (2, 4)
        responses = vector.step(push)
        seen |= {round(float(v), 9) for v in (responses.obs - first)[:, 2]}
        vector.step(push)
    assert len(seen) > 6, "all worlds answer a push alike"
    vector.close()


def test_a_randomised_world_is_the_distorted_task():
    vector = RandomizedVector(PENDULUM, 1, 5, {"pole_mass": (100.0, 100.0)})
    vector.reset(np.zeros(1, dtype=np.int64))
    ((_, world),) = [key for key in vector._open if vector._open[key] is vector._now[0]]
    alone = make_vector_env(distorted_task(PENDULUM, {"pole_mass": 100.0}), 1, 5 + world)
    obs = alone.reset(np.zeros(1, dtype=np.int64))
    first = vector._now[0].shown[0]
    np.testing.assert_array_equal(obs, first)
    for _ in range(5):
        ours, theirs = vector.step(np.ones((1, 1))), alone.step(np.ones((1, 1)))
        np.testing.assert_array_equal(ours.obs, theirs.obs)
    vector.close()
    alone.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pole_mass", "expected NAME=FIRST:LAST"),
        ("pole_mass=5", "expected NAME=FIRST:LAST"),
        ("pole_mass=9:5", "expected FIRST <= LAST"),
        ("action_noise=1:2", "of a new distortion"),
        ("torso_mass=1:2", "it has pole_mass"),
        ("pole_mass=-1:2", "must be greater than 0, not -1"),
    ],
)
def test_bad_ranges_are_refused(text, words):
    with pytest.raises(ConfigError) as error:
        parse_ranges((text,), PENDULUM)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"randomize": ("pole_mass=2:1",)}, "expected FIRST <= LAST"),
        ({"algo": "mbpo", "explore": "nominal"}, "--explore must be robust"),
        ({"eta": 0.0, "explore": "nominal"}, "--explore must be robust"),
    ],
)
def test_settings_that_dont_fit_are_refused(small_flags, tmp_path, capsys, more, words):
    assert train.main([*small_flags, *flags(run_dir=tmp_path / "run", **more)]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_explorer_lives_in_p_theta_and_collects_the_data(small, monkeypatch):
    config = small.replace(explore="nominal")
    agent = build(config, PENDULUM, torch.device("cpu"))
    worlds = []
    original = loop.imagine

    def watched(starts, horizon, world, learner, imagined, stream):
        worlds.append((world.adversary, learner, imagined))
        return original(starts, horizon, world, learner, imagined, stream)

    monkeypatch.setattr(loop, "imagine", watched)
    agent.real.add_(torch.rand(60, agent.real.width))

    class Ignored:
        def __getattr__(self, name):
            return lambda *a, **k: None

    metrics = Ignored()
    metrics.watch = type("Watch", (), {"phase": lambda self, name: torch.no_grad()})()
    monkeypatch.setattr(agent.world_model, "fit", lambda *a: {})
    monkeypatch.setattr(agent.adversary, "fit", lambda *a: {})
    loop.fit_and_imagine(agent, loop.make_steps(agent), metrics)
    robust, explorer = agent.players
    assert worlds == [
        (agent.adversary, agent.learner, robust.imagined),
        (None, agent.explorer, explorer.imagined),
    ]
    assert agent.learner is robust.learner is not agent.explorer

    def actors():
        return [p for player in agent.players for p in player.learner.actor.parameters()]

    before = [p.clone() for p in actors()]
    loop.update_policies(agent, 1)
    after = actors()
    assert all((a != b).any() for a, b in zip(before, after, strict=True))

    class Stop(Exception):
        pass

    def stop(*arguments):
        raise Stop

    agent.progress.env_step = config.task.random_steps
    monkeypatch.setattr(agent.explorer, "act", stop)
    with pytest.raises(Stop):
        loop.act_and_store(agent, loop.make_steps(agent), None)
    agent.envs.close()


def test_the_robust_policy_is_the_one_that_is_saved(small_flags, small, tmp_path):
    rows = run(small_flags, tmp_path / "run", explore="nominal")
    assert float(rows[-1]["adversary/kl_nats"]) >= 0
    policy = Policy.load(tmp_path / "run")
    agent = build(small.replace(explore="nominal"), PENDULUM, torch.device("cpu"))
    _, tree = load_newest(tmp_path / "run", False)
    load_tree_into(agent, tree, torch.zeros(0, agent.real.width))
    agent.envs.close()
    obs = torch.rand(5, 4)
    torch.testing.assert_close(policy.unit_action(obs), agent.learner.act_deterministic(obs))
    assert (policy.unit_action(obs) != agent.explorer.act_deterministic(obs)).any()
