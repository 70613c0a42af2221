"""What a person sees of a sweep: the plan, a live table on a terminal, a line per change elsewhere.

All of it comes from the runs' own folders, so the table needs nothing from their workers.
"""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from rmbpo_fast.run.display import LiveView, clock
from rmbpo_fast.study.sweep.plan import PlannedRun
from rmbpo_fast.study.sweep.workers import START_MARK, Outcome

_ORDER = ("failed", "running", "stopped", "waiting", "finished")
_LOOK_EVERY_S = 2.0  # files of many runs, perhaps on a network's disk
_AROUND_TABLE = 6  # lines of the terminal that aren't rows


def starts(log: Path) -> int:
    """How often a run's worker was started, by its log."""
    return log.read_text(errors="replace").count(START_MARK) if log.exists() else 0


def last_row(path: Path) -> dict[str, str]:
    """The newest whole row of a metrics.csv, {} where there is none yet."""
    try:
        with open(path, newline="") as handle:
            rows = [row for row in csv.DictReader(handle) if None not in row.values()]
    except FileNotFoundError:
        return {}
    return rows[-1] if rows else {}


def _cell(row: Mapping[str, str], name: str, layout: str) -> str:
    return layout.format(float(row[name])) if row.get(name) else "-"


class RunView:
    """One run as its files show it.

    Attributes:
        state: waiting, running, finished, stopped or failed; reason: why, for a failure.
        step: real steps so far.
        row: its last row of metrics.csv.
        starts: of its worker since the sweep's process began.
    """

    def __init__(self, run: PlannedRun) -> None:
        self.run = run
        self.state = "finished" if run.finished else "waiting"
        self.reason = ""
        self._starts_before = starts(run.log)
        self._first: tuple[float, int] | None = None  # when and where it was seen to learn
        self.look()

    def look(self) -> None:
        """Reads the run's files again."""
        self.step = self.run.step
        self.row = last_row(self.run.run_dir / "metrics.csv")
        self.starts = starts(self.run.log) - self._starts_before
        if self.state == "waiting" and self.starts:
            self.state = "running"
        learns = self.step >= self.run.config.task.random_steps
        if self.state == "running" and self._first is None and learns:
            self._first = (time.monotonic(), self.step)

    def end(self, outcome: Outcome) -> None:
        self.look()
        self.state, self.reason = outcome

    def seconds_left(self) -> float | None:
        """At the pace since the worker began to learn; None as long as that is unknown."""
        if self.state != "running" or self._first is None or self.step == self._first[1]:
            return None
        then, first = self._first
        return (self.run.total - self.step) * (time.monotonic() - then) / (self.step - first)

    def state_text(self) -> str:
        """`running`, or `running, start 2` behind a worker that died."""
        return f"{self.state}, start {self.starts}" if self.starts > 1 else self.state


class SweepTable(LiveView):
    """Shows the runs' progress. Use as a context manager.

    Args:
        console: where to write; decides between live and plain.
        views: the sweep's runs, finished ones included.
    """

    def __init__(self, console: Console, title: str, views: Sequence[RunView]) -> None:
        super().__init__(console, refresh_per_second=2)
        self._title, self._views = title, views
        self._started = self._looked = time.monotonic()
        self._shown = {view.run.name: view.state_text() for view in views}
        self._stopping = False

    def update(self, ended: Mapping[str, Outcome], stopping: bool) -> None:
        """Takes what has ended, by run; looks at the other runs' files from time to time."""
        self._stopping = stopping
        going = [view for view in self._views if view.state in ("waiting", "running")]
        look = time.monotonic() - self._looked > _LOOK_EVERY_S
        if look:
            self._looked = time.monotonic()
        for view in going:
            if view.run.name in ended:
                view.end(ended[view.run.name])
            elif look:
                view.look()
        if self._live is None:
            for view in going:
                if view.state_text() != self._shown[view.run.name]:
                    self._shown[view.run.name] = view.state_text()
                    self._print(view)

    def _print(self, view: RunView) -> None:
        returned = _cell(view.row, "eval/return_mean", "{:.1f}")
        self._console.print(
            f"{view.run.name} {view.state_text()}, step {view.step}/{view.run.total}, "
            f"return {returned}" + f": {view.reason}" * bool(view.reason),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def render(self) -> Group:
        """The table as it is now, no higher than the terminal."""
        table = Table(box=None, padding=(0, 1))
        for name in ("run", "state"):
            table.add_column(name, no_wrap=True)
        for name in ("real steps", "return", "KL nats", "steps/s", "time left"):
            table.add_column(name, justify="right", no_wrap=True)
        views = sorted(self._views, key=lambda view: _ORDER.index(view.state))
        room = max(1, self._console.height - _AROUND_TABLE)
        for view in views[:room]:
            left = view.seconds_left()
            table.add_row(
                view.run.name,
                view.state_text(),
                f"{view.step:,}/{view.run.total:,}",
                _cell(view.row, "eval/return_mean", "{:.1f}"),
                _cell(view.row, "adversary/kl_nats", "{:.4f}"),
                _cell(view.row, "env/steps_per_s", "{:.1f}") if view.state == "running" else "-",
                clock(left) if left is not None else "-",
            )
        states = [view.state for view in self._views]
        counts = ", ".join(f"{states.count(s)} {s}" for s in _ORDER if s in states)
        more = f"; {len(views) - room} more not shown" if len(views) > room else ""
        note = Text(f"{counts}{more}; {clock(time.monotonic() - self._started)} so far", "dim")
        if self._stopping:
            stop = "stopping: runs end their step and save; once more stops without saving"
            note = Text(stop, "bold")
        return Group(Text(self._title, "bold"), table, note)


def plan_table(views: Sequence[RunView], seconds: Mapping[str, tuple[float, float]]) -> Table:
    """What each run needs, before anything starts.

    Args:
        seconds: by name of the run, at least and at most.
    """
    table = Table(box=None, padding=(0, 1))
    for name in ("run", "now"):
        table.add_column(name, no_wrap=True)
    for name in ("real steps", "needs"):
        table.add_column(name, justify="right", no_wrap=True)
    for view in views:
        now = "finished" if view.state == "finished" else "resume" if view.run.started else "new"
        needs = between(seconds[view.run.name]) if view.run.name in seconds else "-"
        table.add_row(view.run.name, now, f"{view.step:,}/{view.run.total:,}", needs)
    return table


def between(seconds: tuple[float, float]) -> str:
    """`0:40:00 to 1:10:00`, or one time where both are the same."""
    low, high = (clock(s) for s in seconds)
    return low if low == high else f"{low} to {high}"
