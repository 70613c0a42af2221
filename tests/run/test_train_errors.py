"""The command where something is wrong: one line, a status, and what is kept."""

import os
import subprocess
import threading

import numpy as np
import pytest
import torch

from conftest import flags, read_metrics, train_process
from rmbpo_fast import train
from rmbpo_fast.run import loop
from rmbpo_fast.run.checkpoint import list_checkpoints, load_newest
from rmbpo_fast.worlds.vector_env import EnvPoolVector, StepResult


def fails(arguments, capsys, status, *parts):
    assert train.main(arguments) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"env": "hoper"}, ["hoper", "nearest: hopper"]),
        ({"env": "CartPole-v1"}, ["expected a flat box of actions"]),
        ({"total_env_steps": -1}, ["--total-env-steps must be at least 1"]),
        ({"num_envs": 0}, ["--num-envs must be at least 1"]),
        ({"eta": "nan"}, ["--eta must be finite"]),
        ({"device": "cuda:7"}, ["--device cuda:7", "CUDA devices"]),
        ({"device": "warp"}, ["--device warp: expected auto, cpu, cuda"]),
        ({"adversary_dims": (9,)}, ["--adversary-dims", "expected 0 to 4"]),
        ({"start_spread": (0.6,)}, ["--start-spread must be 4 numbers", "(0.6,)"]),
        ({"termination": "nowhere:f"}, ["--termination nowhere:f"]),
        ({"termination": "nowhere"}, ["expected auto, learned, never or module:function"]),
        ({"termination": "torch:det"}, ["--termination torch:det: for states (2, 3, 4) it raises"]),
        ({"termination": "torch:isnan"}, ["expected a bool tensor (2, 3)", "found torch.bool"]),
        ({"run_dir": "/proc/run"}, ["--run-dir /proc/run: can't be written"]),
        ({"resume": "/nowhere"}, ["/nowhere: no run here"]),
    ],
    ids=str,
)
def test_bad_input_is_one_line_and_a_status(
    small_flags, capsys, tmp_path, more, parts, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status = 1 if "resume" in more else 2
    fails([*small_flags, *flags(**more)], capsys, status, *parts)
    assert not any(tmp_path.glob("runs/**/metrics.csv"))


def test_a_folder_with_something_in_it_is_not_taken(small_flags, capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    fails([*small_flags, *flags(run_dir=tmp_path)], capsys, 2, "is not empty\n")
    (tmp_path / "config.json").write_text("{}")
    fails([*small_flags, *flags(run_dir=tmp_path)], capsys, 2, f"--resume {tmp_path} goes on")


def test_a_start_on_a_full_disk_can_be_started_again(small_flags, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rmbpo_fast.run.files.write_config", full)
        fails([*small_flags, *flags(run_dir=tmp_path / "a")], capsys, 1, "No space left")
    arguments = [*small_flags, *flags(run_dir=tmp_path / "b", total_env_steps=60)]
    assert train.main(arguments) == 0


def test_a_damaged_metrics_file_is_one_line(small_flags, capsys, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]) == 0
    path = tmp_path / "metrics.csv"
    path.write_text(path.read_text()[:-60])
    capsys.readouterr()
    fails(flags(resume=tmp_path, total_env_steps=70), capsys, 1, "metrics.csv: a row is cut")
    path.write_text("")  # as a full disk may leave it
    assert train.main(flags(resume=tmp_path, total_env_steps=70)) == 0


def test_a_flag_without_its_value_is_tyros_to_explain(capsys):
    with pytest.raises(SystemExit):
        train.main(["--env", "hopper", "--eta"])
    assert "usage: train.py" not in capsys.readouterr().err


def test_wrong_flags_are_tyros_to_explain(small_flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main([*small_flags, "--etta", "1"])
    assert stopped.value.code == 2
    assert "--eta" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["nan", "exception"])
def test_a_fault_of_the_environment_saves_the_networks(
    small_flags, capsys, tmp_path, monkeypatch, fault
):
    original, calls = EnvPoolVector.step, []

    def broken(self, actions):
        calls.append(1)
        result = original(self, actions)
        if len(calls) < 70:
            return result
        if fault == "exception":
            raise ValueError("the robot fell off the table")
        return StepResult(result.obs * np.nan, *result[1:])

    arguments = [*small_flags, *flags(run_dir=tmp_path, eval_episodes=1, epoch_steps=100)]
    with monkeypatch.context() as patch:
        patch.setattr(EnvPoolVector, "step", broken)
        assert train.main(arguments) == 1
    *before, last = capsys.readouterr().err.splitlines()
    what = "the robot fell off the table" if fault == "exception" else "not finite"
    assert last.startswith("error: at step 69: ")
    for part in (what, "networks are saved at step 69", f"--resume {tmp_path}"):
        assert part in last
    # an exception is of the task's own code, whose author needs to see where
    assert any("Traceback" in line for line in before) == (fault == "exception")
    assert train.main(flags(resume=tmp_path, total_env_steps=80)) == 0
    assert "networks of step 69" in capsys.readouterr().out


def test_a_closed_pipe_saves_the_networks(tmp_path):
    """As `train | head -3` leaves it."""
    reader, writer = os.pipe()
    process = train_process(tmp_path, writer, subprocess.PIPE)
    os.close(writer)
    text = b""
    while text.count(b"\n") < 3:
        text += os.read(reader, 4_096)
    os.close(reader)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1
    (line,) = error.splitlines()
    (kept, *_) = list_checkpoints(tmp_path)
    assert "Broken pipe; networks are saved at step" in line
    assert load_newest(tmp_path, accept_older=False)[0] >= kept


def test_a_run_in_a_thread(small_flags, tmp_path):
    """As Ray Tune and Optuna start it; signals come to a process's main thread alone."""
    status = []
    command = [*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]
    thread = threading.Thread(target=lambda: status.append(train.main(command)))
    thread.start()
    thread.join()
    assert status == [0]


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_a_diverged_run_keeps_its_last_good_checkpoint(
    small_flags, capsys, tmp_path, monkeypatch, part
):
    original = loop.update_policies

    def poisoned(agent, updates):
        if agent.progress.env_step == 80:
            with torch.no_grad():
                getattr(agent.learner, part).net.biases[0].fill_(torch.nan)
        return original(agent, updates)

    monkeypatch.setattr(loop, "update_policies", poisoned)
    fails([*small_flags, *flags(run_dir=tmp_path)], capsys, 1, "finite")
    (kept,) = list_checkpoints(tmp_path)
    assert kept.name == "step-000000050"
    assert load_newest(tmp_path, accept_older=False) is not None
    assert len(read_metrics(tmp_path)) == 1


def test_a_learning_rate_that_is_far_too_large_ends_in_one_line(small_flags, capsys, tmp_path):
    fails([*small_flags, *flags(run_dir=tmp_path, sac_lr=1e30)], capsys, 1, "finite")
    assert not list_checkpoints(tmp_path)


def test_a_full_disk_ends_the_run_in_one_line(small_flags, capsys, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rmbpo_fast.storage._save_file", full)
    parts = ("No space left on device", f"--resume {tmp_path}")
    fails([*small_flags, *flags(run_dir=tmp_path)], capsys, 1, *parts)
    assert not list_checkpoints(tmp_path)
