"""The pictures of the evaluation, as PNG and PDF. They draw results; they compute none."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke

from rmbpo_fast.study.groups import told_apart
from rmbpo_fast.worlds.dimensions import Dimension

# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = "osD^vP*X"
_MOST_OF_HALF_A_LINE = 36  # characters, of a figure 6.4 inches wide
_CHARACTERS_PER_INCH = 11
_PANEL = 3.6  # inches


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes stem.png and stem.pdf, without the date: equal results are equal files."""
    png, pdf = stem.with_suffix(".png"), stem.with_suffix(".pdf")
    figure.savefig(png, dpi=150)
    figure.savefig(pdf, dpi=150, metadata={"CreationDate": None})
    return [png, pdf]


def wrapped(text: str, inches: float) -> str:
    """A long text, a group's name above all, in lines that fit."""
    return textwrap.fill(text, int(_CHARACTERS_PER_INCH * inches))


def legend_below(figure: Figure, title: str = "") -> None:
    """All labels of the figure under it, below a title: in two columns where they are short."""
    entries = [
        entry for a in figure.axes for entry in zip(*a.get_legend_handles_labels(), strict=True)
    ]
    handles = [handle for handle, _ in entries]
    labels = [wrapped(label, figure.get_figwidth()) for _, label in entries]
    columns = 2 if max(map(len, labels)) <= _MOST_OF_HALF_A_LINE else 1
    figure.legend(
        handles,
        labels,
        title=wrapped(title, figure.get_figwidth()),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )


def _names(results: dict[str, Any]) -> tuple[dict[str, str], str]:
    """Legend text per group, what tells it apart and its number of runs; and its title."""
    counts = {group: rows[0]["runs"] for group, rows in by_group(results).items()}
    names, common = told_apart(counts)
    runs = {group: f"({n} {'run' if n == 1 else 'runs'})" for group, n in counts.items()}
    return {group: f"{name} {runs[group]}" for group, name in names.items()}, common


