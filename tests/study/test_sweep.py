"""Sweeps: workers that die or fail, a stop, wrong settings, and what is shown at the end."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

from conftest import SMALL, flags, read_metrics
from rmbpo_fast import sweep, train
from rmbpo_fast.policy import Policy
from rmbpo_fast.run.checkpoint import load_newest
from rmbpo_fast.run.journal import reached, read_journal
from rmbpo_fast.study.sweep import session

WIDTH = 4 + 1 + 1 + 4 + 1
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: .[sweep]")
SHORT = {key: value for key, value in SMALL.items() if key != "device"}
# long enough to be hit half-way
LEARNING = {"updates_per_step": 4}
EVALUATION = ["--distort", "pole_mass=5,50", "--episodes", "2"]


def words(out, etas, seeds, **more):
    settings = {**SHORT, **LEARNING, **more}
    chosen = ["--eta", *map(str, etas), "--seeds", str(seeds), "--out", str(out)]
    return [*chosen, *flags(env="inverted_pendulum", **settings)]


@pytest.fixture(scope="module", autouse=True)
def short_fits():
    """Runs in this process must be those in Ray's, in which nothing is patched."""


@pytest.fixture(autouse=True)
def _workers_are_not_niced(monkeypatch):
    """Ray's workers are nice to everything else; on a busy machine a test would wait for them."""
    monkeypatch.setenv("RAY_worker_niceness", "0")


def wait_for(condition, what, seconds=240):
    """A bound keeps a broken sweep from hanging."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


def processes(log):
    """Process ids of a run's workers, by its log."""
    return [int(n) for n in re.findall(r"process (\d+)", log.read_text())] if log.exists() else []


@pytest.mark.slow
@needs_ray
def test_a_killed_worker_resumes_and_the_other_runs_dont_notice(tmp_path, capsys):
    """Two etas, two seeds; the third run's worker is killed half-way, by SIGKILL."""
    out = tmp_path / "sweep"
    victim, log = out / "eta-1-seed-0", out / "logs/eta-1-seed-0.txt"
    seen = {}

    def kill():
        wait_for(lambda: reached(victim / "journal") >= 110, "half of the run to be killed")
        (process,) = processes(log)
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: not os.path.exists(f"/proc/{process}/exe"), "the worker's death")
        seen["step"] = reached(victim / "journal")

    killer = threading.Thread(target=kill)
    killer.start()
    command = words(out, (0, 1), 2) + EVALUATION
    status = sweep.main(command)
    killer.join()
    assert status == 0
    assert 110 <= seen["step"] < 200
    printed = capsys.readouterr().out
    assert "eta-1-seed-0 finished, start 2" in printed
    assert f"4 of 4 runs to train in {out}, 2 at a time with 1 CPU thread each" in printed
    assert processes(log)[0] not in processes(log)[1:]
    assert "networks of step 100" in log.read_text().split("== start of")[2]
    assert [int(row["env_step"]) // 50 for row in read_metrics(victim)] == [1, 2, 3, 4]
    for eta in (0, 1):
        for seed in (0, 1):
            alone, run = tmp_path / f"alone-{eta}-{seed}", out / f"eta-{eta}-seed-{seed}"
            settings = {**SMALL, **LEARNING, "eta": eta, "seed": seed, "threads": 1}
            assert train.main(flags(env="inverted_pendulum", **settings, run_dir=alone)) == 0
            expected = read_journal(alone / "journal", WIDTH)
            found = read_journal(run / "journal", WIDTH)
            assert len(found) == 200
            assert load_newest(run, False)[1]["progress"]["env_step"] == 200
            # after a kill -9 the networks are those of the last checkpoint: what came before it is
            # the same, every step is there once, and the rest is another draw
            exact = seen["step"] if run == victim else 200
            np.testing.assert_array_equal(found[:exact], expected[:exact])
            if run != victim:
                assert read_metrics(run) == read_metrics(alone)
                assert Policy.load(run).digest == Policy.load(alone).digest
                assert len(processes(out / f"logs/{run.name}.txt")) == 1
    check_results(out)
    before = {
        file: file.stat().st_mtime_ns for file in out.glob("*/*") if file.parent.name != "results"
    }
    assert sweep.main(command) == 0  # nothing is left to train
    assert f"all 4 runs in {out} are finished" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in before}


def check_results(out):
    """The evaluation's figures over the whole sweep."""
    results = out / "results"
    for name in ("eta.png", "eta.pdf", "adversary_kl.png", "pole_mass/figure.png"):
        assert (results / name).stat().st_size > 1_000, name
    rows = json.loads((results / "eta.json").read_text())
    assert [row["eta"] for row in rows] == [0, 1]
    with open(results / "nominal/results.csv", newline="") as handle:
        evaluated = {row["policy"].rpartition("/")[2]: row for row in csv.DictReader(handle)}
    for row in rows:
        means = list(row["runs"].values())
        assert row["return"] == pytest.approx(np.mean(means))
        for name, mean in row["runs"].items():
            assert mean == pytest.approx(float(evaluated[name]["return_mean"]))
    assert rows[0]["last_kl_nats"] is None  # MBPO has no adversary
    last = [float(read_metrics(out / f"eta-1-seed-{s}")[-1]["adversary/kl_nats"]) for s in (0, 1)]
    assert rows[1]["last_kl_nats"] == pytest.approx(np.mean(last))
    curves = json.loads((results / "pole_mass/results.json").read_text())
    assert [group["runs"] for group in curves["worlds"][0]["groups"]] == [2, 2]


