"""What a run's settings may be."""

import math
from typing import NoReturn

from rmbpo_fast.config import ETA_TARGETS, Config, flag_of
from rmbpo_fast.errors import ConfigError

# smallest allowed values
_AT_LEAST: dict[str, float] = {
    "num_envs": 1,
    "random_steps": 10,  # one fit needs rows to train on and rows to hold out
    "total_env_steps": 1,
    "epoch_steps": 1,
    "num_members": 1,
    "model_batch_size": 1,
    "fit_every_steps": 1,
    "eta": 0,
    "adversary_from_epoch": 0,
    "rollout_rows": 1,
    "updates_per_step": 1,
    "sac_batch_size": 1,
    "entropy_rows": 1,
    "seed": 0,
    "threads": 1,
    "eval_episodes": 1,
    "checkpoint_every_steps": 1,
    "keep_policies": 0,
}
_POSITIVE = (
    "sac_lr",
    "kl_target_nats",
    "drop_target",
)
_FRACTIONS = ("real_fraction", "gamma")


def validate(config: Config) -> None:
    """Raises ConfigError, naming the flag, what was expected and what came."""
    values = config.flat()
    _ = config.task.noise  # refuses what it can't read

    def fail(name: str, expected: str) -> NoReturn:
        raise ConfigError(f"{flag_of(name)} must be {expected}, not {values[name]!r}")

    for name, value in values.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                fail(name, "finite")
        if value is None:
            continue
        if name in _AT_LEAST and value < _AT_LEAST[name]:
            fail(name, f"at least {_AT_LEAST[name]:g}")
        if name in _POSITIVE and value <= 0:
            fail(name, "greater than 0")
        if name in _FRACTIONS and not 0 <= value <= 1:
            fail(name, "between 0 and 1")
    if config.run.seed >= 2**63:
        fail("seed", "below 2**63")
    for name in ("model_hidden", "sac_hidden"):
        if not values[name] or min(values[name]) < 1:
            fail(name, "one or more layer widths of at least 1")
    if config.rollout.rollout_rows % config.model.num_elites:
        fail("rollout_rows", f"a multiple of the elites, {config.model.num_elites}")
    schedule = config.rollout.rollout_schedule
    fixed = len(schedule) == 1 and schedule[0] >= 1
    grows = (
        len(schedule) == 4 and 0 <= schedule[0] < schedule[1] and 1 <= schedule[2] <= schedule[3]
    )
    if not (fixed or grows):
        fail("rollout_schedule", "K, or FIRST_EPOCH LAST_EPOCH FIRST_K LAST_K, both pairs growing")
    if min(config.rollout.start_spread, default=0.0) < 0:
        fail("start_spread", "at least 0 for each observation")
    if config.adversary.adversary_dims == ():
        fail("adversary_dims", "one or more dimensions")
    if config.model.correlated_noise and config.adversary.adversarial:
        if config.adversary.adversary == "paper":
            fail("adversary", "residual or pathwise with --correlated-noise")
        if config.adversary.adversary_dims is not None:
            raise ConfigError(
                "--adversary-dims takes numbers apart that --correlated-noise draws together"
            )
    if config.adversary.explore == "nominal" and not config.adversary.adversarial:
        fail("explore", "robust where there is no adversary")
    targets = [name for name in ETA_TARGETS if values[name] is not None]
    if len(targets) > 1:
        flags = " and ".join(map(flag_of, targets))
        raise ConfigError(f"{flags} both adapt eta: give one of them")
    if targets and config.adversary.eta == 0:
        fail("eta", f"greater than 0 where {flag_of(targets[0])} adapts it")
