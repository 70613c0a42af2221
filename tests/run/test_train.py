"""The command: whole small runs, in this process."""

import itertools
import json
from functools import cache, partial

import numpy as np
import pytest
import torch

from conftest import SMALL, flags, read_metrics
from rmbpo_fast import evaluate as evaluate_module
from rmbpo_fast import train
from rmbpo_fast.kernels import backend
from rmbpo_fast.policy import Policy, epoch_files
from rmbpo_fast.run import loop, session
from rmbpo_fast.run.agent import ADVERSARIES, build
from rmbpo_fast.run.metrics import PHASES, Stopwatch
from rmbpo_fast.seeding import generator_for, seed_for
from rmbpo_fast.worlds.envs import Envs
from rmbpo_fast.worlds.episodes import play
from rmbpo_fast.worlds.tasks import find_task


def run(small_flags, run_dir, **more):
    status = train.main([*small_flags, *flags(run_dir=run_dir, **more)])
    assert status == 0
    return read_metrics(run_dir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has ended; nothing is written to its folder."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    run(flags(env="inverted_pendulum", **SMALL), run_dir)
    return run_dir


@pytest.fixture(scope="module")
def mbpo(tmp_path_factory):
    """The metrics of plain MBPO."""
    run_dir = tmp_path_factory.mktemp("mbpo") / "run"
    return run(flags(env="inverted_pendulum", **SMALL), run_dir, algo="mbpo")


def test_a_run_leaves_what_it_promises(finished):
    names = {p.name for p in finished.iterdir()}
    assert {"config.json", "metrics.csv", "policy.safetensors", "checkpoints", "journal"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    recorded = json.loads((finished / "config.json").read_text())
    assert recorded["machine"]["backend"] == "reference"  # without --compile
    assert recorded["config"]["task"]["env"] == "inverted_pendulum"
    rows = read_metrics(finished, timed=True)
    assert [int(row["env_step"]) for row in rows] == [50, 100, 150, 200]
    last = rows[-1]
    for name in (
        "eval/return_mean",
        "eval/return_std",
        "world_model/nll_nats",
        "world_model/holdout_mse_2",
        "adversary/kl_nats",
        "adversary/value_drop",
        "adversary/newest_kl_nats",
        "adversary/newest_drop_share",
        "adversary/eta",
        "sac/q_mean",
        "sac/entropy_nats",
        "sac/temperature",
        "rollout/imagined_steps",
        "rollout/alive_length_mean",
        "time/wall_s",
    ):
        assert np.isfinite(float(last[name])), name
    assert len(last["world_model/elites"].split()) == 2
    assert last["sac/updates"] == "50"


def test_phases_add_up_to_the_wall_time(finished):
    rows = read_metrics(finished, timed=True)
    total = sum(float(row[f"time/{phase}_s"]) for row in rows for phase in PHASES)
    assert total == pytest.approx(float(rows[-1]["time/wall_s"]), rel=1e-9)
    assert all(float(rows[-1][f"time/{p}_s"]) > 0 for p in ("env", "sac", "adversary", "rollout"))


def test_stopwatch_books_every_second_once(monkeypatch):
    """A clock that goes one second at each look; 'adversary' interrupts 'sac'."""
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))
    watch = Stopwatch()
    with watch.phase("sac"), watch.phase("adversary"):
        pass
    watch.switch("other")
    assert watch.seconds["other"] == 2
    assert watch.seconds["sac"] == 2
    assert watch.seconds["adversary"] == 1
    assert sum(watch.seconds.values()) == next(ticks) - 1


def test_equal_seeds_give_equal_runs_and_others_do_not(finished, small_flags, tmp_path):
    first = read_metrics(finished)
    assert run(small_flags, tmp_path / "again", seed=0) == first
    assert run(small_flags, tmp_path / "other", seed=1) != first


def test_eta_zero_is_mbpo_number_for_number(mbpo, small_flags, tmp_path):
    zero = run(small_flags, tmp_path / "zero", eta=0)
    rmbpo = run(small_flags, tmp_path / "rmbpo", eta=5)
    assert mbpo == zero
    assert rmbpo[-1]["sac/q_mean"] != mbpo[-1]["sac/q_mean"]


