"""The report's interactive pictures, drawn with Plotly. They draw results; they compute none."""

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rmbpo_fast.run.metrics import PHASES
from rmbpo_fast.study.figures import COLOURS, by_group, grids, nominal_place, value_range
from rmbpo_fast.worlds.dimensions import Dimension

_PHASE_COLOURS = dict(zip(PHASES, COLOURS, strict=True))


def _layout(figure: go.Figure, x: str, y: str, height: int = 420) -> go.Figure:
    """Legends go below, so that a phone's width is left to the picture."""
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 30, "b": 10},
        legend={"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0, "traceorder": "normal"},
        hovermode="closest",
    )
    figure.update_xaxes(title=x, automargin=True)
    figure.update_yaxes(title=y, automargin=True)
    return figure


def _fade(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"


def _band(figure: go.Figure, x: list[float], low: list[float], high: list[float], at: str) -> None:
    figure.add_scatter(
        x=[*x, *reversed(x)],
        y=[*high, *reversed(low)],
        fill="toself",
        fillcolor=_fade(at),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def learning_curves(runs: list[dict[str, Any]], colours: dict[str, str]) -> go.Figure:
    """Deterministic return per epoch, a line for each run, a colour for each group.

    Args:
        runs: group, seed, name and metrics (column -> list of cells) of each.
    """
    figure = go.Figure()
    seen = set()
    for run in runs:
        steps, returns = run["metrics"]["env_step"], run["metrics"]["eval/return_mean"]
        figure.add_scatter(
            x=steps,
            y=returns,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colours[run["group"]], "width": 1.5},
            name=run["group"],
            legendgroup=run["group"],
            showlegend=run["group"] not in seen,
            hovertemplate="step %{x}<br>return %{y:.1f}<extra>" + run["name"] + "</extra>",
        )
        seen.add(run["group"])
    return _layout(figure, "real steps", "return, mean over episodes")


def robustness(results: dict[str, Any], colours: dict[str, str]) -> go.Figure:
    """An experiment of the evaluation: a curve over one distortion, or heat maps over two."""
    first, *rest = results["axes"]
    if rest:
        return _heat_maps(results)
    figure = go.Figure()
    x = [world["at"][0] for world in results["worlds"]]
    for group, rows in by_group(results).items():
        colour = colours[group]
        if rows[0]["low"] is not None:
            low, high = ([row[end] for row in rows] for end in ("low", "high"))
            _band(figure, x, low, high, colour)
        name = f"{group} ({rows[0]['runs']})"
        values = [row["value"] for row in rows]
        figure.add_scatter(x=x, y=values, mode="lines+markers", name=name, line={"color": colour})
    if first["nominal"] is not None:
        figure.add_vline(x=first["nominal"], line_dash="dot", annotation_text="nominal")
    figure.update_yaxes(rangemode="tozero")
    return _layout(figure, first["label"], f"return, {results['statistic']} over runs")


def _heat_maps(results: dict[str, Any]) -> go.Figure:
    across, down = results["axes"]
    of_group = grids(results)
    panels, names = len(of_group), list(of_group)
    figure = make_subplots(
        rows=panels, cols=1, subplot_titles=names, vertical_spacing=0.25 / panels
    )
    for i, grid in enumerate(of_group.values()):
        figure.add_heatmap(
            x=across["values"],
            y=down["values"],
            z=grid,
            coloraxis="coloraxis",
            row=i + 1,
            col=1,
        )
        for axis, draw in ((across, figure.add_vline), (down, figure.add_hline)):
            if (place := nominal_place(axis)) is not None:
                draw(place, line_dash="dot", line_color="white", row=i + 1, col=1)
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    low, high = value_range(of_group)
    scale = {"cmin": low, "cmax": high, "colorscale": "Viridis"}
    figure.update_layout(coloraxis={**scale, "colorbar": {"title": "return"}})
    height = 120 + 300 * panels
    return _layout(figure, across["label"], down["label"], height)


def adversary(analysis: dict[str, Any]) -> go.Figure:
    """Per predicted number: g's mean shift, and the KL that it costs."""
    names = [str(Dimension(**d)) for d in analysis["dimensions"]]
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.2)
    mean = analysis["shift_mean"]
    figure.add_bar(
        y=names,
        x=mean,
        orientation="h",
        marker_color=[COLOURS[1] if m < 0 else COLOURS[0] for m in mean],
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [h - m for h, m in zip(analysis["shift_p90"], mean, strict=True)],
            "arrayminus": [m - lo for lo, m in zip(analysis["shift_p10"], mean, strict=True)],
            "thickness": 1,
            "width": 2,
        },
        row=1,
        col=1,
    )
    kl = analysis["kl_per_dimension"]
    figure.add_bar(y=names, x=kl, orientation="h", marker_color=COLOURS[2], row=2, col=1)
    _layout(figure, "", "", 220 + 44 * len(names))
    figure.update_layout(showlegend=False)
    shift = "shift of the mean (std of p)<br>line: 80 % of the states"
    figure.update_xaxes(title=shift, row=1, col=1)
    figure.update_xaxes(title="KL(g || p) per step (nats)", row=2, col=1)
    figure.update_xaxes(tickformat="~g", nticks=5)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 10})
    return figure


def phase_times(runs: list[dict[str, Any]]) -> go.Figure:
    """Seconds per phase of each run, stacked: together its time of training."""
    figure = go.Figure()
    for phase in PHASES:
        figure.add_bar(
            y=[run["name"] for run in runs],
            x=[sum(run["metrics"][f"time/{phase}_s"]) for run in runs],
            orientation="h",
            name=phase,
            marker_color=_PHASE_COLOURS[phase],
        )
    figure.update_layout(barmode="stack")
    _layout(figure, "seconds", "", 200 + 28 * len(runs))
    figure.update_layout(legend={"y": -0.9 / (1 + 0.15 * len(runs))})
    figure.update_yaxes(autorange="reversed", tickfont={"size": 10})
    return figure
