"""A sweep over eta in two pictures: the return against eta, and the adversary's KL per eta."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from rmbpo_fast.figures import COLOURS
from rmbpo_fast.robustness import Summary


class KlCurve(NamedTuple):
    """The adversary's KL over the training of one eta's runs.

    Attributes:
        eta: of the runs.
        runs: (real steps [n], KL in nats [n]) of each run, epochs with a fit only.
    """

    eta: float
    runs: list[tuple[np.ndarray, np.ndarray]]


def _eta_axis(axes: Axes, etas: Sequence[float]) -> None:
    """Logarithmic between the etas, with a place for 0."""
    positive = [eta for eta in etas if eta > 0]
    if len(positive) > 1:
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    axes.xaxis.set_major_locator(FixedLocator(list(etas)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{eta:g}" for eta in etas])
    axes.set_xlabel("eta (0: MBPO)" if 0 in etas else "eta")


def return_against_eta(
    env_id: str, etas: Sequence[float], results: Sequence[Summary], means: Sequence[np.ndarray]
) -> Figure:
    """The nominal return of each eta's final policies.

    Args:
        etas: [n] ascending.
        results: [n] each eta's return over its runs.
        means: [n][runs] each run's own return, drawn as dots.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    values = [result.value for result in results]
    axes.plot(etas, values, color=COLOURS[0], marker="o", label="over the runs")
    banded = all(result.low is not None for result in results)
    if banded:
        low, high = ([getattr(r, end) for r in results] for end in ("low", "high"))
        axes.fill_between(etas, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    for eta, of_runs in zip(etas, means, strict=True):
        axes.plot([eta] * len(of_runs), of_runs, ".", color="0.3", markersize=5, zorder=3)
    _eta_axis(axes, etas)
    counts = sorted({len(of_runs) for of_runs in means})
    axes.set_ylabel("nominal return, mean" + (" and 95 % interval" if banded else ""))
    axes.set_title(f"{env_id}, {' to '.join(map(str, counts))} run(s) per eta (dots)")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    return figure


def adversary_kl(env_id: str, curves: Sequence[KlCurve]) -> Figure:
    """KL(g || p) per step over training: a colour per eta, a thin line per run, their mean thick.

    The mean is over the steps that all of an eta's runs have.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, curve in enumerate(curves):
        colour = COLOURS[i % len(COLOURS)]
        for steps, kl in curve.runs:
            axes.plot(steps, kl, color=colour, alpha=0.35, linewidth=0.8)
        shared = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curve.runs)))
        mean = [np.mean([kl[steps == s][0] for steps, kl in curve.runs]) for s in shared]
        # one fit makes no line
        marker = "o" if len(shared) == 1 else ""
        axes.plot(shared, mean, color=colour, linewidth=2, marker=marker, label=f"{curve.eta:g}")
    if any((kl > 0).any() for curve in curves for _, kl in curve.runs):
        axes.set_yscale("log")
    axes.set_xlabel("real steps")
    axes.set_ylabel("KL(g || p) per step (nats)")
    axes.set_title(f"{env_id}: the adversary's KL per eta")
    axes.grid(alpha=0.3)
    axes.legend(title="eta", frameon=False)
    return figure
