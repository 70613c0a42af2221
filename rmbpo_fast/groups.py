"""How runs are grouped for comparison: names made of the algorithm and the settings."""

from collections.abc import Iterable

from rmbpo_fast.config import AdversaryConfig, Config, flag_of
from rmbpo_fast.presets import preset

_BETWEEN = ", "  # the algorithm and the settings in a name; in none of them
# in the group's name by words of their own, or not part of what a policy learns from
_NAMED_APART = {
    *("env", "total_env_steps", "epoch_steps", "randomize", "rollout_chunk_rows"),
    *("correlated_noise", "start_spread", "horizon_min", "horizon_max"),
    *("algo", "eta", "kl_target_nats", "drop_target", "adversary_from_epoch", "explore"),
    *("parametrization", "estimator", "baseline", "adversary_warm_start", "adversary_dims"),
    *("updates_per_step", "target_entropy", "entropy_rows"),
}


def group_of(config: Config) -> str:
    """`MBPO`, `RMBPO, eta 4`, ..., and each setting that isn't the preset's.

    How long a run is and what it runs on make no other group.
    """
    imagined = "" if config.adversary.algo == "sac" else _imagination_of(config)
    return _algorithm_of(config) + imagined + _updates_of(config) + _others_of(config)


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
