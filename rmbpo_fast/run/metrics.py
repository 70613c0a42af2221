"""What a run reports: averages over an epoch, seconds per phase, metrics.csv and TensorBoard."""

import csv
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from rmbpo_fast.errors import StorageError

PHASES = ("env", "world_model", "adversary", "rollout", "sac", "eval", "checkpoint", "other")


def columns(num_members: int, of_learner: Sequence[str]) -> list[str]:
    """The header of metrics.csv. A cell is empty where its part hasn't run in the epoch.

    Args:
        of_learner: see `Learner.metrics`.
    """
    return [
        "env_step",
        "epoch",
        "eval/return_mean",
        "eval/return_std",
        "train/return_mean",
        "train/episodes",
        "env/steps",
        "env/steps_per_s",
        "world_model/nll_nats",
        "world_model/steps",
        *(f"world_model/nll_nats_{i}" for i in range(num_members)),
        *(f"world_model/holdout_mse_{i}" for i in range(num_members)),
        "world_model/elites",
        "termination/bce_nats",
        "adversary/kl_nats",
        "adversary/value_drop",
        "adversary/value_std",
        "adversary/value_mean",
        "adversary/newest_kl_nats",
        "adversary/newest_drop_share",
        "adversary/shift_cosine",
        "adversary/steps",
        "adversary/eta",
        "rollout/horizon_steps",
        "rollout/imagined_steps",
        "rollout/alive_length_mean",
        *of_learner,
        "sac/updates",
        *(f"time/{phase}_s" for phase in PHASES),
        "time/epoch_s",
        "time/wall_s",
    ]


class Stopwatch:
    """Attributes every second to exactly one phase, so the phases add up to the whole.

    Args:
        synchronize: waits for the device, on one that works asynchronously.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._synchronize = synchronize
        self.now, self._since = "other", time.perf_counter()

    def switch(self, phase: str) -> str:
        """Books the time since the last switch, goes over to `phase`; returns the phase left."""
        if self._synchronize is not None:
            self._synchronize()  # queued work belongs to the phase that queued it
        now = time.perf_counter()
        self.seconds[self.now] += now - self._since
        left, self.now, self._since = self.now, phase, now
        return left

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Books the body's time under `name`; the surrounding phase goes on behind it."""
        outer = self.switch(name)
        try:
            yield
        finally:
            self.switch(outer)


class Metrics:
    """Averages between two rows, and the files that the rows go to.

    Args:
        run_dir: takes metrics.csv and the TensorBoard events.
        header: see `columns`; an unknown name is an error.
        synchronize: see `Stopwatch`.
    Attributes:
        last_step: real step of the last row, 0 before the first.
    Raises:
        StorageError: metrics.csv is there with another header.
    """

    def __init__(
        self, run_dir: Path, header: list[str], synchronize: Callable[[], None] | None = None
    ) -> None:
        self.header = header
        self.watch = Stopwatch(synchronize)
        self.wall_s = 0.0
        self.last_step = 0
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._csv_path = run_dir / "metrics.csv"
        if self._csv_path.exists() and self._csv_path.stat().st_size:
            with open(self._csv_path, newline="") as handle:
                found, *rows = csv.reader(handle)
            if found != header:
                raise StorageError(f"{self._csv_path}: its header is not this run's")
            if any(len(row) != len(header) for row in rows):
                raise StorageError(f"{self._csv_path}: a row is cut; remove it to go on")
            if rows:
                self.last_step = int(rows[-1][header.index("env_step")])
                self.wall_s = float(rows[-1][header.index("time/wall_s")])
        else:
            self._append(header)
        self._board = SummaryWriter(str(run_dir))

    def _append(self, cells: list[Any]) -> None:
        with open(self._csv_path, "a", newline="") as handle:
            csv.writer(handle).writerow(cells)
            handle.flush()
            os.fsync(handle.fileno())

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Adds to the epoch's averages. Tensors stay on their device until `flush`."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def count(self, name: str, number: int) -> None:
        """Adds to an epoch's total."""
        self._totals[name] = self._totals.get(name, 0) + number

    def note(self, name: str, text: str) -> None:
        """A value that can't be averaged, such as the list of elites; the last one counts."""
        self._texts[name] = text

    def averages(self) -> dict[str, float]:
        """The averages so far."""
        return {name: float(total) / self._counts[name] for name, total in self._sums.items()}

    def elapsed_s(self) -> float:
        """Seconds of training so far, those before a resume included."""
        self.watch.switch(self.watch.now)
        return self.wall_s + sum(self.watch.seconds.values())

    def flush(self, env_step: int, epoch: int) -> dict[str, Any]:
        """Writes the epoch's row and starts anew. Returns the row."""
        self.watch.switch("other")
        seconds, self.watch.seconds = self.watch.seconds, dict.fromkeys(PHASES, 0.0)
        epoch_s = sum(seconds.values())
        self.wall_s += epoch_s
        row: dict[str, Any] = {
            **self.averages(),
            **self._totals,
            **self._texts,
            **{f"time/{phase}_s": value for phase, value in seconds.items()},
            "env_step": env_step,
            "epoch": epoch,
            "env/steps_per_s": self._totals.get("env/steps", 0) / epoch_s,
            "time/epoch_s": epoch_s,
            "time/wall_s": self.wall_s,
        }
        if unknown := row.keys() - set(self.header):
            raise KeyError(f"metrics without a column: {sorted(unknown)}")
        self._append([row.get(name, "") for name in self.header])
        for name, value in row.items():
            if not isinstance(value, str):
                self._board.add_scalar(name, value, env_step)
        self._board.flush()
        self.last_step = env_step
        self._sums, self._counts, self._totals, self._texts = {}, {}, {}, {}
        return row

    def close(self) -> None:
        self._board.close()

    def state_dict(self) -> dict[str, Any]:
        """Averages and seconds of the epoch in progress."""
        return {
            "sums": [[k, float(v), self._counts[k]] for k, v in self._sums.items()],
            "totals": list(self._totals.items()),
            "texts": list(self._texts.items()),
            "seconds": list(self.watch.seconds.values()),
            "wall_s": self.wall_s,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Takes a checkpoint's epoch in progress, from `state_dict` and the checkpoint's env_step.

        Where a row was written since, that epoch is over and counted already.
        """
        if self.last_step > state["env_step"]:
            return
        self._sums = {name: total for name, total, _ in state["sums"]}
        self._counts = {name: count for name, _, count in state["sums"]}
        self._totals = dict(state["totals"])
        self._texts = dict(state["texts"])
        self.watch.seconds = dict(zip(PHASES, state["seconds"], strict=True))
        self.wall_s = state["wall_s"]