@pytest.mark.slow
@needs_ray
def test_a_stopped_sweep_goes_on_and_a_run_that_cant_is_reported(tmp_path, capsys):
    out = tmp_path / "sweep"
    runs = [out / "eta-0.05-seed-0", out / "eta-0.05-seed-1"]
    endless = words(out, (0.05,), 2, total_env_steps=100_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "rmbpo_fast.sweep", *endless],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: all(reached(run / "journal") > 70 for run in runs), "both to learn")
    finally:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process in it
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "stopped; the same command goes on" in output
    steps = [reached(run / "journal") for run in runs]
    for run, step in zip(runs, steps, strict=True):  # saved, and not only journalled
        assert load_newest(run, False)[1]["progress"]["env_step"] == step
    metrics = runs[1] / "metrics.csv"
    metrics.write_text(metrics.read_text()[:-60])
    again = words(out, (0.05,), 2, total_env_steps=max(steps) + 20)
    assert sweep.main([*again, "--retries", "1", *EVALUATION]) == 1
    printed = capsys.readouterr()
    assert "failed: eta-0.05-seed-1: StorageError" in printed.err
    assert "metrics.csv: a row is cut; remove it to go on (2 starts)" in printed.err
    assert [reached(run / "journal") for run in runs] == [max(steps) + 20, steps[1]]
    log = (out / "logs/eta-0.05-seed-0.txt").read_text()
    assert f"networks of step {steps[0]}" in log.split("== start of")[2]
    # the figures are those of the runs that have ended
    (row,) = json.loads((out / "results/eta.json").read_text())
    assert list(row["runs"]) == [runs[0].name]


def refused(capsys, arguments, *parts):
    assert sweep.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    for part in parts:
        assert part in error


@needs_ray
@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"eta": (1, 1)}, ["--eta: two values are the same in six digits, the folders': 1 1"]),
        ({"eta": (-1,)}, ["--eta must be at least 0"]),
        ({"seeds": 0}, ["--seeds must be at least 1"]),
        ({"algo": "mbpo"}, ["expected --algo rmbpo, found mbpo"]),
        (
            {"eta": (1, 2), "kl_target_nats": 0.1},
            ["--eta and --kl-target-nats: the target would adapt every eta to one"],
        ),
        (
            {"eta": (1, 2), "drop_target": 0.1},
            ["--eta and --drop-target: the target would adapt every eta to one"],
        ),
        ({"resume": "x"}, ["--resume: a sweep names its runs' folders"]),
        ({"distort": "pole_mass"}, ["expected NAME=VALUE"]),
        ({"threads": 10_000}, ["--threads 10000: Ray has"]),
        ({"gpus_per_run": 1.5}, ["--gpus-per-run must be"]),
        ({"device": "cuda:1"}, ["which GPU a run has is for Ray to say"]),
        ({"device": "cpu", "gpus_per_run": 0.5}, ["don't go together"]),
        ({"address": "here"}, ["--address here: expected auto or host:port"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_are_one_line(capsys, tmp_path, monkeypatch, more, parts):
    if "threads" in more or "device" in more or "gpus_per_run" in more:

        class Cluster:  # starting Ray to be told what it has takes seconds
            def __enter__(self):
                return {"CPU": 2.0}

            def __exit__(self, *error):
                return None

        monkeypatch.setattr(session, "ray_cluster", lambda address: Cluster())
    chosen = {"eta": (0, 1), "seeds": 1, "out": tmp_path / "sweep", **more}
    refused(capsys, flags(env="inverted_pendulum", **chosen), *parts)
    assert not (tmp_path / "sweep").exists()


@needs_ray
def test_an_address_where_nobody_answers_is_one_line_at_once(capsys, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    refused(capsys, [*words(tmp_path, (0, 1), 1), "--address", address], f"--address {address}: ")
    assert time.monotonic() - started < 10


def test_without_ray_one_line_says_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("rmbpo_fast.study.sweep.workers.find_spec", lambda name: None)
    refused(capsys, words(tmp_path, (0, 1), 1), 'python -m pip install ".[sweep]"')


def test_a_flag_that_no_run_has_is_tyros_to_explain(capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        sweep.main([*words(tmp_path, (0, 1), 1), "--etta", "3"])
    assert stopped.value.code == 2
    assert "--eta" in capsys.readouterr().err
