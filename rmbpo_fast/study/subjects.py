"""The policies under test: found, loaded, checked against one another."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.policy import FILE_NAME, Policy
from rmbpo_fast.run.config_file import CONFIG_FILE, read_config
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.worlds.episodes import evaluation_envs
from rmbpo_fast.worlds.tasks import find_task


@dataclass(frozen=True)
class Subject:
    """A policy under test.

    Attributes:
        file: the policy's file.
        group: policies of one algorithm and setting, e.g. `RMBPO, eta 4`.
    """

    file: Path
    policy: Policy
    config: Config
    group: str

    @property
    def run_dir(self) -> Path:
        """The run that it comes from."""
        return _run_of(self.file)

    @property
    def name(self) -> str:
        """The run's folder, or the file where it isn't the run's last policy."""
        return str(self.file.parent if self.file.name == FILE_NAME else self.file)


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


def _run_of(file: Path) -> Path:
    return next((p for p in file.parents if (p / CONFIG_FILE).is_file()), file.parent)


def load_subject(file: Path) -> Subject:
    """A policy and its run's settings. Raises StorageError where either is missing or damaged."""
    config = read_config(_run_of(file))
    policy = Policy.load(file)
    expected = find_task(config.task.env).env_id
    if policy.env_id != expected:
        raise StorageError(f"{file}: a policy of {policy.env_id} in a run of {expected}")
    return Subject(file, policy, config, group_of(config))


def load_subjects(patterns: Iterable[str]) -> list[Subject]:
    """All policies to compare, in one and the same task; one that is given twice counts once.

    Raises:
        StorageError: a run or policy that is missing or damaged.
        ConfigError: runs of different tasks.
    """
    loaded = [load_subject(file) for file in find_policies(patterns)]
    unique: dict[tuple[Path, str], Subject] = {}
    for subject in loaded:  # a run's last policy is that of its last epoch, too
        unique.setdefault((subject.run_dir.resolve(), subject.policy.digest), subject)
    subjects = list(unique.values())

    def setting(subject: Subject) -> str:
        task = subject.config.task
        noise = task.action_noise
        return f"{subject.policy.env_id} with action noise {noise}"

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
