"""The policies under test: found, loaded, and grouped by how they were trained."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rmbpo_fast.config import AdversaryConfig, Config, flag_of
from rmbpo_fast.config_file import CONFIG_FILE, read_config
from rmbpo_fast.episodes import evaluation_envs
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.policy import FILE_NAME, Policy
from rmbpo_fast.presets import preset
from rmbpo_fast.tasks import find_task

# in the group's name by words of their own, or not part of what a policy learns from
_NAMED_APART = {
    *("env", "total_env_steps", "epoch_steps", "randomize", "rollout_chunk_rows"),
    *("correlated_noise", "start_spread", "horizon_min", "horizon_max"),
    *("algo", "eta", "kl_target_nats", "drop_target", "adversary_from_epoch", "explore"),
    *("parametrization", "estimator", "baseline", "adversary_warm_start", "adversary_dims"),
    *("updates_per_step", "target_entropy", "entropy_rows"),
}


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


def group_of(config: Config) -> str:
    """`MBPO`, `RMBPO, eta 4`, ..., and each setting that isn't the preset's.

    How long a run is and what it runs on make no other group.
    """
    imagined = "" if config.adversary.algo == "sac" else _imagination_of(config)
    return _algorithm_of(config) + imagined + _updates_of(config) + _others_of(config)


def _imagination_of(config: Config) -> str:
    """Noise, starts and length of the rollouts."""
    rollout, usual, name = config.rollout, preset(config.task.env).rollout, ""
    if config.model.correlated_noise:
        name += ", correlated noise"
    if any(rollout.start_spread):
        halves = " ".join(f"{half_width:g}" for half_width in rollout.start_spread)
        name += f", starts +- {halves}"
    low, high = rollout.horizon_min, rollout.horizon_max
    if (low, high) != (usual.horizon_min, usual.horizon_max):
        name += f", rollouts of {high}" if low == high else f", rollouts of {low} to {high}"
    return name


def _updates_of(config: Config) -> str:
    """Updates a step, target entropy and where it is measured."""
    usual, name = preset(config.task.env).sac, ""
    updates, entropy = config.sac.updates_per_step, config.sac.target_entropy
    if updates != usual.updates_per_step:
        name += f", {updates} update{'' if updates == 1 else 's'} a step"
    if entropy != usual.target_entropy:
        name += f", target entropy {'minus the actions' if entropy is None else f'{entropy:g}'}"
    if config.sac.entropy_rows is not None:
        name += f", entropy over the newest {config.sac.entropy_rows:,}"
    return name


def _others_of(config: Config) -> str:
    """Every other setting that the policy learns by, as its flag has it: `, gamma 0.95`."""
    settings = vars(config.task) | vars(config.sac)
    if config.adversary.algo != "sac":
        settings |= vars(config.model) | vars(config.rollout)
    if config.adversary.adversarial:
        settings |= vars(config.adversary)
    usual, name = preset(config.task.env).flat(), ""
    for setting, value in settings.items():
        if setting not in _NAMED_APART and value != usual[setting]:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            name += f", {flag_of(setting).lstrip('-')} {shown}"
    return name


def _algorithm_of(config: Config) -> str:
    adversary, usual = config.adversary, AdversaryConfig()
    if adversary.algo == "sac":
        return "SAC"
    if adversary.algo == "dr":
        return f"MBPO, randomised {' '.join(config.task.randomize)}"
    if not adversary.adversarial:
        return "MBPO"
    if adversary.kl_target_nats is not None:
        name = f"RMBPO, KL target {adversary.kl_target_nats:g} nats"
    elif adversary.drop_target is not None:
        name = f"RMBPO, drop target {adversary.drop_target:g}"
    else:
        name = f"RMBPO, eta {adversary.eta:g}"
    if adversary.adversary_from_epoch != usual.adversary_from_epoch:
        name += f" from epoch {adversary.adversary_from_epoch}"
    for field in ("parametrization", "estimator"):
        if getattr(adversary, field) != getattr(usual, field):
            name += f", {getattr(adversary, field)}"
    if adversary.baseline != usual.baseline:
        name += f", baseline {adversary.baseline}"
    if adversary.explore != usual.explore:
        name += f", {adversary.explore} exploration"
    if not adversary.adversary_warm_start:
        name += ", cold start"
    if adversary.adversary_dims is not None:
        name += f", dims {' '.join(map(str, adversary.adversary_dims))}"
    return name


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
        noise = f"{task.action_noise} {task.action_noise_scale:g}"
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
