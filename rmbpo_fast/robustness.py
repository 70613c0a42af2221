"""Returns of many policies in many distorted worlds: played once, kept, and summarised."""

import dataclasses
import glob
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from rmbpo_fast.config import CONFIG_FILE, Config, read_config
from rmbpo_fast.distortion import Physics, distorted_task
from rmbpo_fast.episodes import evaluation_envs, play
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.grids import Experiment
from rmbpo_fast.policy import FILE_NAME, Policy
from rmbpo_fast.tasks import find_task

STATISTICS: dict[str, Callable[..., Any]] = {
    "mean": np.mean,
    "iqm": lambda values, axis=None: scipy.stats.trim_mean(values, 0.25, axis=axis),
}
_BOOTSTRAP_RESAMPLES = 9_999


@dataclass(frozen=True)
class Subject:
    """A policy under test.

    Attributes:
        file: the policy's file.
        group: policies of one algorithm and eta, e.g. `RMBPO, eta 4`.
        digest: sha256 of the file.
    """

    file: Path
    policy: Policy
    config: Config
    group: str
    digest: str

    @property
    def name(self) -> str:
        """The run's folder, or the file where it isn't the run's last policy."""
        return str(self.file.parent if self.file.name == FILE_NAME else self.file)


def group_of(config: Config) -> str:
    """`MBPO`, `RMBPO, eta 4` or `RMBPO, KL target 0.005 nats`."""
    adversary = config.adversary
    if adversary.algo == "mbpo" or adversary.eta == 0:
        return "MBPO"
    name = "RMBPO" if adversary.parametrization == "residual" else "RMBPO (full)"
    if adversary.kl_target_nats is not None:
        return f"{name}, KL target {adversary.kl_target_nats:g} nats"
    return f"{name}, eta {adversary.eta:g}"


def find_policies(patterns: Iterable[str]) -> list[Path]:
    """Policy files of run folders, policy files, or glob patterns of either, without repeats.

    Raises:
        StorageError: a pattern that matches no run.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        if Path(pattern).exists() or not glob.has_magic(pattern):
            found = [Path(pattern)]
        else:
            hits = [Path(hit) for hit in sorted(glob.glob(pattern))]
            found = [hit for hit in hits if hit.is_file() or (hit / CONFIG_FILE).is_file()]
            if not found:
                raise StorageError(f"{pattern}: no run matches")
        for path in found:
            files[path / FILE_NAME if path.is_dir() or not path.exists() else path] = None
    return list(files)


def load_subject(file: Path) -> Subject:
    """A policy and its run's settings. Raises StorageError where either is missing or damaged."""
    policy = Policy.load(file)
    folder = next((p for p in file.parents if (p / CONFIG_FILE).is_file()), file.parent)
    config = read_config(folder)
    expected = find_task(config.task.env).env_id
    if policy.env_id != expected:
        raise StorageError(f"{file}: a policy of {policy.env_id} in a run of {expected}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Subject(file, policy, config, group_of(config), digest)


def load_subjects(patterns: Iterable[str]) -> list[Subject]:
    """All policies to compare, in one and the same task.

    Raises:
        StorageError: a run or policy that is missing or damaged.
        ConfigError: runs of different tasks.
    """
    subjects = [load_subject(file) for file in find_policies(patterns)]

    def setting(subject: Subject) -> str:
        task = subject.config.task
        return f"{task.env} with action noise {task.action_noise} {task.action_noise_scale:g}"

    first = subjects[0]
    for subject in subjects[1:]:
        if setting(subject) != setting(first):
            raise ConfigError(
                f"runs of different tasks can't be compared: {first.name} is {setting(first)}, "
                f"{subject.name} is {setting(subject)}"
            )
    envs = evaluation_envs(first.config.task, 1, 0)
    sizes = (envs.obs_size, envs.action_size)
    envs.close()
    for subject in subjects:
        found = (subject.policy.obs_size, len(subject.policy.low))
        if found != sizes:
            raise StorageError(
                f"{subject.file}: expected a policy of {sizes[0]} observations and {sizes[1]} "
                f"actions, found {found[0]} and {found[1]}"
            )
    return subjects


class Store:
    """Returns that were played already: a line of JSON each, so that an interrupt loses nothing.

    A result is found again by policy, task, distortion, number of episodes and seed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[float]] = {}
        if path.exists():
            *lines, torn = path.read_text().split("\n")
            try:
                entries = [json.loads(line) for line in lines]
                self._known = {_key(entry["key"]): entry["returns"] for entry in entries}
            except (ValueError, KeyError, TypeError) as error:
                raise StorageError(f"{path}: not a file of results ({error!r})") from error
            if torn:  # the process was killed while it wrote its last line
                path.write_text("".join(line + "\n" for line in lines))

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
    task = find_task(subjects[0].config.task.env)
    for experiment in experiments:
        for changes in experiment.worlds():
            distorted_task(task, changes)


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
                "policy": subject.digest,
                "env": subject.policy.env_id,
                "noise": [task.action_noise, task.action_noise_scale],
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
    """A group's return in one world: the statistic over its policies' means, and its interval.

    `low` and `high` are None for a single policy, which has no spread over policies.
    """

    group: str
    policies: int
    value: float
    low: float | None
    high: float | None


def summarise(group: str, means: np.ndarray, statistic: str) -> Summary:
    """means [n], one per policy; 95 % bootstrap interval over the policies."""
    function = STATISTICS[statistic]
    value = float(function(means))
    if len(means) < 2:
        return Summary(group, len(means), value, None, None)
    interval = scipy.stats.bootstrap(
        (means,),
        function,
        n_resamples=_BOOTSTRAP_RESAMPLES,
        confidence_level=0.95,
        method="percentile",  # the others are undefined where all policies agree, as at a cap
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Summary(group, len(means), value, float(interval.low), float(interval.high))


def summaries(subjects: list[Subject], returns: np.ndarray, statistic: str) -> list[list[Summary]]:
    """[world][group] from returns [world, policy, episode]; groups in the order of the runs."""
    groups = list(dict.fromkeys(subject.group for subject in subjects))
    members = {g: [i for i, s in enumerate(subjects) if s.group == g] for g in groups}
    return [
        [summarise(g, world[members[g]].mean(axis=1), statistic) for g in groups]
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
        "action_noise": [
            subjects[0].config.task.action_noise,
            subjects[0].config.task.action_noise_scale,
        ],
        "axes": [
            {"name": axis.name, "values": axis.values, "nominal": physics.nominal(axis.name)}
            for axis in experiment.axes
        ],
        "fixed": experiment.fixed,
        "statistic": statistic,
        "policies": [
            {"run": s.name, "group": s.group, "seed": s.config.run.seed, "sha256": s.digest}
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
