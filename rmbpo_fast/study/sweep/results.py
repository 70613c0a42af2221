"""The end of a sweep: the evaluation over all its runs, return and adversary's KL per eta."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from rmbpo_fast.storage import write_text_atomically
from rmbpo_fast.study import evaluation, figures
from rmbpo_fast.study.figures import COLOURS
from rmbpo_fast.study.metrics_csv import fitted_rows, read_metrics
from rmbpo_fast.study.robustness import summarise
from rmbpo_fast.study.sweep.plan import PlannedRun
from rmbpo_fast.worlds.grids import has_paper_grid, make_experiment
from rmbpo_fast.worlds.tasks import find_task

Curve = tuple[np.ndarray, np.ndarray]  # real steps [n], KL in nats [n]


def evaluate_all(
    runs: Sequence[PlannedRun], distort: tuple[str, ...], episodes: int, command: str, out: Path
) -> None:
    """Plays every run's last policy in the nominal task and in distorted ones; writes to `out`.

    Args:
        distort: as evaluate's --distort; the paper's distortions if empty, where it has any.
        episodes: of each policy at each value.
        command: what the results are said to come from.
    """
    paths = tuple(str(run.run_dir) for run in runs)
    env = runs[0].config.task.env
    evaluation.run(evaluation.Arguments(paths, episodes=episodes, out=out), command)
    if distort:
        evaluation.run(evaluation.Arguments(paths, distort, episodes=episodes, out=out), command)
    elif has_paper_grid(env):
        evaluation.run(
            evaluation.Arguments(paths, grid="paper", episodes=episodes, out=out), command
        )
    else:
        print(f"no robustness curves: the paper has no grid for {env}; --distort takes one")


def compare_etas(runs: Sequence[PlannedRun], out: Path) -> None:
    """Return against eta and the adversary's KL per eta: eta.json and two figures in `out`.

    Args:
        runs: those that `evaluate_all` has played, in its order.
    """
    nominal = json.loads((out / make_experiment((), None).slug() / "results.json").read_text())
    of_eta: dict[float, dict[str, float]] = {}
    curves: dict[float, list[Curve]] = {}
    for run, returns in zip(runs, nominal["worlds"][0]["returns"], strict=True):
        eta = run.config.adversary.eta
        of_eta.setdefault(eta, {})[run.name] = float(np.mean(returns))
        curve = _kl_over_training(run)
        if len(curve[0]):
            curves.setdefault(eta, []).append(curve)
    rows = []
    for eta in sorted(of_eta):
        result = summarise(f"eta {eta:g}", np.array(list(of_eta[eta].values())), "mean")
        last = [kl[-1] for _, kl in curves.get(eta, [])]
        rows.append(
            {
                "eta": eta,
                "return": result.value,
                "return_low": result.low,
                "return_high": result.high,
                "runs": of_eta[eta],
                "last_kl_nats": float(np.mean(last)) if last else None,
            }
        )
    write_text_atomically(out / "eta.json", json.dumps(rows, indent=1) + "\n")
    env_id = find_task(runs[0].config.task.env).env_id
    files = figures.save(_return_against_eta(env_id, rows), out / "eta")
    if curves:
        files += figures.save(_adversary_kl(env_id, curves), out / "adversary_kl")
    print(f"{out}: eta.json, {', '.join(file.name for file in files)}")


def _kl_over_training(run: PlannedRun) -> Curve:
    """The epochs in which the adversary was fitted."""
    metrics = read_metrics(run.run_dir / "metrics.csv")
    fitted = fitted_rows(metrics)
    steps, kl = (np.array(metrics[name])[fitted] for name in ("env_step", "adversary/kl_nats"))
    return steps, kl


def _eta_axis(axes: Axes, etas: Sequence[float]) -> None:
    """Logarithmic between the etas, with a place for 0."""
    positive = [eta for eta in etas if eta > 0]
    if len(positive) > 1:
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    axes.xaxis.set_major_locator(FixedLocator(list(etas)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{eta:g}" for eta in etas])
    axes.set_xlabel("eta (0: MBPO)" if 0 in etas else "eta")


def _return_against_eta(env_id: str, rows: Sequence[dict[str, Any]]) -> Figure:
    """Each eta's mean over its runs as a line with its interval, each run's own as a dot."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    etas = [row["eta"] for row in rows]
    axes.plot(etas, [row["return"] for row in rows], color=COLOURS[0], marker="o")
    banded = all(row["return_low"] is not None for row in rows)
    if banded:
        low, high = ([row[end] for row in rows] for end in ("return_low", "return_high"))
        axes.fill_between(etas, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    for row in rows:
        means = list(row["runs"].values())
        axes.plot([row["eta"]] * len(means), means, ".", color="0.3", markersize=5, zorder=3)
    _eta_axis(axes, etas)
    counts = sorted({len(row["runs"]) for row in rows})
    axes.set_ylabel("nominal return, mean" + (" and 95 % interval" if banded else ""))
    axes.set_title(f"{env_id}, {' to '.join(map(str, counts))} run(s) per eta (dots)")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    return figure


def _adversary_kl(env_id: str, curves: dict[float, list[Curve]]) -> Figure:
    """KL(g || p) per step over training: a colour per eta, a thin line per run, their mean thick.

    The mean is over the steps that all of an eta's runs have.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, eta in enumerate(sorted(curves)):
        colour = COLOURS[i % len(COLOURS)]
        for steps, kl in curves[eta]:
            axes.plot(steps, kl, color=colour, alpha=0.35, linewidth=0.8)
        shared = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curves[eta])))
        mean = [np.mean([kl[steps == s][0] for steps, kl in curves[eta]]) for s in shared]
        # one fit makes no line
        marker = "o" if len(shared) == 1 else ""
        axes.plot(shared, mean, color=colour, linewidth=2, marker=marker, label=f"{eta:g}")
    if any((kl > 0).any() for of_eta in curves.values() for _, kl in of_eta):
        axes.set_yscale("log", nonpositive="mask")
    axes.set_xlabel("real steps")
    axes.set_ylabel("KL(g || p) per step (nats)")
    axes.set_title(f"{env_id}: the adversary's KL per eta")
    axes.grid(alpha=0.3)
    axes.legend(title="eta", frameon=False)
    return figure
