"""The report: one self-contained HTML page about some runs."""

import json
import os
import shlex
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import jinja2
import plotly.graph_objects as go
import plotly.io
import plotly.offline
import tyro

from rmbpo_fast import __version__
from rmbpo_fast.errors import StorageError
from rmbpo_fast.policy import FILE_NAME, Policy, epoch_files
from rmbpo_fast.run.config_file import read_config, read_machine
from rmbpo_fast.study import report_figures
from rmbpo_fast.study.figures import COLOURS
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.study.metrics_csv import read_metrics
from rmbpo_fast.study.subjects import find_policies


@dataclass(frozen=True)
class Arguments:
    """Learning curves, robustness, adversary, phase times and settings of some runs on one page."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, or quoted patterns such as 'runs/hopper/*/*'."""
    out: Path = Path("report.html")
    """The page."""
    evaluations: Path = Path("evaluations")
    """Where evaluate put its results; those about policies of these runs are shown."""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: can't be read ({error})") from error


def read_run(folder: Path) -> dict[str, Any]:
    """What the page shows of a run. Raises StorageError where it is none, or has no epoch yet."""
    config = read_config(folder)
    metrics = read_metrics(folder / "metrics.csv")
    analysis = folder / "analysis" / "analysis.json"
    return {
        "folder": folder,
        "name": str(folder),
        "config": config,
        "group": group_of(config),
        "seed": config.run.seed,
        "steps": f"{int(metrics['env_step'][-1]):,}",
        "last_return": f"{metrics['eval/return_mean'][-1]:.1f}",
        "hours": f"{metrics['time/wall_s'][-1] / 3600:.2f}",
        "machine": read_machine(folder),
        "metrics": metrics,
        "analysis": _read_json(analysis) if analysis.exists() else None,
        "digests": {Policy.load(f).digest for f in [folder / FILE_NAME, *epoch_files(folder)]},
    }


def _shorten(runs: list[dict[str, Any]]) -> None:
    """Names without the folders that all runs share: a phone has no room for them."""
    shared = os.path.commonpath([run["folder"].resolve().parent for run in runs])
    for run in runs:
        run["name"] = str(run["folder"].resolve().relative_to(shared))


def find_results(folder: Path, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Experiments of the evaluation, with one axis or two, that hold a policy of these runs.

    Policies are known by their digests: results of a policy that has been trained on since don't
    belong beside today's learning curve.
    """
    wanted = set().union(*(run["digests"] for run in runs))
    found = []
    for path in sorted(folder.glob("**/results.json")):
        results = _read_json(path)
        try:
            evaluated = {policy["sha256"] for policy in results["policies"]}
            if results["axes"] and evaluated & wanted:
                found.append(results)
        except (KeyError, TypeError) as error:
            raise StorageError(f"{path}: not a result of evaluate ({error!r})") from error
    return found


def differences(runs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """(setting, its value in each run) where they aren't all the same."""
    flat = [run["config"].flat() for run in runs]
    return [
        (name, [str(values[name]) for values in flat])
        for name in flat[0]
        if name != "run_dir" and len({str(values[name]) for values in flat}) > 1
    ]


def _html(figure: go.Figure) -> str:
    settings = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    return plotly.io.to_html(figure, full_html=False, include_plotlyjs=False, config=settings)


def make_page(arguments: Arguments, command: str) -> str:
    """The page's HTML. Raises RmbpoError where a run can't be read."""
    folders = dict.fromkeys(file.parent for file in find_policies(arguments.runs))
    runs = [read_run(folder) for folder in folders]
    _shorten(runs)
    experiments = find_results(arguments.evaluations, runs)
    evaluated = [policy["group"] for results in experiments for policy in results["policies"]]
    groups = list(dict.fromkeys([run["group"] for run in runs] + evaluated))
    colours = {group: COLOURS[i % len(COLOURS)] for i, group in enumerate(groups)}
    of_task: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        of_task.setdefault(run["config"].task.env, []).append(run)
    adversarial = [run for run in runs if run["config"].adversary.adversarial]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (resources.files("rmbpo_fast.study") / "report.html").read_text()
    )
    return template.render(
        title=f"{', '.join(of_task)}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}",
        date=date.today().isoformat(),
        version=__version__,
        command=command,
        patterns=shlex.join(arguments.runs),
        plotly_js=plotly.offline.get_plotlyjs(),
        runs=runs,
        learning_curves=[
            (env, _html(report_figures.learning_curves(of_task[env], colours))) for env in of_task
        ],
        robustness=[
            (
                f"{results['env_id']}, "
                + " and ".join(axis["name"] for axis in results["axes"])
                + "".join(f", {name} = {value:g}" for name, value in results["fixed"].items())
                + f" ({results['episodes']} episodes)",
                _html(report_figures.robustness(results, colours)),
            )
            for results in experiments
        ],
        adversaries=[
            (run, _html(report_figures.adversary(run["analysis"])))
            for run in adversarial
            if run["analysis"]
        ],
        not_analysed=[str(run["folder"]) for run in adversarial if not run["analysis"]],
        phase_times=_html(report_figures.phase_times(runs)),
        differences=differences(runs),
    )
