"""What study/summary.py prints and draws about a folder of runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rmbpo_fast.study import summary
from rmbpo_fast.study.robustness import summarise

COMMON = ", a setting, another"
MBPO, RMBPO = "MBPO" + COMMON, "RMBPO, eta 4" + COMMON


@pytest.fixture
def results():
    """Three runs of MBPO, two of RMBPO, in two worlds, of two episodes each."""
    means = np.array([[100, 200, 600, 800, 900], [0, 100, 200, 800, 700]])  # [world, run]
    groups = [MBPO] * 3 + [RMBPO] * 2
    return {
        "axes": [{"label": "pole mass (kg)", "values": [5, 50]}],
        "policies": [{"policy": f"runs/a/{i}/x", "group": g} for i, g in enumerate(groups)],
        "worlds": [
            {"at": [at], "returns": [[mean - 1, mean + 1] for mean in row]}
            for at, row in zip((5, 50), means.tolist(), strict=True)
        ],
    }


def cells(table):
    return list(zip(*(column.cells for column in table.columns), strict=True))


def test_the_mean_over_the_worlds_and_how_far_a_group_is_above_the_first(results):
    table = summary.over_the_worlds(results)
    assert table.caption == "all runs: a setting, another"
    of_mbpo = summarise(MBPO, np.array([50.0, 150.0, 400.0]), "mean")
    interval = f"{of_mbpo.low:.0f} to {of_mbpo.high:.0f}"
    mbpo, rmbpo = cells(table)
    assert mbpo == ("MBPO", "200", interval, "", "", "50 150 400")
    # RMBPO's two runs are equal, so the difference varies with MBPO's alone
    above = f"{800 - of_mbpo.high:.0f} to {800 - of_mbpo.low:.0f}"
    assert rmbpo == ("RMBPO, eta 4", "800", "800 to 800", "600", above, "800 800")


def test_a_single_run_has_no_interval(results):
    results["policies"] = results["policies"][2:4]
    for world in results["worlds"]:
        world["returns"] = world["returns"][2:4]
    mbpo, rmbpo = cells(summary.over_the_worlds(results))
    assert mbpo[1:] == ("400", "", "", "", "400")
    assert rmbpo[1:] == ("800", "", "", "", "800")


def test_the_pictures_say_once_what_all_runs_have(results):
    figure = summary.steadiness(results)
    assert figure._suptitle.get_text() == "all runs: a setting, another"
    titles = [axes.get_title().splitlines()[0] for axes in figure.axes]
    assert titles == ["MBPO", "RMBPO, eta 4"]
    metrics = {"env_step": [250.0, 500.0], "eval/return_mean": [10.0, 20.0]}
    groups = {group: [summary.Run(Path(), group, metrics)] for group in (MBPO, RMBPO)}
    (legend,) = summary.learning_curves(groups, "inverted_pendulum").legends
    assert legend.get_title().get_text() == "all runs: a setting, another"
    assert [text.get_text() for text in legend.get_texts()] == ["MBPO (1)", "RMBPO, eta 4 (1)"]


def test_tables_and_pictures_of_runs_whose_policies_are_not_kept(tmp_path, capsys):
    kept = Path(__file__).resolve().parents[2] / "results" / "inverted_pendulum_entropy"
    assert not list(kept.rglob("policy.safetensors"))
    folder = shutil.copytree(kept, tmp_path / kept.name)
    assert summary.main([str(folder)]) == 0
    told = capsys.readouterr().out
    assert "473 to 692" in told  # RMBPO's interval of the mean over the pole's masses
    assert "d action / d x" not in told
    assert (folder / "steadiness_pole_mass.png").is_file()
