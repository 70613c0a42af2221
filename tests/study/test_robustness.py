"""Evaluating many policies in many worlds, through the command and its parts."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import flags
from rmbpo_fast import evaluate, train
from rmbpo_fast.errors import StorageError
from rmbpo_fast.policy import FILE_NAME, Policy
from rmbpo_fast.presets import preset
from rmbpo_fast.study.robustness import Store, summaries, summarise
from rmbpo_fast.study.subjects import find_policies, load_subjects
from rmbpo_fast.worlds.episodes import play
from untrained import make_run

MBPO, RMBPO = "MBPO, rollout-rows 50", "RMBPO, eta 0.05, rollout-rows 50"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two MBPO runs and one RMBPO run of the pendulum, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for algo, seed in (("mbpo", 0), ("mbpo", 1), ("rmbpo", 2)):
        make_run(tmp_path / "runs" / f"{algo}-{seed}", algo=algo, seed=seed)
    return tmp_path


def results(folder):
    with open(folder / "results.csv", newline="") as handle:
        return json.loads((folder / "results.json").read_text()), list(csv.DictReader(handle))


def test_a_curve_over_one_distortion(runs, capsys):
    arguments = ["runs/*", "--distort", "pole_mass=5,100", "--episodes", "3", "--seed", "4"]
    assert evaluate.main(arguments) == 0
    folder = runs / "evaluations/inverted_pendulum/pole_mass"
    assert {p.name for p in folder.iterdir()} == {
        "episodes.jsonl",
        "figure.pdf",
        "figure.png",
        "results.csv",
        "results.json",
    }
    found, rows = results(folder)
    assert found["command"].endswith("'runs/*' --distort pole_mass=5,100 --episodes 3 --seed 4")
    assert found["seed"] == 4
    assert found["versions"].keys() == {"rmbpo_fast", "envpool", "mujoco", "numpy"}
    assert [p["group"] for p in found["policies"]] == [MBPO, MBPO, RMBPO]
    assert len(rows) == 6
    assert found["axes"][0]["label"] == "pole mass (kg)"
    assert rows[0]["policy"] == "runs/mbpo-0"
    assert rows[0]["eval_seed"] == "4"
    assert rows[0]["command"] == found["command"]
    config = preset("inverted_pendulum").task
    for row in rows:
        policy = Policy.load(row["policy"])
        changes = {"pole_mass": float(row["pole_mass"])}
        expected = play(policy.unit_action, config, 3, 4, changes)
        assert float(row["return_mean"]) == pytest.approx(expected.mean())
    for world in found["worlds"]:
        means = np.array(world["returns"]).mean(axis=1)
        mbpo, rmbpo = world["groups"]
        assert mbpo["value"] == pytest.approx(means[:2].mean())
        assert mbpo["low"] <= mbpo["value"] <= mbpo["high"]
        assert rmbpo["value"] == pytest.approx(means[2])
        assert rmbpo["low"] is None
    printed = capsys.readouterr().out
    head, *_ = (line.split() for line in printed.splitlines() if "pole_mass" in line)
    assert head == ["pole_mass", "MBPO", "RMBPO,", "eta", "0.05"]
    assert "all runs: rollout-rows 50" in printed
    assert "6 of 6 were known" not in printed


def test_what_was_played_is_not_played_again(runs, monkeypatch, capsys):
    arguments = ["runs/*", "--distort", "pole_mass=5,100", "--episodes", "2"]
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return play(*args)

    monkeypatch.setattr("rmbpo_fast.study.robustness.play", interrupted)
    assert evaluate.main(arguments) == 130
    assert "the same command goes on" in capsys.readouterr().err
    folder = runs / "evaluations/inverted_pendulum/pole_mass"
    assert not (folder / "results.csv").exists()
    with open(folder / "episodes.jsonl", "a") as handle:
        handle.write('{"key": {"pol')  # as kill -9 in the middle of a write leaves it
    assert evaluate.main(arguments) == 0
    assert len(calls) == 3 + 4
    assert "2 of 6 were known" in capsys.readouterr().out
    first = (folder / "results.csv").read_bytes()
    assert evaluate.main(arguments) == 0
    assert len(calls) == 7
    assert (folder / "results.csv").read_bytes() == first
    assert evaluate.main([*arguments, "--seed", "1"]) == 0
    assert len(calls) == 13


def test_a_heat_map_over_two_distortions(runs):
    arguments = ["runs/*", "--distort", "pole_mass=5,100", "gravity=9", "--vs", "action_noise=1,5"]
    assert evaluate.main([*arguments, "--episodes", "2"]) == 0
    folder = runs / "evaluations/inverted_pendulum/pole_mass-vs-action_noise-gravity=9"
    found, rows = results(folder)
    assert (folder / "figure.png").stat().st_size > 10_000
    assert [w["at"] for w in found["worlds"]] == [[5, 1], [5, 5], [100, 1], [100, 5]]
    assert found["axes"][0]["nominal"] == pytest.approx(5.0186, abs=1e-3)
    assert found["axes"][1]["nominal"] == 1.0
    assert {row["gravity"] for row in rows} == {"9.0"}


def test_action_noise_scales_the_tasks_own(runs):
    policy = Policy.load("runs/mbpo-0")
    config = preset("inverted_pendulum").task

    def returns(changes):
        return play(policy.unit_action, config, 6, 0, changes)

    assert (returns({"action_noise": 1.0}) == returns({})).all()
    assert (returns({"action_noise": 4.0}) != returns({})).any()
    louder = preset("inverted_pendulum").replace(action_noise="truncated_normal:0.8").task
    assert (returns({"action_noise": 4.0}) == play(policy.unit_action, louder, 6, 0)).all()
    none = preset("inverted_pendulum").replace(action_noise="none").task
    assert (returns({"action_noise": 0.0}) == play(policy.unit_action, none, 6, 0)).all()


def test_the_papers_grid_makes_a_figure_for_each_distortion(runs, monkeypatch):
    monkeypatch.setattr("rmbpo_fast.study.robustness.play", lambda *a: np.arange(3.0))
    make_run(runs / "hopper", "hopper", seed=0)
    assert evaluate.main(["hopper", "--grid", "paper", "--episodes", "3", "--out", "out"]) == 0
    assert {p.name for p in (runs / "out").iterdir()} == {
        "torso_mass",
        "friction",
        "joint_stiffness.leg_joint",
        "action_noise",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--episodes", "3"], 2, "at least one run folder"),
        (["nothing"], 1, "nothing: no run here"),
        (["nothing*"], 1, "no run matches"),
        (["runs/*", "--episodes", "0"], 2, "--episodes must be at least 1"),
        (["runs/*", "--distort", "torso_mass=4"], 2, "it has pole_mass, body_mass:cart|pole"),
        (["runs/*", "--distort", "pole_mass=-4"], 2, "pole_mass must be greater than 0, not -4"),
        (["runs/*", "--distort", "pole_mass=5,-4"], 2, "pole_mass must be greater than 0, not -4"),
        (["runs/*", "--grid", "paper", "--distort", "gravity=5"], 2, "leave --distort"),
        (["runs/*", "hopper"], 2, "runs of different tasks can't be compared"),
        (["runs/*", "cut"], 1, "can't read the policy"),
        (["swapped"], 1, "a policy of InvertedPendulum-v2 in a run of Hopper-v3"),
        (["runs/*", "--video", "--distort", "pole_mass=5,9"], 2, "--video films one world"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_writes_nothing(runs, capsys, arguments, status, words):
    make_run(runs / "hopper", "hopper")
    shutil.copytree(runs / "runs/mbpo-0", runs / "cut")
    policy = (runs / "cut" / FILE_NAME).read_bytes()
    (runs / "cut" / FILE_NAME).write_bytes(policy[: len(policy) // 2])
    shutil.copytree(runs / "hopper", runs / "swapped")
    shutil.copy(runs / "runs/mbpo-0" / FILE_NAME, runs / "swapped" / FILE_NAME)
    assert evaluate.main(arguments) == status
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (runs / "evaluations").exists()


def test_runs_policies_and_patterns(runs):
    last = runs / "runs/mbpo-0" / FILE_NAME
    kept = runs / "runs/mbpo-0/policies"
    kept.mkdir()
    shutil.copy(last, kept / "step-000000500.safetensors")  # the same policy
    shutil.copy(runs / "runs/mbpo-1" / FILE_NAME, kept / "step-000000250.safetensors")
    (runs / "runs/notes.d").mkdir()  # no run: left out of a pattern
    assert len(find_policies(["runs/*"])) == 3
    assert len(find_policies(["runs/*", "runs/mbpo-0", str(last.relative_to(runs))])) == 3
    subjects = load_subjects(["runs/*", str(runs / "runs/mbpo-1"), "runs/mbpo-0/policies/*"])
    assert [s.group for s in subjects] == [MBPO, MBPO, RMBPO, MBPO]
    assert subjects[3].name.endswith("step-000000250.safetensors")
    # two policies of run mbpo-0, with 10 and 30, are one run with 20
    returns = np.array([[[10.0, 10.0], [40.0, 40.0], [5.0, 5.0], [30.0, 30.0]]])
    ((mbpo, rmbpo),) = summaries(subjects, returns, "mean")
    assert (mbpo.runs, mbpo.value, mbpo.low, mbpo.high) == (2, 30.0, 20.0, 40.0)
    assert (rmbpo.runs, rmbpo.low) == (1, None)


def test_statistics():
    values = np.array([0.0, 100.0, 200.0, 1000.0])
    mean, iqm = summarise("g", values, "mean"), summarise("g", values, "iqm")
    assert mean.value == 325.0
    assert iqm.value == 150.0  # the middle half
    eight = np.array([0.0, 0.0, 10.0, 20.0, 30.0, 100.0, 900.0, 900.0])
    assert summarise("g", eight, "iqm").value == 40.0
    # an independent bootstrap of the mean, with another generator
    draws = np.random.default_rng(7).choice(values, size=(20_000, 4)).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (mean.low, mean.high) == pytest.approx((low, high), abs=15)
    same = summarise("g", np.full(5, 1000.0), "mean")
    assert (same.low, same.high) == (1000.0, 1000.0)
    assert summarise("g", values[:1], "mean").high is None


def test_a_foreign_store_is_refused(tmp_path):
    for content in (b"hello\n", b"\xff\xfe\n", b"{}\n"):
        (tmp_path / "episodes.jsonl").write_bytes(content)
        with pytest.raises(StorageError, match="not a file of results"):
            Store(tmp_path / "episodes.jsonl")


def test_sigterm_removes_the_private_models(runs):
    """A process of its own: the folder lives as long as the process."""
    code = (
        "import os, signal, sys\n"
        "from rmbpo_fast import evaluate\n"
        "from rmbpo_fast.study import robustness\n"
        "from rmbpo_fast.worlds import distortion\n"
        "def play(*a):\n"
        "    distortion.distorted_task(distortion.find(), {'pole_mass': 9.0})\n"
        "    print(distortion._folder.name, flush=True); os.kill(os.getpid(), signal.SIGTERM)\n"
        "from rmbpo_fast.worlds.tasks import find_task\n"
        "distortion.find = lambda: find_task('inverted_pendulum')\n"
        "robustness.play = play\n"
        "evaluate.main(['runs/mbpo-0', '--distort', 'pole_mass=9'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(evaluate.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=runs, env=environment
    )
    assert done.returncode == 143, done.stderr
    folder = done.stdout.strip()
    assert folder
    assert not (runs / folder).exists()


def test_evaluating_a_trained_run(small_flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train.main([*small_flags, *flags(run_dir="run")]) == 0
    assert evaluate.main(["run", "run/policies/*", "--episodes", "2"]) == 0
    _, rows = results(tmp_path / "evaluations/inverted_pendulum/nominal")
    assert len(rows) == 4  # the last epoch's policy is the run's last


def test_a_task_without_noise_has_none_to_multiply(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", "Pendulum-v1")
    assert evaluate.main(["run", "--distort", "action_noise=1,100"]) == 2
    assert "this task has none" in capsys.readouterr().err
