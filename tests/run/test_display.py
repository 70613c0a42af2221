import io

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


def test_time_left_follows_epochs_that_learned(monkeypatch):
    """Random epochs take a second each, those that learn 100."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    console = Console(width=80, file=io.StringIO())
    display = Display(console, "a run", 0, 1_000, Stopwatch(), lambda: False)
    for step, seconds in ((100, 1), (200, 1), (300, 100), (400, 100)):
        now[0] += seconds
        learned = {"sac/updates": 100} if step > 200 else {}
        assert display._time_left() == "?"
        display.step(step)
        display.epoch({**ROW, **learned, "env_step": step})
    assert display._time_left() == clock(600)


def test_clock():
    assert clock(3723.9) == "1:02:03"
