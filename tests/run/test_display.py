import io

import pytest
from rich.console import Console

from rmbpo_fast.run.display import Display, clock
from rmbpo_fast.run.metrics import PHASES, Stopwatch

ROW = {
    "env_step": 500,
    "eval/return_mean": 912.34,
    "eval/return_std": 3.0,
    "env/steps_per_s": 7.7,
    "adversary/kl_nats": 0.00512,
    "rollout/horizon_steps": 1.0,
    "time/epoch_s": 8.0,
    **{f"time/{phase}_s": 1.0 for phase in PHASES},
}


def _show(terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    with Display(console, "a run", 0, 1_000, Stopwatch(), lambda: False) as display:
        display.step(500)
        display.epoch(ROW)
    return out.getvalue()


def test_plain_output_is_one_line_per_epoch():
    (line,) = _show(terminal=False).splitlines()
    assert line.startswith("step 500/1000  return 912.3 +- 3.0  7.7 steps/s  left ?")
    assert line.endswith("KL 0.0051 nats  k 1")


def test_live_table_fits_80_columns():
    console = Console(width=80, file=io.StringIO())
    asked: list[int] = []
    display = Display(console, "a run", 0, 1_000, Stopwatch(), lambda: bool(asked))
    display.step(500)
    display.epoch(ROW)
    expected = ["912.3", "0.0051 nats", "500/1000", "time left", "now", "adversary 12 %"]
    for last in (expected, ["stopping, then saving"]):
        with console.capture() as capture:
            console.print(display.render())
        text = capture.get()
        assert max(map(len, text.splitlines())) <= 80
        for part in last:
            assert part in text
        asked.append(2)


@pytest.fixture
def now(monkeypatch):
    """A clock that the test sets: now[0] seconds."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_time_left_follows_the_steps_that_learned(now):
    """200 random steps take a second in all, those that learn one each."""
    console = Console(width=80, file=io.StringIO())
    display = Display(console, "a run", 0, 1_000, Stopwatch(), lambda: False, learns_from=200)
    for step in range(100, 201, 100):
        now[0] += 0.5
        display.step(step)
    assert display._time_left() == "?"
    for step in range(201, 401):
        now[0] += 1.0
        display.step(step)
    assert display._time_left() == clock(600)
    with console.capture() as capture:
        console.print(display.render())
    assert "1.0 steps/s" in capture.get()  # within an epoch, too


def test_off_a_terminal_a_long_phase_says_where_the_run_is(now):
    out = io.StringIO()
    watch = Stopwatch()
    display = Display(Console(file=out, width=80), "a run", 0, 1_000, watch, lambda: False)
    display.step(70)
    with watch.phase("world_model"):
        for _ in range(130):
            now[0] += 1.0
            display.beat()
    assert out.getvalue() == "step 70/1000  now world_model  left ?\n" * 2


def test_clock():
    assert clock(3723.9) == "1:02:03"
