"""Pictures and tables of a task's runs, from their settings, metrics, policies and evaluations.

python -m rmbpo_fast.study.summary results/inverted_pendulum
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import scipy.stats
import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from rmbpo_fast.errors import StorageError, run_command
from rmbpo_fast.policy import FILE_NAME, Policy
from rmbpo_fast.run.config_file import CONFIG_FILE, read_config
from rmbpo_fast.study.figures import COLOURS, legend_below, save, wrapped
from rmbpo_fast.study.groups import group_of, told_apart
from rmbpo_fast.study.metrics_csv import fitted_rows, read_metrics
from rmbpo_fast.study.robustness import summarise

LAST_FITS = 10
# MBPO's own curves, arXiv 1906.08253: real steps, mean and std of the return over seeds
PUBLISHED = {
    "hopper": (
        (50_000, 1728, 836),
        (75_000, 3041, 626),
        (100_000, 3319, 333),
        (125_000, 3278, 453),
    )
}
_ADVERSARY = (
    "kl_nats",
    "value_drop",
    "value_std",
    "value_mean",
    "newest_kl_nats",
    "newest_drop_share",
    "eta",
)


@dataclass(frozen=True)
class Arguments:
    """Draws learning curves, steadiness over checkpoints, and prints the adversary's table."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the runs are, at any depth; the pictures go there too."""


@dataclass(frozen=True)
class Run:
    """A run's folder, its group's name and its metrics by column."""

    folder: Path
    group: str
    metrics: dict[str, list[float]]


def read_runs(folder: Path) -> list[Run]:
    """All runs below a folder, in the order of their paths."""
    found = sorted(file.parent for file in folder.rglob(CONFIG_FILE))
    return [Run(f, group_of(read_config(f)), read_metrics(f / "metrics.csv")) for f in found]


def by_group(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs of one algorithm and setting together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.group, []).append(run)
    return groups


def learning_curves(groups: dict[str, list[Run]], task: str) -> Figure:
    """Mean over seeds, with their range; over the epochs that all of a group's runs have."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    names, common = told_apart(groups)
    for i, (group, runs) in enumerate(groups.items()):
        length = min(len(run.metrics["env_step"]) for run in runs)
        steps = runs[0].metrics["env_step"][:length]
        returns = np.array([run.metrics["eval/return_mean"][:length] for run in runs])
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(steps, returns.mean(0), color=colour, label=f"{names[group]} ({len(runs)})")
        axes.fill_between(steps, returns.min(0), returns.max(0), color=colour, alpha=0.2, lw=0)
    if task in PUBLISHED:
        steps, mean, std = np.array(PUBLISHED[task]).T
        label = "MBPO as published, mean and std"
        axes.errorbar(steps, mean, std, fmt="o", color="black", capsize=3, label=label)
    axes.set_xlabel("real steps")
    axes.set_ylabel("return, mean and range over seeds")
    axes.set_title(task)
    axes.grid(alpha=0.3)
    legend_below(figure, common)
    return figure


def places_of_runs(results: dict[str, Any]) -> dict[str, dict[Path, list[int]]]:
    """Places of an evaluation's policies, by group and run."""
    groups: dict[str, dict[Path, list[int]]] = {}
    for i, policy in enumerate(results["policies"]):
        run = Path(policy["policy"]).parents[1]
        groups.setdefault(policy["group"], {}).setdefault(run, []).append(i)
    return groups


def mean_returns(results: dict[str, Any]) -> np.ndarray:
    """[world, policy] over episodes."""
    return np.array([np.mean(world["returns"], axis=-1) for world in results["worlds"]])


