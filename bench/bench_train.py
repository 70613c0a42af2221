"""The whole program on the CPU: real steps per second and seconds of each phase.

python -m pytest bench/bench_train.py --full
"""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHASES = ("env", "world_model", "adversary", "rollout", "sac", "eval", "checkpoint", "other")
# Hopper's own settings, but learning begins after 1,000 random steps and an epoch is a fit
HOPPER = {"env": "hopper", "random-steps": 1000, "epoch-steps": 250, "total-env-steps": 1750}
PENDULUM = {"env": "inverted_pendulum", "total-env-steps": 5000}
COMPILE = ("with --compile", ["--compile"])
PLAIN = ("without", [])


def _train(
    settings: dict[str, object], flags: list[str], run_dir: Path
) -> tuple[float, list[dict[str, float]]]:
    """Wall seconds of the command, and its rows of metrics."""
    start = time.perf_counter()
    words = [str(w) for n, v in {**settings, "run-dir": run_dir}.items() for w in (f"--{n}", v)]
    command = [sys.executable, "-m", "rmbpo_fast.train", *words, *flags]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    with (run_dir / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in r.items() if _is_number(v)} for r in csv.DictReader(file)]
    return seconds, rows


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _measure_hopper(
    name: str, flags: list[str], run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> float:
    """Real steps per second of the two fits after the first, and 500 steps; prints the phases."""
    _, rows = _train(HOPPER, flags, run_dir)
    measured = rows[-2:]
    steps = sum(row["env/steps"] for row in measured)
    seconds = {p: sum(row[f"time/{p}_s"] for row in measured) for p in PHASES}
    epoch = sum(row["time/epoch_s"] for row in measured)
    phases = ", ".join(f"{p} {s:.2f}" for p, s in seconds.items() if s >= 0.005)
    with capsys.disabled():
        print(
            f"\nhopper, {name}: {steps / epoch:.1f} real steps/s over {steps:.0f} steps; "
            f"seconds: {phases}; all {epoch:.2f}"
        )
    return steps / epoch


@pytest.mark.parametrize(
    "ways",
    [[COMPILE], pytest.param([PLAIN, COMPILE], marks=pytest.mark.full)],
    ids=["fast", "both"],
)
def bench_hopper(ways, tmp_path, benchmark, capsys):
    """20 updates a real step, adversary included."""
    for name, flags in ways:
        speed = _measure_hopper(name, flags, tmp_path / name.replace(" ", ""), capsys)
        benchmark.extra_info[name] = speed
    benchmark.pedantic(lambda: None)  # the figures are above, and in --benchmark-json's extra_info


@pytest.mark.full
def bench_nominal_exploration(tmp_path, benchmark, capsys):
    """What a second policy, which explores, costs: the same steps with --explore nominal."""
    speeds = {}
    for explore in ("robust", "nominal"):
        flags = ["--compile", "--explore", explore]
        speeds[explore] = _measure_hopper(f"explore {explore}", flags, tmp_path / explore, capsys)
    with capsys.disabled():
        print(f"{speeds['robust'] / speeds['nominal']:.2f} times the time")
    benchmark.extra_info.update(speeds)
    benchmark.pedantic(lambda: None)


@pytest.mark.full
def bench_pendulum(tmp_path, benchmark, capsys):
    """To 5,000 steps, start of Python included."""
    seconds = {}
    for name, flags in (PLAIN, COMPILE):
        seconds[name], rows = _train(PENDULUM, flags, tmp_path / name.replace(" ", ""))
        with capsys.disabled():
            phases = {p: sum(row[f"time/{p}_s"] for row in rows) for p in PHASES}
            print(
                f"\npendulum, {name}: {seconds[name]:.0f} s; "
                + ", ".join(f"{p} {s:.1f}" for p, s in phases.items() if s >= 0.05)
            )
    with capsys.disabled():
        print(f"ratio {seconds[COMPILE[0]] / seconds[PLAIN[0]]:.2f}")
    benchmark.extra_info.update(seconds)
    benchmark.pedantic(lambda: None)
