"""An evaluation from its arguments to its files: policies, worlds, returns, tables, figures."""

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from rmbpo_fast import __version__
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.kernels.backend import choose_backend
from rmbpo_fast.storage import write_csv_atomically, write_text_atomically
from rmbpo_fast.study import figures
from rmbpo_fast.study.groups import told_apart
from rmbpo_fast.study.robustness import Store, as_json, check_worlds, play_all
from rmbpo_fast.study.subjects import Subject, load_subjects
from rmbpo_fast.study.video import write_video
from rmbpo_fast.worlds.grids import Experiment, make_experiment, paper_experiments
from rmbpo_fast.worlds.tasks import find_task


@dataclass(frozen=True)
class Arguments:
    """Returns of deterministic policies, in the nominal task or with its physics changed."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, policy files, or quoted patterns such as 'runs/hopper/*/*'."""
    distort: tuple[str, ...] = ()
    """Changes to the physics: NAME=VALUE, NAME=V,V,..., or NAME=FIRST:LAST:STEP for one of them.
    An unknown name lists those of the task."""
    vs: str | None = None
    """A second range, for a heat map against --distort's."""
    grid: Literal["paper"] | None = None
    """All of the paper's distortions of the task, one figure each."""
    episodes: int = 10
    """Episodes of each policy at each value, stepped together (the paper takes 30)."""
    seed: int = 0
    """Seed of resets and action noise, the same for every policy and value."""
    statistic: Literal["mean", "iqm"] = "mean"
    """What stands for a group of policies: mean, or interquartile mean."""
    out: Path | None = None
    """Folder for figures and results; evaluations/<task> if unset."""
    video: bool = False
    """Also film the first policy, beside it the distorted world if one is given (15 s at most)."""


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _write_csv(path: Path, results: dict[str, Any]) -> None:
    """A row per world and policy, with what makes it reproducible."""
    names = [axis["name"] for axis in results["axes"]]
    measures = ["episodes", "return_mean", "return_std", "return_min", "return_max"]
    origin = {"eval_seed": results["seed"], **results["versions"], "command": results["command"]}
    places = [*names, *results["fixed"]]
    rows: list[list[Any]] = [["group", "policy", "seed", *places, *measures, *origin]]
    for world in results["worlds"]:
        for policy, returns in zip(results["policies"], world["returns"], strict=True):
            r = np.array(returns)
            cells = [policy["group"], policy["policy"], policy["seed"], *world["at"]]
            cells += [*results["fixed"].values(), len(r), r.mean(), r.std(), r.min(), r.max()]
            rows.append([*cells, *origin.values()])
    write_csv_atomically(path, rows)


def _print_table(console: Console, results: dict[str, Any]) -> None:
    """A line per world: each group's return and its interval."""
    groups = [g["group"] for g in results["worlds"][0]["groups"]]
    names, common = told_apart(groups)
    table = Table(box=None, padding=(0, 1), caption=common)
    for axis in results["axes"]:
        table.add_column(axis["name"], justify="right")
    for group in groups:
        table.add_column(names[group], justify="right")
    for world in results["worlds"]:
        cells = [f"{value:g}" for value in world["at"]]
        for g in world["groups"]:
            spread = "" if g["low"] is None else f" [{g['low']:.0f}, {g['high']:.0f}]"
            cells.append(f"{g['value']:.1f}{spread}")
        table.add_row(*cells)
    console.print(table, markup=False)


def _print_nominal(subjects: list[Subject], returns: np.ndarray) -> None:
    for subject, r in zip(subjects, returns, strict=True):
        where = "" if len(subjects) == 1 else f", {subject.name}"
        print(
            f"{subject.policy.env_id}{where}: return {r.mean():.1f} +- {r.std():.1f} "
            f"over {len(r)} episodes (min {r.min():.1f}, max {r.max():.1f})"
        )


def run_experiment(
    subjects: list[Subject], experiment: Experiment, arguments: Arguments, out: Path, command: str
) -> None:
    """Plays what isn't known yet, writes results and figure, prints the table."""
    console = Console()
    folder = out / experiment.slug()
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "episodes.jsonl")
    total = len(list(experiment.worlds())) * len(subjects)
    known = 0
    with _progress(console) as bar:
        task = bar.add_task(experiment.slug(), total=total)

        def progress(was_known: bool) -> None:
            nonlocal known
            known += was_known
            bar.advance(task)

        returns = play_all(
            subjects, experiment, arguments.episodes, arguments.seed, store, progress
        )
    results = {
        "command": command,
        "versions": {
            "rmbpo_fast": __version__,
            **{name: metadata.version(name) for name in ("envpool", "mujoco", "numpy")},
        },
        "machine": choose_backend("reference", torch.device("cpu")),
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        **as_json(subjects, experiment, returns, arguments.statistic),
    }
    write_text_atomically(folder / "results.json", json.dumps(results, indent=1) + "\n")
    _write_csv(folder / "results.csv", results)
    drawn = {1: figures.robustness_curve, 2: figures.heat_map}.get(len(experiment.axes))
    if drawn is not None:
        figures.save(drawn(results), folder / "figure")
        _print_table(console, results)
    else:
        _print_nominal(subjects, returns[0])
    again = f" ({known} of {total} were known)" if known else ""
    print(f"{folder}: results.csv, results.json{', figure.png, figure.pdf' * bool(drawn)}{again}")


def run(arguments: Arguments, command: str) -> None:
    """The whole command. Raises RmbpoError where it can't be done."""
    if not arguments.runs:
        raise ConfigError("expected at least one run folder, before the flags")
    if arguments.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {arguments.episodes}")
    if arguments.grid and (arguments.distort or arguments.vs):
        raise ConfigError("--grid takes the distortions itself: leave --distort and --vs out")
    subjects = load_subjects(arguments.runs)
    env = subjects[0].config.task.env
    if arguments.grid:
        experiments = paper_experiments(env)
    else:
        experiments = [make_experiment(arguments.distort, arguments.vs)]
    check_worlds(subjects, experiments)
    out = arguments.out or Path("evaluations", find_task(env).name)
    fixed = experiments[0].fixed
    if arguments.video and (arguments.grid or experiments[0].axes):
        raise ConfigError("--video films one world: give --distort single values only")
    for experiment in experiments:
        run_experiment(subjects, experiment, arguments, out, command)
    if arguments.video:
        film = out / experiments[0].slug() / "video.mp4"
        write_video(subjects[0], fixed, arguments.seed, film)
        both = ", nominal and distorted, side by side" * bool(fixed)
        print(f"{film}: {subjects[0].name}{both}")
