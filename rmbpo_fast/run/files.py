"""The folder of a run: made once, described in config.json, found again by --resume."""

import contextlib
import csv
import fcntl
import itertools
import json
import os
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmbpo_fast import __version__
from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.policy import epoch_file, epoch_files
from rmbpo_fast.run.agent import Agent, build
from rmbpo_fast.run.checkpoint import load_newest, set_aside_newer, step_of
from rmbpo_fast.run.config_file import CONFIG_FILE, read_config, to_json
from rmbpo_fast.run.journal import JournalWriter, read_journal
from rmbpo_fast.run.state import add_unrecorded, load_tree_into
from rmbpo_fast.storage import Tree, write_csv_atomically, write_text_atomically
from rmbpo_fast.worlds.definition import definition
from rmbpo_fast.worlds.envs import BEGINS
from rmbpo_fast.worlds.tasks import Task, find_task


def resume_command(run_dir: Path) -> str:
    """What a shell takes to go on with a run."""
    return shlex.join(["python", "-m", "rmbpo_fast.train", "--resume", str(run_dir)])


def begin_run(config: Config, task: Task, machine: dict[str, Any]) -> Path:
    """Makes the folder of a new run with its config.json, which no other process can do at once.

    A folder without config.json is no run that --resume could go on with, so it comes first.

    Raises:
        ConfigError: the folder isn't empty, or can't be written.
    """
    path = config.run.run_dir or _free_folder(config, task)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"--run-dir {path}: can't be written ({error.strerror})") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # a process that was killed while it wrote its settings leaves an unfinished file of them
        if any(not p.name.startswith(f".{CONFIG_FILE}.") for p in path.iterdir()):
            there = (path / CONFIG_FILE).exists()
            hint = f"; {resume_command(path)} goes on with its run" if there else ""
            raise ConfigError(f"--run-dir {path} is not empty{hint}")
        write_config(path, config, machine, task)
    finally:
        os.close(lock)
    return path


def _free_folder(config: Config, task: Task) -> Path:
    """runs/<task>/<algo>/<seed>-<time>, made here: runs of one second get a number behind it."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    stem = Path("runs", task.name, config.adversary.algo, f"{config.run.seed}-{stamp}")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        raise ConfigError(f"{stem}: can't be made ({error.strerror})") from error
    raise AssertionError("unreachable")


def write_config(run_dir: Path, config: Config, machine: dict[str, Any], task: Task) -> None:
    """config.json: settings, version, the machine that figures were taken on, the task's facts."""
    # how this start was asked for is not a setting of the run
    config = config.replace(resume=None, resume_fallback=False)
    facts = {
        "env_id": task.env_id,
        "stepped_by": task.backend,
        "rule": None if task.rule is None else task.rule.__name__,
        "max_episode_steps": task.max_episode_steps,
        "limit_is_ours": task.limit_is_ours,
        **definition(task.env_id),
    }
    content = {
        "version": __version__,
        "machine": machine,
        "task": facts,
        "config": to_json(config),
    }
    write_text_atomically(run_dir / CONFIG_FILE, json.dumps(content, indent=2) + "\n")


def restore(agent: Agent, run_dir: Path) -> tuple[JournalWriter, dict[str, Any] | None, str]:
    """Networks from the last checkpoint, real data from checkpoint and journal.

    Returns:
        A new journal segment that goes on where the real data ends; the checkpoint's metrics of
        the epoch in progress, None without a checkpoint; what was found, in a line.
    Raises:
        StorageError: a damaged checkpoint or journal that wasn't to be accepted.
        ConfigError: the run is beyond --total-env-steps.
    """
    config, accept_damage = agent.config, agent.config.run.resume_fallback
    width = agent.real.width
    journal = torch.from_numpy(read_journal(run_dir / "journal", width, accept_damage))
    newest = load_newest(run_dir, accept_damage)
    reached = max(len(journal), newest[1]["progress"]["env_step"] if newest else 0)
    if reached > config.task.last_env_step:
        raise ConfigError(
            f"--total-env-steps {config.task.total_env_steps}: the run has come to step {reached}"
        )
    epoch_in_progress: dict[str, Any] | None = None
    if newest is None:
        add_unrecorded(agent, journal)
        found = "no checkpoint yet: networks start anew"
    else:
        folder, tree = newest
        saved_step = tree["progress"]["env_step"]
        if len(journal) < saved_step and not accept_damage:
            raise StorageError(
                f"{run_dir / 'journal'}: ends at step {len(journal)}, before the checkpoint's "
                f"{saved_step}; --resume-fallback takes the checkpoint's data"
            )
        _load(agent, folder, tree, journal)
        if accept_damage:
            set_aside_newer(run_dir, folder)
            forget_after(run_dir, agent.progress.env_step)
        epoch_in_progress = {**tree["metrics"], "env_step": saved_step}
        found = f"networks of step {saved_step} ({folder.name})"
    writer = JournalWriter(run_dir / "journal", len(journal), width)
    missing = agent.real.oldest_first()[len(journal) :]
    if len(missing):
        # where in their episodes they were went with the journal: each stands alone
        writer.append(missing.cpu().numpy(), np.full(len(missing), BEGINS, dtype=np.uint8))
    return writer, epoch_in_progress, f"{found}, real data up to step {agent.progress.env_step}"


def forget_after(run_dir: Path, step: int) -> None:
    """Removes the rows and the policies of a course that a run has given up."""
    for file in epoch_files(run_dir):
        if file > epoch_file(run_dir, step):
            file.unlink()
    path = run_dir / "metrics.csv"
    if path.exists():
        with open(path, newline="") as handle:
            header, *rows = csv.reader(handle)
        at = header.index("env_step")
        write_csv_atomically(path, [header, *(row for row in rows if int(row[at]) <= step)])


def load_run(run_dir: Path) -> tuple[Agent, int]:
    """A run's networks as of its newest checkpoint, on the CPU, and that checkpoint's step.

    Raises:
        StorageError: no run, no checkpoint, or a damaged one.
    """
    config = read_config(run_dir)
    newest = load_newest(run_dir, accept_older=False)
    if newest is None:
        raise StorageError(f"{run_dir}: no checkpoint yet, so there is nothing to analyse")
    folder, tree = newest
    agent = build(config, find_task(config.task.env), torch.device("cpu"))
    agent.envs.close()
    _load(agent, folder, tree, torch.zeros(0, agent.real.width))
    return agent, step_of(folder)


def _load(agent: Agent, folder: Path, tree: Tree, journal: Tensor) -> None:
    try:
        load_tree_into(agent, tree, journal)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(f"{folder}: does not fit this run ({error!r})") from error
