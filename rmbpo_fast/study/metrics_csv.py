"""A run's metrics.csv as columns of numbers."""

import csv
from pathlib import Path

from rmbpo_fast.errors import StorageError
from rmbpo_fast.run.metrics import PHASES

_SHOWN_METRICS = {"env_step", "eval/return_mean", "time/wall_s", *(f"time/{p}_s" for p in PHASES)}


def read_metrics(path: Path) -> dict[str, list[float]]:
    """Columns of metrics.csv as numbers; a cell that is empty, or no number, counts as 0.

    A row that a killed process cut is left out.
    """

    def number(cell: str) -> float:
        try:
            return float(cell)
        except ValueError:
            return 0.0

    try:
        with open(path, newline="") as handle:
            header, *rows = [*csv.reader(handle)] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise StorageError(f"{path}: can't be read ({error})") from error
    if not set(header) >= _SHOWN_METRICS:
        raise StorageError(f"{path}: not the metrics of a run")
    rows = [row for row in rows if len(row) == len(header)]
    if not rows:
        raise StorageError(f"{path}: no epoch has ended yet")
    return {name: [number(row[i]) for row in rows] for i, name in enumerate(header)}


def fitted_rows(metrics: dict[str, list[float]]) -> list[int]:
    """The rows of `read_metrics` in whose epoch the adversary was fitted."""
    return [i for i, steps in enumerate(metrics["adversary/steps"]) if steps > 0]