def test_an_adversary_that_is_fitted_at_eta_zero_changes_no_number(
    mbpo, small_flags, tmp_path, monkeypatch
):
    """Without the shortcut for eta = 0: g_psi is fitted and imagines, from streams of its own."""

    def build_at_zero(*arguments):
        agent = build(*arguments)
        agent.adversary.eta.zero_()
        return agent

    monkeypatch.setattr(session, "build", build_at_zero)
    fitted = run(small_flags, tmp_path / "fitted", eta=5)
    assert float(fitted[-1]["adversary/steps"]) > 0
    own = [name for name in fitted[0] if name.startswith("adversary/")]
    assert [{**row, **dict.fromkeys(own, "")} for row in fitted] == mbpo


@pytest.mark.parametrize("more", [{}, {"compile": True}, {"adversary": "paper"}], ids=str)
def test_until_the_adversary_joins_a_run_is_mbpo_number_for_number(
    small_flags, capsys, tmp_path, more
):
    more = {**more, "total_env_steps": 250}
    mbpo = run(small_flags, tmp_path / "mbpo", algo="mbpo", **more)
    late = run(small_flags, tmp_path / "late", eta=5, adversary_from_epoch=3, **more)
    assert capsys.readouterr().out.count("adversary: joins at step 150, plain MBPO until then") == 1
    # fits at 50, 100, ... real steps; that at 150 is the first of epoch 3
    assert late[:2] == mbpo[:2]
    assert [bool(row["adversary/steps"]) for row in late] == [False, False, True, True, True]
    assert late[-1]["sac/q_mean"] != mbpo[-1]["sac/q_mean"]


@pytest.mark.parametrize(
    "more",
    [
        {"compile": True},
        {"adversary": "paper"},
        {"adversary": "pathwise"},
        {"kl_target_nats": 0.01},
        {"drop_target": 0.05},
        {"adversary_dims": (0, 4)},
        {"num_envs": 3},
        {"termination": "learned"},
        {"termination": "rmbpo_fast.worlds.termination:inverted_pendulum"},
        {"precision": "bf16"},
        {"rollout_schedule": (1, 3, 1, 3)},
        {"start_spread": (0.6, 0.0, 0.6, 0.0)},
        {"entropy_rows": 30},
        {"entropy_rows": 30, "algo": "sac", "compile": True},
        {"correlated_noise": True},
        {"correlated_noise": True, "adversary": "pathwise", "compile": True},
    ],
    ids=lambda more: " ".join(more),
)
def test_every_way_of_training_runs(small_flags, tmp_path, more):
    rows = run(small_flags, tmp_path / "run", total_env_steps=150, **more)
    assert np.isfinite(float(rows[-1]["sac/q_mean"]))
    if "rollout_schedule" in more:
        assert [row["rollout/horizon_steps"] for row in rows] == ["1.0", "2.0", "3.0"]
    if "kl_target_nats" in more or "drop_target" in more:
        assert rows[1]["adversary/eta"] != rows[2]["adversary/eta"]


@pytest.mark.parametrize("env", ["Pendulum-v1", "MountainCarContinuous-v0", "Hopper-v5", "ant"])
def test_other_tasks_run(small_flags, tmp_path, env):
    rows = run([*small_flags, "--env", env], tmp_path / "run", total_env_steps=100)
    assert np.isfinite(float(rows[-1]["eval/return_mean"]))


def test_help_shows_the_tasks_own_defaults(capsys):
    for env, steps in (("hopper", "125000"), ("inverted_pendulum", "20000")):
        with pytest.raises(SystemExit):
            train.main(["--env", env, "--help"])
        text = capsys.readouterr().out
        assert f"(default: {steps})" in " ".join(text.split())
        assert all(len(line) <= 80 for line in text.splitlines())


def test_policy_in_three_lines(finished):
    policy = Policy.load(finished)
    action = policy(np.zeros(4))
    assert action.shape == (1,)
    assert np.abs(policy(np.random.default_rng(0).normal(size=(50, 4)) * 100)).max() <= 3
    np.testing.assert_allclose(policy(np.zeros((5, 4)))[2], action, atol=1e-6)


