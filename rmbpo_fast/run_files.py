"""The folder of a run: made once, described in config.json, found again by --resume."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from rmbpo_fast import __version__
from rmbpo_fast.agent import Agent, add_unrecorded, load_tree_into
from rmbpo_fast.checkpoint import load_newest
from rmbpo_fast.config import Config, from_json, to_json
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.journal import JournalWriter, read_journal
from rmbpo_fast.metrics import Metrics
from rmbpo_fast.storage import write_text_atomically
from rmbpo_fast.tasks import Task

CONFIG = "config.json"


def new_run_dir(config: Config, task: Task) -> Path:
    """Makes the folder of a new run. Raises ConfigError where one is there already."""
    path = config.run.run_dir
    if path is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = Path("runs", task.name, config.adversary.algo, f"{config.run.seed}-{stamp}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(f"--run-dir {path} is not empty; --resume {path} goes on with a run")
    except OSError as error:
        raise ConfigError(f"--run-dir {path}: can't be written ({error.strerror})") from error
    return path


def write_config(run_dir: Path, config: Config, machine: dict[str, Any]) -> None:
    """config.json: settings, version, and the machine that figures were taken on."""
    content = {"version": __version__, "machine": machine, "config": to_json(config)}
    write_text_atomically(run_dir / CONFIG, json.dumps(content, indent=2) + "\n")


def read_config(run_dir: Path) -> Config:
    """The settings of a run. Raises StorageError where it is no run of ours."""
    try:
        return from_json(json.loads((run_dir / CONFIG).read_text())["config"])
    except OSError as error:
        raise StorageError(f"{run_dir}: no run here ({CONFIG}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{run_dir}: {CONFIG} can't be read ({error})") from error


def restore(
    agent: Agent, metrics: Metrics, run_dir: Path, accept_damage: bool
) -> tuple[JournalWriter, str]:
    """Networks from the last checkpoint, real data from checkpoint and journal.

    Returns:
        A new journal segment that goes on where the real data ends; what was found, in a line.
    Raises:
        StorageError: a damaged checkpoint or journal that wasn't to be accepted.
    """
    width = agent.real.rows.shape[1]
    journal = torch.from_numpy(read_journal(run_dir / "journal", width, accept_damage))
    newest = load_newest(run_dir, accept_damage)
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
        load_tree_into(agent, tree, journal)
        metrics.load_state_dict(tree["metrics"])
        found = f"networks of step {saved_step} ({folder.name})"
    writer = JournalWriter(run_dir / "journal", len(journal), width)
    missing = agent.real.oldest_first()[len(journal) :]
    if len(missing):
        writer.append(missing.cpu().numpy())
    return writer, f"{found}, real data up to step {agent.progress.env_step}"
