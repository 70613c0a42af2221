"""The adversary in worlds of growing size, from short runs at one KL target for all of them.

python bench/state_dimension.py --out runs/state_dimension
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from rmbpo_fast.policy import Policy
from rmbpo_fast.run.config_file import CONFIG_FILE
from rmbpo_fast.study.metrics_csv import fitted_rows, read_metrics
from rmbpo_fast.worlds.tasks import find_task

TASKS = ("inverted_pendulum", "hopper", "halfcheetah", "walker2d", "ant", "humanoid")
LAST_FITS = 4


@dataclass(frozen=True)
class Arguments:
    """Trains each task for some thousand real steps and prints what its adversary does."""

    out: Path = Path("runs/state_dimension")
    """Folder of the runs; one that is there goes on."""
    kl_target_nats: float = 0.005
    """The same for every task."""
    random_steps: int = 1_000
    """Before the first fit."""
    total_env_steps: int = 3_000
    """Of each run, a fit every 250 of them."""


def train(task: str, arguments: Arguments) -> Path:
    """The run's folder."""
    folder = arguments.out / task
    settings: dict[str, object] = {
        "env": task,
        "kl-target-nats": arguments.kl_target_nats,
        "random-steps": arguments.random_steps,
        "total-env-steps": arguments.total_env_steps,
        "epoch-steps": 250,
        "threads": 1,
        "run-dir": folder,
    }
    if (folder / CONFIG_FILE).exists():  # finished, or stopped on the way
        settings = {"resume": folder}
    flags = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "rmbpo_fast.train", *flags, "--compile"], check=True)
    return folder


def row(task: str, folder: Path) -> list[str]:
    """A line of the table: means over the last fits."""
    metrics = read_metrics(folder / "metrics.csv")
    fits = fitted_rows(metrics)[-LAST_FITS:]

    def mean(name: str) -> float:
        return sum(metrics[f"adversary/{name}"][i] for i in fits) / len(fits)

    return [
        find_task(task).env_id,
        str(Policy.load(folder).obs_size),
        f"{mean('kl_nats'):.4f}",
        f"{mean('eta'):.3g}",
        *(f"{mean(name):.3g}" for name in ("value_drop", "value_mean", "value_std")),
    ]


def main(arguments: Arguments) -> None:
    """Trains what isn't there and prints the table."""
    columns = ("task", "S", "KL, nats", "eta", "drop of V", "V", "std of V under p")
    table = Table(*columns, box=None)
    for task in TASKS:
        table.add_row(*row(task, train(task, arguments)))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
