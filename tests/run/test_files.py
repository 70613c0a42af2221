"""A run's folder: whose it is, who may read it, what is printed of it."""

import os
import random
import shlex
import stat
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from rich.console import Console

from conftest import flags
from rmbpo_fast import train
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run import files
from rmbpo_fast.run.display import Display
from rmbpo_fast.run.files import begin_run, resume_command
from rmbpo_fast.run.metrics import Stopwatch
from rmbpo_fast.seeding import seed_everything
from rmbpo_fast.study.sweep.plan import PlannedRun
from rmbpo_fast.worlds.tasks import find_task

PENDULUM = find_task("inverted_pendulum")


@pytest.fixture
def one_second(monkeypatch):
    """The clock stands still."""

    class Now:
        @staticmethod
        def now():
            return Now()

        def strftime(self, layout):
            return "20260101-120000"

    monkeypatch.setattr(files, "datetime", Now)


def test_runs_that_start_in_one_second_have_folders_of_their_own(
    small, tmp_path, monkeypatch, one_second
):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda _: begin_run(small, PENDULUM, {}), range(16)))
    assert len(set(begun)) == 16
    assert all((path / "config.json").is_file() for path in begun)


def test_a_file_where_the_runs_folder_belongs_is_said(small, tmp_path, monkeypatch, one_second):
    """`mkdir` says of it what it says of a run that was faster: that it exists."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / PENDULUM.name).mkdir(parents=True)
    (tmp_path / "runs" / PENDULUM.name / "rmbpo").touch()
    with pytest.raises(ConfigError, match="can't be made"):
        begin_run(small, PENDULUM, {})


def test_a_named_folder_is_taken_by_one_run_only(small, tmp_path):
    config = small.replace(run_dir=tmp_path / "a run")

    def begin(_):
        try:
            return begin_run(config, PENDULUM, {})
        except ConfigError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(begin, range(8)))
    refused = [text for text in found if isinstance(text, str)]
    assert len(refused) == 7
    assert all(f"is not empty; {resume_command(config.run.run_dir)}" in text for text in refused)


def test_the_printed_command_is_one_for_a_shell(tmp_path):
    run_dir = tmp_path / "my run; rm -rf 'x'"
    assert shlex.split(resume_command(run_dir))[-2:] == ["--resume", str(run_dir)]


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_others_may_read_what_the_umask_lets_them(small_flags, tmp_path, mask):
    before = os.umask(mask)
    try:
        assert train.main([*small_flags, *flags(run_dir=tmp_path / "run", total_env_steps=60)]) == 0
    finally:
        os.umask(before)
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(path.name == "state.safetensors" for path in written)
    for path in written:
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path


def test_a_path_in_brackets_is_shown_as_it_is(tmp_path):
    console = Console(force_terminal=True, width=120, record=True)
    title = "rmbpo in runs/[/bold] [red]"
    with Display(console, title, 0, 10, Stopwatch(), lambda: True) as display:
        display.print(title)
    assert title in console.export_text()


def test_global_generators_follow_the_seed_and_go_on_elsewhere():
    def draw(*seed):
        seed_everything(*seed)
        return random.random(), np.random.random(), float(torch.rand(()))

    assert draw(3) == draw(3)
    for other in (draw(4), draw(3, 100)):
        assert all(a != b for a, b in zip(draw(3), other, strict=True))


def test_buffers_larger_than_the_memory_are_refused_before_the_run(small_flags, tmp_path, capsys):
    huge = flags(total_env_steps=10**11, run_dir=tmp_path / "run")
    assert train.main([*small_flags, *huge]) == 2
    error = capsys.readouterr().err
    assert "transitions in the replay buffers take" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_that_ends_behind_its_last_step_is_finished(small_flags, tmp_path, capsys):
    """Sixteen environments make steps of sixteen, which 200 isn't a multiple of."""
    run_dir = tmp_path / "run"
    assert train.main([*small_flags, *flags(run_dir=run_dir, num_envs=16)]) == 0
    assert train.main(["--resume", str(run_dir)]) == 0
    assert "real data up to step 208" in capsys.readouterr().out
    config = files.read_config(run_dir).replace(run_dir=run_dir)
    assert PlannedRun(config).finished
    assert train.main(["--resume", str(run_dir), "--total-env-steps", "150"]) == 2
    assert "the run has come to step 208" in capsys.readouterr().err
