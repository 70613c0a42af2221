"""What a person sees of a run: a live table on a terminal, one line per epoch elsewhere."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rmbpo_fast.run.metrics import PHASES, Stopwatch

# label, metric, format
_SHOWN = [
    ("return (eval)", "eval/return_mean", "{:.1f}"),
    ("return (train)", "train/return_mean", "{:.1f}"),
    ("adversary KL", "adversary/kl_nats", "{:.4f} nats"),
    ("drop of V", "adversary/value_drop", "{:.3f}"),
    ("eta", "adversary/eta", "{:.3g}"),
    ("rollout k", "rollout/horizon_steps", "{:.0f}"),
    ("alive length", "rollout/alive_length_mean", "{:.2f}"),
    ("model NLL", "world_model/nll_nats", "{:.2f} nats"),
    ("Q", "sac/q_mean", "{:.1f}"),
    ("entropy", "sac/entropy_nats", "{:.2f} nats"),
    ("temperature", "sac/temperature", "{:.4f}"),
]


def clock(seconds: float) -> str:
    """1:02:03."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


_PACE_STEPS = 1_000
_SILENCE_S = 60.0

View = TypeVar("View", bound="LiveView")


class LiveView(ABC):
    """Draws what `render` gives on a terminal, while its context lasts; elsewhere it draws nothing.

    Args:
        console: where to draw.
        refresh_per_second: how often.
    """

    def __init__(self, console: Console, refresh_per_second: float) -> None:
        self._console, self._refresh_per_second = console, refresh_per_second
        self._live: Live | None = None

    @abstractmethod
    def render(self) -> Group:
        """The view as it is now."""

    def __enter__(self: View) -> View:
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self.render,
                console=self._console,
                refresh_per_second=self._refresh_per_second,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


class Screen(Console):
    """A console whose closed pipe is an error like any other; rich ends the process."""

    def on_broken_pipe(self) -> None:
        # what Python flushes at its end must go somewhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


class Display(LiveView):
    """Shows progress. Use as a context manager.

    Args:
        console: where to write; decides between live and plain.
        title: the run in one line.
        first_step, total_steps: real steps done already, and at the end.
        watch: knows the phase at hand, which the live table shows.
        stopping: whether a stop has been asked for; the live table then says so.
        learns_from: real step with which learning begins.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        first_step: int,
        total_steps: int,
        watch: Stopwatch,
        stopping: Callable[[], bool],
        learns_from: int = 0,
    ) -> None:
        super().__init__(console, refresh_per_second=4)
        self._title, self._total = title, total_steps
        self._step, self._watch, self._stopping = first_step, watch, stopping
        self._row: dict[str, Any] = {}
        # the pace is that of steps that learned: random ones are a hundred times faster. So many
        # steps hold a fit, which takes as long as all else
        self._learns_from = learns_from
        self._pace: deque[tuple[float, int]] = deque(maxlen=_PACE_STEPS)
        self._printed = time.monotonic()
        self._bar = Progress(
            TextColumn("real steps"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total_steps, completed=first_step)

    def print(self, text: str) -> None:
        """A line above the live table."""
        self._printed = time.monotonic()
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, env_step: int) -> None:
        """The run has come to this real step."""
        self._step = env_step
        if env_step > self._learns_from:
            self._pace.append((time.monotonic(), env_step))

    def beat(self) -> None:
        """Called often in every phase: off a terminal a line a minute says where a run is."""
        if self._live is None and time.monotonic() - self._printed >= _SILENCE_S:
            now = f"now {self._watch.now}"
            self.print(f"step {self._step}/{self._total}  {now}  left {self._time_left()}")

    def epoch(self, row: dict[str, Any]) -> None:
        """A row of metrics.csv has been written."""
        self._row = row
        if self._live is None:
            parts = [
                f"step {row['env_step']}/{self._total}",
                f"return {row['eval/return_mean']:.1f} +- {row['eval/return_std']:.1f}",
                f"{row['env/steps_per_s']:.1f} steps/s",
                f"left {self._time_left()}",
            ]
            if "adversary/kl_nats" in row:
                parts.append(f"KL {row['adversary/kl_nats']:.4f} nats")
            if "rollout/horizon_steps" in row:
                parts.append(f"k {row['rollout/horizon_steps']:.0f}")
            self.print("  ".join(parts))

    def _speed(self) -> float | None:
        """Real steps a second, lately."""
        if len(self._pace) < 2:
            return None
        (then, first), (now, last) = self._pace[0], self._pace[-1]
        return (last - first) / max(now - then, 1e-9)

    def _time_left(self) -> str:
        speed = self._speed()
        return "?" if speed is None else clock((self._total - self._step) / speed)

    def render(self) -> Group:
        self._bar.update(self._task, completed=self._step)
        row = self._row
        cells = [(label, layout.format(row[name])) for label, name, layout in _SHOWN if name in row]
        cells.insert(0, ("now", self._watch.now))
        cells.insert(1, ("time left", self._time_left()))
        if (speed := self._speed()) is not None:
            cells.insert(2, ("speed", f"{speed:.1f} steps/s"))
        table = Table.grid(padding=(0, 2))
        for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
            table.add_row(Text(left[0], "dim"), left[1], Text(right[0], "dim"), right[1])
        whole = row.get("time/epoch_s", 0.0)
        shares = [
            f"{phase} {100 * row[f'time/{phase}_s'] / whole:.0f} %" for phase in PHASES if whole
        ]
        last = Text(f"last epoch: {', '.join(shares)}" if shares else "", "dim")
        if self._stopping():
            stop = "stopping, then saving; once more stops without saving"
            last = Text(stop, "bold")
        return Group(Text(self._title, "bold"), self._bar, table, last)
