"""Returns of many policies in many distorted worlds: played once, kept, and summarised."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from rmbpo_fast.errors import StorageError
from rmbpo_fast.storage import write_text_atomically
from rmbpo_fast.study.subjects import Subject
from rmbpo_fast.worlds.definition import definition
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.episodes import check_changes, play
from rmbpo_fast.worlds.grids import Experiment
from rmbpo_fast.worlds.tasks import find_task

STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "iqm": lambda values, axis=None: scipy.stats.trim_mean(values, 0.25, axis=axis),
}
_BOOTSTRAP_RESAMPLES = 9_999


class Store:
    """Returns that were played already: a line of JSON each, so that an interrupt loses nothing.

    A result is found again by policy, task and its definition, distortion, episodes and seed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[float]] = {}
        if path.exists():
            try:
                *lines, torn = path.read_text().split("\n")
                entries = [json.loads(line) for line in lines]
                self._known = {_key(entry["key"]): entry["returns"] for entry in entries}
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(
                    f"{path}: not a file of results ({error!r}); without it, all is played again"
                ) from error
            if torn:  # the process was killed while it wrote its last line
                write_text_atomically(path, "".join(line + "\n" for line in lines))

    def get(self, key: dict[str, Any]) -> np.ndarray | None:
        """Returns [episodes], None where they haven't been played."""
        found = self._known.get(_key(key))
        return None if found is None else np.array(found)

    def put(self, key: dict[str, Any], returns: np.ndarray) -> None:
        """Keeps a result. Raises OSError where the disk is full."""
        with open(self._path, "a") as handle:
            handle.write(json.dumps({"key": key, "returns": returns.tolist()}) + "\n")
        self._known[_key(key)] = returns.tolist()


def _key(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)


def check_worlds(subjects: list[Subject], experiments: Iterable[Experiment]) -> None:
    """Raises ConfigError for a world that the task can't be, before anything is played."""
    for experiment in experiments:
        for changes in experiment.worlds():
            check_changes(subjects[0].config.task, changes)


def play_all(
    subjects: list[Subject],
    experiment: Experiment,
    episodes: int,
    seed: int,
    store: Store,
    progress: Callable[[bool], None],
) -> np.ndarray:
    """Returns [world, policy, episode] of every policy in every world of an experiment.

    Args:
        progress: called after each world and policy; True where it had been played before.
    """
    table = []
    for changes in experiment.worlds():
        row = []
        for subject in subjects:
            task = subject.config.task
            key = {
                "policy": subject.policy.digest,
                "env": subject.policy.env_id,
                **definition(task.env),
                "noise": list(task.noise),
                "changes": changes,
                "episodes": episodes,
                "seed": seed,
            }
            returns = store.get(key)
            known = returns is not None
            if returns is None:
                returns = play(subject.policy.unit_action, task, episodes, seed, changes)
                store.put(key, returns)
            row.append(returns)
            progress(known)
        table.append(row)
    return np.array(table)


@dataclass(frozen=True)
class Summary:
    """A group's return in one world: the statistic over its runs, and its interval.

    `low` and `high` are None for a single run, which has no spread over runs.
    """

    group: str
    runs: int
    value: float
    low: float | None
    high: float | None


def summarise(group: str, means: np.ndarray, statistic: str) -> Summary:
    """means [n], one per run; 95 % bootstrap interval over the runs."""
    function = STATISTICS[statistic]
    value = float(function(means))
    if len(means) < 2:
        return Summary(group, len(means), value, None, None)
    interval = scipy.stats.bootstrap(
        (means,),
        function,
        n_resamples=_BOOTSTRAP_RESAMPLES,
        confidence_level=0.95,
        method="percentile",  # the others are undefined where all runs agree, as at a cap
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Summary(group, len(means), value, float(interval.low), float(interval.high))


def summaries(subjects: list[Subject], returns: np.ndarray, statistic: str) -> list[list[Summary]]:
    """[world][group] from returns [world, policy, episode]; groups in the order of the runs.

    Several policies of one run, such as those of its last epochs, are no independent ones: they
    count as one, with their mean.
    """
    groups: dict[str, dict[Path, list[int]]] = {}
    for i, subject in enumerate(subjects):
        groups.setdefault(subject.group, {}).setdefault(subject.run_dir, []).append(i)

    def means(world: np.ndarray, runs: dict[Path, list[int]]) -> np.ndarray:
        return np.array([world[of_run].mean() for of_run in runs.values()])

    return [
        [summarise(group, means(world, runs), statistic) for group, runs in groups.items()]
        for world in returns
    ]


def as_json(
    subjects: list[Subject], experiment: Experiment, returns: np.ndarray, statistic: str
) -> dict[str, Any]:
    """The experiment's results as plain values, returns of single episodes included."""
    task = find_task(subjects[0].config.task.env)
    physics = Physics(task)
    names = [axis.name for axis in experiment.axes]
    worlds = list(experiment.worlds())
    return {
        "task": subjects[0].config.task.env,
        "env_id": task.env_id,
        "action_noise": list(subjects[0].config.task.noise),
        "axes": [
            {
                "name": axis.name,
                "label": physics.label(axis.name),
                "values": axis.values,
                "nominal": physics.nominal(axis.name),
            }
            for axis in experiment.axes
        ],
        "fixed": experiment.fixed,
        "statistic": statistic,
        "policies": [
            {
                "policy": s.name,
                "group": s.group,
                "seed": s.config.run.seed,
                "sha256": s.policy.digest,
            }
            for s in subjects
        ],
        "worlds": [
            {
                "at": [changes[name] for name in names],
                "groups": [dataclasses.asdict(summary) for summary in row],
                "returns": world.tolist(),
            }
            for changes, row, world in zip(
                worlds, summaries(subjects, returns, statistic), returns, strict=True
            )
        ],
    }
