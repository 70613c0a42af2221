"""Interruptions: an orderly stop resumes bit for bit, a kill loses no real transition."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch

from conftest import flags, read_metrics, train_process
from rmbpo_fast import train
from rmbpo_fast.kernels.backend import native
from rmbpo_fast.run.checkpoint import list_checkpoints, load_newest, save_checkpoint
from rmbpo_fast.run.journal import read_journal
from same_run import assert_same_run

WIDTH = 4 + 1 + 1 + 4 + 1


def _episode_end(run_dir, after):
    """The first real step at or behind `after` with which an episode ended."""
    terminated = read_journal(run_dir / "journal", WIDTH)[:, -1]
    return int(np.flatnonzero(terminated[after:])[0]) + after + 1


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"algo": "mbpo"},
        {"adversary": "paper"},
        {"kl_target_nats": 0.01},
        {"drop_target": 0.05},
        {"termination": "learned"},
        {"compile": True},
        {"correlated_noise": True},
        {"entropy_rows": 30},
        {"algo": "sac"},
        {"algo": "mbpo", "randomize": ("pole_mass=2:20", "gravity=8:12")},
        {"explore": "nominal"},
    ],
    ids=lambda more: " ".join(more) or "default",
)
def test_an_orderly_stop_at_an_episodes_end_resumes_bit_for_bit(small_flags, tmp_path, more):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    arguments = [*small_flags, *flags(**more, total_env_steps=150)]
    assert train.main([*arguments, *flags(run_dir=whole)]) == 0
    stop = _episode_end(whole, after=70)
    assert stop < 120
    assert train.main([*arguments, *flags(run_dir=halves, total_env_steps=stop)]) == 0
    assert train.main(flags(resume=halves, total_env_steps=150)) == 0
    assert_same_run(halves, whole, WIDTH)


def test_a_stop_in_mid_episode_starts_a_new_one(small_flags, tmp_path):
    arguments = [*small_flags, *flags(run_dir=tmp_path)]
    assert train.main([*arguments, "--total-env-steps", "103"]) == 0
    assert train.main(flags(resume=tmp_path, total_env_steps=150)) == 0
    rows = read_journal(tmp_path / "journal", WIDTH)
    assert len(rows) == 150
    obs, next_obs = rows[:, :4], rows[:, 6:10]
    assert not np.array_equal(obs[103], next_obs[102])
    starts = obs[np.r_[0, np.flatnonzero(rows[:-1, -1]) + 1]]
    assert len(np.unique(starts, axis=0)) == len(starts)  # no episode is played twice


def _start(run_dir, **more):
    settings = {"total_env_steps": 100_000, "updates_per_step": 3, **more}
    return train_process(run_dir, subprocess.PIPE, subprocess.STDOUT, **settings)


def _wait_for_rows(run_dir, count, process):
    """Until the journal holds so many transitions (a bound keeps a broken run from hanging)."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        segments = list(run_dir.glob("journal/*.bin"))
        if segments and len(read_journal(run_dir / "journal", WIDTH)) > count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} transitions: {process.communicate()[0]}")


def test_sigkill_loses_no_real_transition(tmp_path):
    process = _start(tmp_path, checkpoint_every_steps=100)
    _wait_for_rows(tmp_path, 160, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_journal(tmp_path / "journal", WIDTH)
    saved = load_newest(tmp_path, False)[1]["progress"]["env_step"]
    assert 0 < saved < len(before)
    total = len(before) + 20
    assert train.main(flags(resume=tmp_path, total_env_steps=total)) == 0
    after = read_journal(tmp_path / "journal", WIDTH)
    assert len(after) == total
    np.testing.assert_array_equal(after[: len(before)], before)
    real = load_newest(tmp_path, False)[1]["real"]["rows"].numpy()
    np.testing.assert_array_equal(real, after)
    # a row per epoch, in order, although one may have been due when the process was killed
    rows = read_metrics(tmp_path, timed=True)
    steps = [int(row["env_step"]) for row in rows]
    assert [step // 50 for step in steps] == list(range(1, total // 50 + 1))
    wall = [float(row["time/wall_s"]) for row in rows]
    assert wall == sorted(wall)
    # what was played after the checkpoint isn't played again
    new = after[len(before) :, :4]
    old = before[:, :4]
    assert not (new[:, None] == old[None]).all(-1).any()


def test_sigkill_before_the_first_checkpoint(tmp_path):
    process = _start(tmp_path, checkpoint_every_steps=90_000)
    _wait_for_rows(tmp_path, 20, process)
    process.kill()
    process.wait()
    count = len(read_journal(tmp_path / "journal", WIDTH))
    assert train.main(flags(resume=tmp_path, total_env_steps=count + 5)) == 0
    rows = read_journal(tmp_path / "journal", WIDTH)
    assert len(rows) == count + 5
    # neither are the first random actions drawn again
    assert not np.isin(rows[count:, 4], rows[:count, 4]).any()


def test_a_second_signal_stops_at_once(tmp_path):
    process = _start(tmp_path, updates_per_step=500)  # a step takes longer than the test
    _wait_for_rows(tmp_path, 50, process)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopping, then saving; once more stops at once" in output
    assert "without saving; the journal has every real step" in output
    assert f"--resume {tmp_path}" in output
    assert len(read_journal(tmp_path / "journal", WIDTH)) >= 50


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, number):
    process = _start(tmp_path)
    _wait_for_rows(tmp_path, 70, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"python -m rmbpo_fast.train --resume {tmp_path}" in output
    saved = load_newest(tmp_path, False)[1]["progress"]["env_step"]
    assert saved == len(read_journal(tmp_path / "journal", WIDTH))


def test_damage_is_refused_then_passed_over_when_told(small_flags, capsys, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=110)]) == 0
    older, newest = list_checkpoints(tmp_path)
    damaged = newest / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    content = damaged.read_bytes()
    capsys.readouterr()
    assert train.main(flags(resume=tmp_path, total_env_steps=130)) == 1
    error = capsys.readouterr().err
    assert "--resume-fallback" in error
    assert error.count("\n") == 1
    # a row and a policy of the course that is given up, which had come further
    metrics = tmp_path / "metrics.csv"
    *_, row = metrics.read_text().splitlines(keepends=True)
    metrics.write_text(metrics.read_text() + row.replace("100,", "150,", 1))
    ahead = tmp_path / "policies" / "step-000000150.safetensors"
    ahead.touch()
    assert train.main(flags(resume=tmp_path, total_env_steps=130, resume_fallback=True)) == 0
    assert f"networks of step 100 ({older.name}), real data up to step 110" in (
        capsys.readouterr().out
    )
    assert [int(row["env_step"]) for row in read_metrics(tmp_path)] == [50, 100]
    assert not ahead.exists()
    aside = newest.with_name(f"damaged0-{newest.name}")
    assert (aside / damaged.name).read_bytes() == content
    # the fallback is not remembered: the next resume needs no flag, and would refuse new damage
    assert train.main(flags(resume=tmp_path, total_env_steps=131)) == 0
    recorded = json.loads((tmp_path / "config.json").read_text())["config"]["run"]
    assert recorded["resume_fallback"] is False
    assert recorded["resume"] is None
    assert len(read_journal(tmp_path / "journal", WIDTH)) == 131


def test_a_torn_journal_goes_on_from_checkpoint_and_valid_part(small_flags, capsys, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=110)]) == 0
    (segment,) = (tmp_path / "journal").glob("*.bin")
    segment.write_bytes(segment.read_bytes()[:-700])
    assert train.main(flags(resume=tmp_path, total_env_steps=130)) == 1
    assert "damaged after" in capsys.readouterr().err
    assert train.main(flags(resume=tmp_path, total_env_steps=130, resume_fallback=True)) == 0
    # the checkpoint still held what the journal lost
    assert len(read_journal(tmp_path / "journal", WIDTH)) == 130
    assert train.main(flags(resume=tmp_path, total_env_steps=140)) == 0


def test_a_stop_before_the_first_fit_resumes(small_flags, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=20)]) == 0
    assert train.main(flags(resume=tmp_path, total_env_steps=60)) == 0
    assert len(read_journal(tmp_path / "journal", WIDTH)) == 60


def test_several_environments_survive_a_stop(small_flags, tmp_path):
    arguments = [*small_flags, *flags(run_dir=tmp_path, num_envs=3)]
    assert train.main([*arguments, "--total-env-steps", "100"]) == 0  # 102, the next multiple
    assert train.main(flags(resume=tmp_path, total_env_steps=150)) == 0
    rows = read_journal(tmp_path / "journal", WIDTH)
    assert len(rows) == 150
    for i in range(3):
        mine = rows[i::3]
        same = (mine[1:, :4] == mine[:-1, 6:10]).all(-1)
        breaks = np.flatnonzero(~same)
        # a new episode only where one ended, and at the stop
        assert set(breaks) <= set(np.flatnonzero(mine[:, -1])) | {33}


def test_a_finished_run_is_left_alone_and_never_cut(small_flags, capsys, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]) == 0
    before = list_checkpoints(tmp_path)
    assert train.main(flags(resume=tmp_path)) == 0
    assert list_checkpoints(tmp_path) == before
    capsys.readouterr()
    assert train.main(flags(resume=tmp_path, total_env_steps=40)) == 2
    assert "--total-env-steps 40: the run has come to step 60" in capsys.readouterr().err
    assert len(read_journal(tmp_path / "journal", WIDTH)) == 60


def test_another_kind_of_device_gets_streams_of_its_own(small_flags, tmp_path):
    """What a checkpoint of a GPU brings to a CPU: generator states that mean nothing there."""
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]) == 0
    folder, tree = load_newest(tmp_path, False)
    shutil.rmtree(folder)
    for name in tree["streams"]:
        if name != "env_noise":
            tree["streams"][name] = torch.zeros(16, dtype=torch.uint8)
            tree["stream_devices"][name] = "cuda"
    save_checkpoint(tmp_path, 60, tree, keep=2)
    assert train.main(flags(resume=tmp_path, total_env_steps=110)) == 0


def test_a_start_that_was_killed_while_it_wrote_its_settings_can_be_repeated(small_flags, tmp_path):
    (tmp_path / ".config.json.0f").write_text("{")
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]) == 0
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60)]) == 2


def test_resume_keeps_the_runs_settings(small_flags, capsys, tmp_path):
    assert train.main([*small_flags, *flags(run_dir=tmp_path, total_env_steps=60, eta=0.3)]) == 0
    capsys.readouterr()
    assert train.main(flags(resume=tmp_path, eta=0.4)) == 2
    assert "can't change --eta" in capsys.readouterr().err
    assert train.main(flags(resume=tmp_path, total_env_steps=60)) == 0


@pytest.mark.skipif(native is None, reason="the native library isn't installed")
def test_a_resume_keeps_the_precision_that_auto_found(small_flags, tmp_path, capsys):
    """On a processor that would choose another one today, too."""
    run_dir = tmp_path / "run"
    compiled = flags(run_dir=run_dir, compile=True, total_env_steps=60)
    assert train.main([*small_flags, *compiled]) == 0
    file = run_dir / "config.json"
    content = json.loads(file.read_text())
    other = "bf16" if content["machine"]["precision"] == "fp32" else "fp32"
    content["machine"]["precision"] = other
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert train.main(["--resume", str(run_dir), "--total-env-steps", "70"]) == 0
    assert f"native kernels in {other}" in capsys.readouterr().out
    assert json.loads(file.read_text())["machine"]["precision"] == other