def test_evaluate_command_prints_what_evaluate_returns(finished, small, capsys):
    assert evaluate_module.main([str(finished), "--episodes", "5", "--seed", "3"]) == 0
    policy = Policy.load(finished)
    returns = play(policy.unit_action, small.task, 5, 3)
    expected = f"return {returns.mean():.1f} +- {returns.std():.1f} over 5 episodes"
    assert expected in capsys.readouterr().out


def test_evaluate_command_refuses_what_is_no_run(finished, capsys, tmp_path):
    for arguments, message, status in (
        ([str(tmp_path / "nothing")], "no run here", 1),
        ([str(finished), "--episodes", "0"], "--episodes must be at least 1", 2),
    ):
        assert evaluate_module.main(arguments) == status
        assert message in capsys.readouterr().err


def test_evaluation_is_repeatable(finished, small):
    policy = Policy.load(finished)
    first, again, other = (play(policy.unit_action, small.task, 6, seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert len(first) == 6


def test_evaluation_counts_the_first_episode_of_each_environment(small):
    """A constant push ends episodes after different times; short ones must not count twice."""

    def push(obs):
        return torch.full((len(obs), 1), 0.3)

    returns = play(push, small.task, 8, 0)
    envs = Envs(
        find_task("inverted_pendulum"),
        8,
        *small.task.noise,
        seed_for(0, "eval resets") % 2**31,
        generator_for(0, "eval noise"),
    )
    firsts = {}
    for _ in range(200):
        envs.step(push(envs.obs))
        for episode in envs.episodes:
            firsts.setdefault(episode.env, episode.length)  # the reward is 1 a step
        envs.episodes.clear()
    assert returns.tolist() == [firsts[i] for i in range(8)]
    assert len(set(returns)) > 1


@pytest.mark.parametrize("kind", ADVERSARIES)
def test_compiled_losses_are_the_eager_ones(small, kind, monkeypatch):
    """The losses have no graph break; a step's numbers, and where it leads, are the same."""
    compiler = partial(torch.compile, fullgraph=True, backend="aot_eager")
    monkeypatch.setattr(backend, "_compiled", cache(compiler))
    found = []
    for fuse in (False, True):
        config = small.replace(adversary=kind)
        agent = build(config, find_task(small.task.env), torch.device("cpu"))
        agent.envs.close()
        g = torch.Generator().manual_seed(0)
        agent.real.add_(torch.rand(50, agent.real.width, generator=g))
        with backend.using("reference", fuse=fuse):
            report = agent.learner.update([agent.real.sample(32, g)], agent.real, g)
            batches = torch.zeros(1, 3, 8, dtype=torch.int64)
            agent.adversary.train_steps(batches, agent.real, agent.game, g)
        weights = [*agent.learner.parameters(), *agent.adversary.parameters()]
        found.append([*report.values(), *weights])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_the_last_epochs_policies_are_kept(small_flags, tmp_path):
    run_dir = tmp_path / "run"
    run(small_flags, run_dir, keep_policies=2)
    files = epoch_files(run_dir)
    assert [f.name for f in files] == ["step-000000150.safetensors", "step-000000200.safetensors"]
    obs = np.ones(4)
    last = Policy.load(run_dir)(obs)
    assert np.array_equal(Policy.load(files[1])(obs), last)
    assert not np.array_equal(Policy.load(files[0])(obs), last)


def test_policies_of_a_past_that_a_resume_undid_go(small, tmp_path):
    agent = build(small, find_task("inverted_pendulum"), torch.device("cpu"))
    agent.envs.close()
    agent.config = small.replace(keep_policies=2)
    for step in (600, 700, 800, 550, 600):  # killed at 800, gone on from 500
        agent.progress.env_step = step
        loop.keep_epoch_policy(agent, tmp_path)
    assert [int(f.stem.removeprefix("step-")) for f in epoch_files(tmp_path)] == [550, 600]
