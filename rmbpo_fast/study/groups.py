"""How runs are grouped for comparison: names made of the algorithm and the settings."""

from collections.abc import Iterable

from rmbpo_fast.config import AdversaryConfig, Config, flag_of
from rmbpo_fast.presets import preset

_BETWEEN = ", "  # the algorithm and the settings in a name; in none of them
# in the group's name by words of their own, or not part of what a policy learns from
_NAMED_APART = {
    *("env", "total_env_steps", "epoch_steps", "randomize"),
    *("correlated_noise", "start_spread", "rollout_schedule"),
    *("algo", "eta", "kl_target_nats", "drop_target", "adversary_from_epoch", "explore"),
    *("adversary", "adversary_dims"),
    *("updates_per_step", "target_entropy", "entropy_rows"),
}


def group_of(config: Config) -> str:
    """`MBPO`, `RMBPO, eta 4`, ..., and each setting that isn't the preset's.

    How long a run is and what it runs on make no other group.
    """
    randomised = [f"randomised {' '.join(config.task.randomize)}"] if config.task.randomize else []
    imagined = [] if config.adversary.algo == "sac" else _imagination_of(config)
    own = [
        *_algorithm_of(config),
        *randomised,
        *imagined,
        *_updates_of(config),
        *_others_of(config),
    ]
    return _BETWEEN.join(own)


def told_apart(groups: Iterable[str]) -> tuple[dict[str, str], str]:
    """What tells groups apart, by group, and as `all runs: ...` the settings that all have.

    The latter is "" where there are none, and for a single group, which keeps its name.
    """
    parts = {group: group.split(_BETWEEN) for group in groups}
    settings = [own for _, *own in parts.values()]
    common = [s for s in settings[0] if all(s in own for own in settings)] if settings[1:] else []
    names = {
        group: _BETWEEN.join([algorithm, *(s for s in own if s not in common)])
        for group, (algorithm, *own) in parts.items()
    }
    return names, f"all runs: {_BETWEEN.join(common)}" if common else ""


def _imagination_of(config: Config) -> list[str]:
    """Noise, starts and length of the rollouts."""
    rollout, usual = config.rollout, preset(config.task.env).rollout
    settings = []
    if config.model.correlated_noise:
        settings.append("correlated noise")
    if any(rollout.start_spread):
        halves = " ".join(f"{half_width:g}" for half_width in rollout.start_spread)
        settings.append(f"starts +- {halves}")
    if rollout.rollout_schedule != usual.rollout_schedule:
        settings.append(_rollouts_of(rollout.rollout_schedule))
    return settings


def _rollouts_of(schedule: tuple[int, ...]) -> str:
    if len(schedule) == 1:
        return f"rollouts of {schedule[0]}"
    first_epoch, last_epoch, first_k, last_k = schedule
    return f"rollouts of {first_k} to {last_k} over epochs {first_epoch} to {last_epoch}"


def _updates_of(config: Config) -> list[str]:
    """Updates a step, target entropy and where it is measured."""
    usual, settings = preset(config.task.env).sac, []
    updates, entropy = config.sac.updates_per_step, config.sac.target_entropy
    if updates != usual.updates_per_step:
        settings.append(f"{updates} update{'' if updates == 1 else 's'} a step")
    if entropy != usual.target_entropy:
        shown = "minus the actions" if entropy is None else f"{entropy:g}"
        settings.append(f"target entropy {shown}")
    if config.sac.entropy_rows is not None:
        settings.append(f"entropy over the newest {config.sac.entropy_rows:,}")
    return settings


def _others_of(config: Config) -> list[str]:
    """Every other setting that the policy learns by, as its flag has it: `gamma 0.95`."""
    values = vars(config.task) | vars(config.sac)
    if config.adversary.algo != "sac":
        values |= vars(config.model) | vars(config.rollout)
    if config.adversary.adversarial:
        values |= vars(config.adversary)
    usual, settings = preset(config.task.env).flat(), []
    for setting, value in values.items():
        if setting not in _NAMED_APART and value != usual[setting]:
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            settings.append(f"{flag_of(setting).lstrip('-')} {shown}")
    return settings


def _algorithm_of(config: Config) -> list[str]:
    """The algorithm, first, and how its adversary is trained."""
    adversary, usual = config.adversary, AdversaryConfig()
    if adversary.algo == "sac":
        return ["SAC"]
    if not adversary.adversarial:
        return ["MBPO"]
    if adversary.kl_target_nats is not None:
        pessimism = f"KL target {adversary.kl_target_nats:g} nats"
    elif adversary.drop_target is not None:
        pessimism = f"drop target {adversary.drop_target:g}"
    else:
        pessimism = f"eta {adversary.eta:g}"
    if adversary.adversary_from_epoch != usual.adversary_from_epoch:
        pessimism += f" from epoch {adversary.adversary_from_epoch}"
    names = ["RMBPO", pessimism]
    if adversary.adversary != usual.adversary:
        names.append(f"{adversary.adversary} adversary")
    if adversary.explore != usual.explore:
        names.append(f"{adversary.explore} exploration")
    if adversary.adversary_dims is not None:
        names.append(f"dims {' '.join(map(str, adversary.adversary_dims))}")
    return names