def by_group(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each group's summary in every world, in the order of the worlds."""
    groups = [row["group"] for row in results["worlds"][0]["groups"]]
    return {g: [world["groups"][i] for world in results["worlds"]] for i, g in enumerate(groups)}


def grids(results: dict[str, Any]) -> dict[str, np.ndarray]:
    """Each group's value over two axes, [down, across]."""
    shape = [len(axis["values"]) for axis in results["axes"]]
    return {
        group: np.array([row["value"] for row in rows]).reshape(shape).T
        for group, rows in by_group(results).items()
    }


def _value_label(statistic: str) -> str:
    return "return, mean" if statistic == "mean" else "return, interquartile mean"


def _title(results: dict[str, Any]) -> str:
    """The task, and what is changed throughout."""
    fixed = ", ".join(f"{name} = {value:g}" for name, value in results["fixed"].items())
    return results["env_id"] + (f", {fixed}" if fixed else "")


def robustness_curve(results: dict[str, Any]) -> Figure:
    """Return of each group against one distortion, with intervals over its runs.

    Args:
        results: `robustness.as_json` of an experiment with one axis.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axis = results["axes"][0]
    x = [world["at"][0] for world in results["worlds"]]
    banded = False
    names, common = _names(results)
    for i, (group, rows) in enumerate(by_group(results).items()):
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        values = [row["value"] for row in rows]
        axes.plot(x, values, label=names[group], color=colour, marker=marker, markersize=4)
        if rows[0]["low"] is not None:
            banded = True
            low, high = [row["low"] for row in rows], [row["high"] for row in rows]
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if axis["nominal"] is not None:
        axes.axvline(axis["nominal"], color="0.4", linestyle=":", linewidth=1.2, label="nominal")
    axes.set_xlabel(axis["label"])
    axes.set_ylabel(_value_label(results["statistic"]) + (" and 95 % interval" if banded else ""))
    axes.set_title(_title(results))
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(0.0, bottom), max(1.05 * top, top))
    axes.grid(alpha=0.3)
    legend_below(figure, common)
    return figure


def heat_map(results: dict[str, Any]) -> Figure:
    """Return over two distortions, a panel for each group, all on one colour scale.

    Args:
        results: `robustness.as_json` of an experiment with two axes.
    """
    across, down = results["axes"]
    names, common = _names(results)
    of_group = grids(results)
    low, high = value_range(of_group)
    columns = min(len(of_group), 3)
    rows = -(-len(of_group) // columns)
    figure = Figure(figsize=(1.4 + _PANEL * columns, 0.6 + 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(of_group) :]:
        panel.set_visible(False)
    for panel, (group, grid) in zip(panels.flat, of_group.items(), strict=False):
        image = panel.imshow(
            grid, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="viridis"
        )
        _ticks(panel, across, down)
        panel.set_title(wrapped(names[group], _PANEL), fontsize="medium")
    for panel in panels[:, 0]:
        panel.set_ylabel(down["label"])
    figure.supxlabel(across["label"], fontsize="medium")
    figure.colorbar(image, ax=panels, label=_value_label(results["statistic"]))
    note = " (dotted: nominal)" if any(panel.lines for panel in panels.flat) else ""
    title = wrapped(common, figure.get_figwidth() / 1.2)  # in a larger font
    figure.suptitle(f"{_title(results)}{note}\n{title}".rstrip())
    return figure


def value_range(of_group: dict[str, np.ndarray]) -> tuple[float, float]:
    """One colour scale for all groups' grids; it reaches down to 0."""
    lowest = min(float(grid.min()) for grid in of_group.values())
    return min(0.0, lowest), max(float(grid.max()) for grid in of_group.values())


def nominal_place(axis: dict[str, Any]) -> float | None:
    """Where the nominal value lies among an axis's cells, 0 for the first; None if outside."""
    nominal, values = axis["nominal"], axis["values"]
    if nominal is None or not values[0] <= nominal <= values[-1]:
        return None
    return float(np.interp(nominal, values, range(len(values))))


def _ticks(panel: Axes, across: dict[str, Any], down: dict[str, Any]) -> None:
    """Values at the cells, at most eight each way; dotted lines where the nominal values lie."""
    for axis, set_ticks, line in (
        (across, panel.set_xticks, panel.axvline),
        (down, panel.set_yticks, panel.axhline),
    ):
        step = -(-len(axis["values"]) // 8)
        places = range(0, len(axis["values"]), step)
        set_ticks(places, [f"{axis['values'][i]:g}" for i in places])
        if (place := nominal_place(axis)) is not None:
            drawn = line(place, color="white", linestyle=":", linewidth=1.5)
            drawn.set_path_effects([withStroke(linewidth=3, foreground="0.3")])


def adversary_picture(results: dict[str, Any]) -> Figure:
    """g_psi against p_theta, a row per predicted number: shift, KL, and (ablated) V's drop.

    Args:
        results: content of analyze's analysis.json.
    """
    names = [str(Dimension(**d)) for d in results["dimensions"]]
    rows = np.arange(len(names))
    panels = ["shift", "kl", *(["drop"] if "drop_only" in results else [])]
    width = 3.4 + 2.9 * len(panels)
    title = wrapped(f"How g makes {results['env_id']} harder ({results['group']})", width)
    height = 1.4 + 0.2 * len(title.splitlines()) + 0.28 * len(names)
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.08))
    axes = figure.subplots(1, len(panels), sharey=True)
    mean = np.array(results["shift_mean"])
    low, high = (np.array(results[f"shift_{q}"]) for q in ("p10", "p90"))
    axes[0].barh(rows, mean, color=[COLOURS[1] if m < 0 else COLOURS[0] for m in mean])
    axes[0].hlines(rows, low, high, color="0.25", linewidth=1)
    reach = 1.08 * max(np.abs([mean, low, high]).max(), 1e-6)
    axes[0].set_xlim(-reach, reach)
    axes[0].axvline(0.0, color="0.4", linewidth=0.8)
    axes[0].set_xlabel("shift of the mean (std of p)\nline: 80 % of the states")
    axes[1].barh(rows, results["kl_per_dimension"], color=COLOURS[2])
    axes[1].set_xlabel("KL(g || p) per step (nats)")
    if "drop" in panels:
        axes[2].barh(rows, results["drop_only"], color=COLOURS[3])
        axes[2].axvline(0.0, color="0.4", linewidth=0.8)
        axes[2].set_xlabel("drop of V(s')\nwith g in this one only")
    axes[0].set_yticks(rows, names)
    axes[0].invert_yaxis()
    for panel in axes:
        panel.grid(axis="x", alpha=0.3)
        panel.set_axisbelow(True)
        panel.locator_params(axis="x", nbins=4)
    figure.suptitle(
        f"{title}\n"
        f"{results['kl_nats']:.4f} nats a step take V from {results['value_mean']:.1f} down by "
        f"{results['value_drop']:.2f}",
        fontsize="medium",
    )
    return figure
