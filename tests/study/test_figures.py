"""The numbers that the pictures draw are the numbers of the results."""

import numpy as np
import pytest

from rmbpo_fast.study import figures, report_figures

TORSO = {"label": "torso mass (kg)", "values": [2.0, 4.0, 6.0]}


def group(name, value, spread=None):
    runs = 1 if name.startswith("R") else 2
    low, high = (None, None) if spread is None else (value - spread, value + spread)
    return {"group": name, "runs": runs, "value": value, "low": low, "high": high}


def experiment(axes, worlds):
    return {
        "env_id": "Hopper-v3",
        "statistic": "mean",
        "fixed": {},
        "axes": axes,
        "worlds": worlds,
    }


@pytest.fixture
def curve():
    axis = {"name": "torso_mass", **TORSO, "nominal": 3.66}
    worlds = [
        {"at": [m], "groups": [group("MBPO", 100 * m, 10), group("RMBPO, eta 4", 50 * m)]}
        for m in axis["values"]
    ]
    return experiment([axis], worlds)


@pytest.fixture
def grid():
    across = {"name": "torso_mass", **TORSO, "nominal": 3.0}
    down = {"name": "friction", "label": "friction", "values": [-0.5, 0.5], "nominal": 0.0}
    worlds = [
        {"at": [m, f], "groups": [group("MBPO", 100 * m + f), group("RMBPO, eta 4", m)]}
        for m in across["values"]
        for f in down["values"]
    ]
    return experiment([across, down], worlds)


def test_the_curve(curve):
    figure = figures.robustness_curve(curve)
    axes = figure.axes[0]
    mbpo, rmbpo, nominal = axes.lines
    np.testing.assert_array_equal(mbpo.get_xydata(), [[2, 200], [4, 400], [6, 600]])
    np.testing.assert_array_equal(rmbpo.get_ydata(), [100, 200, 300])
    assert list(nominal.get_xdata()) == [3.66, 3.66]
    (band,) = axes.collections  # a single policy has no interval
    corners = band.get_paths()[0].vertices
    assert {tuple(c) for c in corners} >= {(2.0, 190.0), (2.0, 210.0), (6.0, 590.0), (6.0, 610.0)}
    assert axes.get_xlabel() == "torso mass (kg)"
    assert axes.get_ylabel() == "return, mean and 95 % interval"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["MBPO (2 runs)", "RMBPO, eta 4 (1 run)", "nominal"]


def test_a_figure_says_once_what_all_groups_have(curve, grid):
    for world in (*curve["worlds"], *grid["worlds"]):
        for row in world["groups"]:
            row["group"] += 12 * ", a setting that isn't the preset's"
    legend = figures.robustness_curve(curve).legends[0]
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["MBPO (2 runs)", "RMBPO, eta 4 (1 run)", "nominal"]
    assert legend.get_title().get_text().startswith("all runs: a setting that isn't")
    figure = figures.heat_map(grid)
    assert figure.axes[0].get_title() == "MBPO (2 runs)"
    assert "\nall runs: a setting" in figure._suptitle.get_text()
    stays_within(figure, figure._suptitle)
    figure = figures.robustness_curve(curve)
    stays_within(figure, figure.legends[0])


LONG = "MBPO, with settings that aren't the preset's" + 24 * ", more"


def stays_within(figure, *texts):
    figure.canvas.draw()
    for text in texts:
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_a_long_name_stays_within_the_figures(curve, grid, adversary):
    for world in (*curve["worlds"], *grid["worlds"]):
        world["groups"][0]["group"] = LONG
    adversary["group"] = LONG
    figure = figures.robustness_curve(curve)
    stays_within(figure, figure.legends[0])
    figure = figures.adversary_picture(adversary)
    stays_within(figure, figure._suptitle)
    figure = figures.heat_map(grid)
    panels = figure.axes[:2]
    stays_within(figure, *(panel.title for panel in panels))
    left, right = (panel.title.get_window_extent() for panel in panels)
    assert left.x1 < right.x0


def test_the_heat_map_has_its_axes_the_right_way_round(grid):
    figure = figures.heat_map(grid)
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_array_equal(
        image, [[199.5, 399.5, 599.5], [200.5, 400.5, 600.5]]
    )  # [down, across], the lowest row first
    across, down = figure.axes[0].lines
    assert across.get_xdata()[0] == pytest.approx(0.5)  # 3.0 lies between cells 0 and 1
    assert down.get_ydata()[0] == pytest.approx(0.5)
    assert figure.axes[0].images[0].get_clim() == figure.axes[1].images[0].get_clim()


def test_the_pages_pictures(curve, grid):
    colours = {"MBPO": "#0072B2", "RMBPO, eta 4": "#D55E00"}
    drawn = report_figures.robustness(curve, colours)
    lines = [trace for trace in drawn.data if trace.mode == "lines+markers"]
    assert [tuple(line.y) for line in lines] == [(200, 400, 600), (100, 200, 300)]
    maps = report_figures.robustness(grid, colours)
    np.testing.assert_array_equal(maps.data[0].z, [[199.5, 399.5, 599.5], [200.5, 400.5, 600.5]])
    assert list(maps.data[0].x) == [2.0, 4.0, 6.0]
    scale = maps.layout.coloraxis
    assert (scale.cmin, scale.cmax) == (0.0, 600.5)


@pytest.fixture
def adversary():
    return {
        "env_id": "Hopper-v3",
        "group": "RMBPO, eta 4",
        "dimensions": [{"name": "height", "unit": "m"}, {"name": "reward", "unit": ""}],
        "shift_mean": [-0.2, 0.1],
        "shift_p10": [-0.3, 0.0],
        "shift_p90": [-0.1, 0.2],
        "kl_per_dimension": [0.02, 0.005],
        "drop_only": [0.3, 0.1],
        "kl_nats": 0.025,
        "value_mean": 100.0,
        "value_drop": 0.4,
    }


def test_the_adversarys_picture(adversary):
    figure = figures.adversary_picture(adversary)
    shift, kl, drop = figure.axes
    assert [bar.get_width() for bar in shift.patches] == [-0.2, 0.1]
    assert [bar.get_width() for bar in kl.patches] == [0.02, 0.005]
    assert [bar.get_width() for bar in drop.patches] == [0.3, 0.1]
    assert [text.get_text() for text in shift.get_yticklabels()] == ["height (m)", "reward"]
    assert "0.0250 nats" in figure.get_suptitle()
    del adversary["drop_only"]
    assert len(figures.adversary_picture(adversary).axes) == 2


def test_equal_results_are_equal_files(curve, tmp_path, monkeypatch):
    written = []
    for when in ("0", "1000000000"):  # the clock that matplotlib asks, in seconds
        monkeypatch.setenv("SOURCE_DATE_EPOCH", when)
        files = figures.save(figures.robustness_curve(curve), tmp_path / "figure")
        written.append([file.read_bytes() for file in files])
    assert written[0] == written[1]
