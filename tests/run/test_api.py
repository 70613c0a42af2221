"""What a program imports, and the command that holds the others."""

import subprocess
import sys
import threading

import numpy as np
import pytest

import rmbpo_fast
from conftest import SMALL, flags, read_metrics
from rmbpo_fast import Policy, evaluate, preset, train
from rmbpo_fast.__main__ import COMMANDS, main
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.run.checkpoint import list_checkpoints
from rmbpo_fast.run.cli import parse
from rmbpo_fast.run.files import write_config
from rmbpo_fast.worlds.tasks import find_task
from untrained import make_run

FEW = {**SMALL, "total_env_steps": 100}


def test_a_run_and_its_returns_in_three_lines(tmp_path):
    rows = []
    run_dir = train(preset("inverted_pendulum", **FEW, run_dir=tmp_path / "run"), rows.append)
    assert [row["env_step"] for row in rows] == [50, 100]
    assert rows[-1]["eval/return_mean"] == float(read_metrics(run_dir)[-1]["eval/return_mean"])
    returns = evaluate(run_dir, {"pole_mass": 100.0}, episodes=3)
    assert returns.shape == (3,)
    assert not np.array_equal(returns, evaluate(run_dir, episodes=3))
    assert Policy.load(run_dir).env_id == "InvertedPendulum-v2"


@pytest.mark.parametrize("thread", [False, True])
def test_a_callback_stops_a_run_that_then_goes_on(tmp_path, thread):
    """As a pruner of Optuna does."""
    config = preset("inverted_pendulum", **FEW, run_dir=tmp_path / "run")

    def work():
        train(config, callback=lambda row: row["env_step"] >= 50)

    if thread:
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    else:
        work()
    (kept,) = list_checkpoints(tmp_path / "run")
    assert kept.name == "step-000000050"
    train(config.replace(resume=tmp_path / "run"))
    assert [int(row["env_step"]) for row in read_metrics(tmp_path / "run")] == [50, 100]


def test_what_is_wrong_is_raised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such setting: etta"):
        preset("hopper", etta=1)
    with pytest.raises(ConfigError, match="--num-envs must be at least 1"):
        train(preset("hopper", num_envs=0))
    run_dir = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="pole_mas"):
        evaluate(run_dir, {"pole_mas": 1.0})

    def broken(row):
        raise KeyError("a callback's own fault")

    other = preset("inverted_pendulum", **FEW, run_dir=str(tmp_path / "other"))
    with pytest.raises(KeyError, match="own fault"):  # as Optuna's TrialPruned
        train(other, callback=broken)
    assert len(list_checkpoints(tmp_path / "other")) == 1
    with pytest.raises(ConfigError, match="can't change --sac-lr"):
        train(other.replace(resume=tmp_path / "other", sac_lr=1.0))
    with pytest.raises(StorageError, match="typo: no run here"):
        train(other.replace(resume=str(tmp_path / "typo")))


def test_a_pessimism_takes_the_place_of_the_presets():
    assert preset("hopper", drop_target=0.1).adversary.drop_target == 0.1
    fixed = preset("hopper", eta=2.0).adversary
    assert (fixed.eta, fixed.drop_target, fixed.kl_target_nats) == (2.0, None, None)
    kept = preset("hopper", seed=1).adversary
    assert kept == preset("hopper").adversary


def test_the_package_loads_nothing_heavy_until_it_is_needed():
    code = (
        "import sys, rmbpo_fast\n"
        "assert not {'torch', 'envpool', 'gymnasium'} & set(sys.modules)\n"
        "import rmbpo_fast.train\n"
        "from rmbpo_fast import train\n"
        "assert callable(train) and callable(train.main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        rmbpo_fast.trane  # noqa: B018


def test_a_runs_config_is_a_start_for_another(tmp_path):
    before = preset("inverted_pendulum", seed=3, eta=0.2, run_dir=tmp_path / "old")
    (tmp_path / "old").mkdir()
    write_config(tmp_path / "old", before, {}, find_task("inverted_pendulum"))
    for file in (tmp_path / "old" / "config.json", tmp_path / "old"):
        found = parse(["--config", str(file), "--sac-lr", "0.001"])
        assert found == before.replace(sac_lr=0.001, run_dir=None)
    # a target beside it takes the place of its eta, as of a preset's
    found = parse([f"--config={tmp_path / 'old'}", "--kl-target-nats", "0.1"])
    assert (found.adversary.kl_target_nats, found.task.env) == (0.1, "inverted_pendulum")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bare_command_shows_its_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command])
    assert stopped.value.code == 0
    assert f"usage: python -m rmbpo_fast.{command}" in capsys.readouterr().out


def test_the_command_names_the_others(capsys, tmp_path):
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in COMMANDS)
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: trian: no such command; nearest: train\n"
    words = flags(env="inverted_pendulum", **FEW, run_dir=tmp_path / "run")
    assert main(["train", *words]) == 0