def steadiness(results: dict[str, Any]) -> Figure:
    """Every policy of the last epochs in the distorted worlds, a panel per group.

    Args:
        results: results.json of an evaluation of 'policies/*' over one axis.
    """
    groups = places_of_runs(results)
    names, common = told_apart(groups)
    width = 3.2  # inches, of a panel
    figure = Figure(figsize=(width * len(groups), 3.4), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    x = [world["at"][0] for world in results["worlds"]]
    returns = mean_returns(results)
    colours = [colour for colour in COLOURS if colour != "#000000"]  # which is the mean's
    for panel, (group, runs) in zip(panels, groups.items(), strict=True):
        for i, of_run in enumerate(runs.values()):
            panel.plot(x, returns[:, of_run], color=colours[i % len(colours)], lw=0.6, alpha=0.7)
        places = [place for of_run in runs.values() for place in of_run]
        panel.plot(x, returns[:, places].mean(1), color="black", lw=2)
        name = wrapped(names[group], width)
        panel.set_title(f"{name}\n{len(places)} policies, a colour a run", fontsize=9)
        panel.set_xlabel(results["axes"][0]["label"])
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("return; black: mean")
    if common:
        figure.suptitle(wrapped(common, figure.get_figwidth()), fontsize=9)
    return figure


def feedback_gains(policy: Policy, spread: np.ndarray) -> np.ndarray:
    """d(action) / d(obs) [S] near the upright pole, in the environment's units.

    A central difference, averaged over states that are uniform within +-`spread` [S].
    """
    states = np.random.default_rng(0).uniform(-1, 1, (200, len(spread))) * spread
    step = 1e-3
    moved = [states + sign * step * axis for sign in (1, -1) for axis in np.eye(len(spread))]
    ahead, back = policy(np.concatenate(moved)).reshape(2, len(spread), len(states))
    return (ahead - back).mean(-1) / (2 * step)


def spread_table(results: dict[str, Any]) -> Table:
    """Standard deviation of the return over a run's checkpoints, beside that over runs."""
    groups = places_of_runs(results)
    names, common = told_apart(groups)
    columns = ("group", "world", "mean", "std over checkpoints", "std over runs")
    table = Table(*columns, caption=common)
    for group, runs in groups.items():
        for world, returns in zip(results["worlds"], mean_returns(results), strict=True):
            means = [returns[places].mean() for places in runs.values()]
            within = np.mean([returns[places].std() for places in runs.values()])
            cells = (np.mean(means), within, np.std(means))
            table.add_row(names[group], f"{world['at'][0]:g}", *(f"{cell:.0f}" for cell in cells))
    return table


def over_the_worlds(results: dict[str, Any]) -> Table:
    """Mean over all worlds with its 95 % interval, and how far each group is above the first.

    Args:
        results: results.json of an evaluation with one policy a run.
    """
    places = {
        group: [place for of_run in runs.values() for place in of_run]
        for group, runs in places_of_runs(results).items()
    }
    names, common = told_apart(places)
    columns = ("group", "mean", "interval", "above the first", "interval", "each")
    table = Table(*columns, caption=common)
    means = mean_returns(results).mean(axis=0)
    first, *_ = places.values()
    for group, own in places.items():
        found = summarise(group, means[own], "mean")
        cells = [f"{found.value:.0f}", _ends(found.low, found.high)]
        if own is not first and min(len(first), len(own)) > 1:
            above = scipy.stats.bootstrap(
                (means[own], means[first]),
                lambda a, b, axis: a.mean(axis) - b.mean(axis),
                method="percentile",
                rng=np.random.default_rng(0),
            ).confidence_interval
            cells += [
                f"{means[own].mean() - means[first].mean():.0f}",
                _ends(above.low, above.high),
            ]
        else:
            cells += ["", ""]
        table.add_row(names[group], *cells, " ".join(f"{mean:.0f}" for mean in means[own]))
    return table


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{low:.0f} to {high:.0f}"


def adversary_table(groups: dict[str, list[Run]]) -> Table:
    """Means over the last fits and the runs; KL by the optimum's formula at the end."""
    columns = (
        "KL, nats",
        "drop of V",
        "std of V under p",
        "V",
        "KL, newest",
        "share, newest",
        "eta",
    )
    names, common = told_apart(groups)
    more = ("eta² Var / 2", "return at the end", "hours, each")
    table = Table("group", *columns, *more, caption=common)
    for group, runs in groups.items():
        rows = []
        for run in runs:
            fitted = fitted_rows(run.metrics)[-LAST_FITS:]
            missing = [np.nan] * len(run.metrics["env_step"])  # a column that older runs don't have
            found = [run.metrics.get(f"adversary/{name}", missing) for name in _ADVERSARY]
            rows.append([np.mean([values[i] for i in fitted] or [np.nan]) for values in found])
        means = dict(zip(_ADVERSARY, np.mean(rows, axis=0), strict=True))
        cells = [*means.values(), (means["eta"] * means["value_std"]) ** 2 / 2]
        last = np.mean([run.metrics["eval/return_mean"][-1] for run in runs])
        hours = np.mean([run.metrics["time/wall_s"][-1] for run in runs]) / 3600
        texts = ["" if np.isnan(cell) else f"{cell:.3g}" for cell in cells]
        table.add_row(names[group], *texts, f"{last:.0f}", f"{hours:.2f}")
    return table


def gains_table(groups: dict[str, list[Run]], spread: np.ndarray) -> Table:
    """Range over runs of the last policy's gains, and of its action at the upright pole.

    The runs are those whose policy is there.
    """
    columns = ("d action / d x", "angle", "x velocity", "angular velocity", "action at 0")
    names, common = told_apart(groups)
    table = Table("group", *columns, caption=common)
    for group, runs in groups.items():
        policies = [Policy.load(run.folder) for run in runs]
        rows = [[*feedback_gains(p, spread), *p(np.zeros(len(spread)))] for p in policies]
        low, high = np.min(rows, axis=0), np.max(rows, axis=0)
        ends = zip(low.round(1), high.round(1), strict=True)
        cells = (f"{a:.1f}" if a == b else f"{a:.1f} to {b:.1f}" for a, b in ends)
        table.add_row(names[group], *cells)
    return table


def run(arguments: Arguments) -> None:
    """Reads, prints, draws."""
    folder, console = arguments.folder, Console(width=170)
    runs = read_runs(folder)
    if not runs:
        raise StorageError(f"{folder}: no run here ({CONFIG_FILE})")
    groups = by_group(runs)
    task = read_config(runs[0].folder).task.env
    save(learning_curves(groups, task), folder / "learning_curves")
    console.print(adversary_table(groups))
    with_policy = by_group(run for run in runs if (run.folder / FILE_NAME).is_file())
    if task == "inverted_pendulum" and with_policy:
        console.print(gains_table(with_policy, np.array([0.05, 0.01, 0.1, 0.1])))
    for kind in ("averaged", "evaluations"):
        for file in sorted(folder.glob(f"{kind}/*/results.json")):
            console.print(f"{kind}/{file.parent.name}, mean over the worlds")
            console.print(over_the_worlds(json.loads(file.read_text())))
    for file in sorted(folder.glob("checkpoints/*/results.json")):
        results = json.loads(file.read_text())
        save(steadiness(results), folder / f"steadiness_{file.parent.name}")
        console.print(spread_table(results))


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, or 1 for a failure."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m rmbpo_fast.study.summary")
    return run_command(lambda: run(arguments), "stopped")


if __name__ == "__main__":
    sys.exit(main())
