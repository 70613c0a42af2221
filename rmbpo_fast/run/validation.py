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
    "action_noise_scale": 0,
    "num_members": 1,
    "num_elites": 1,
    "model_batch_size": 1,
    "fit_every_steps": 1,
    "holdout_max_rows": 1,
    "model_patience_epochs": 1,
    "eta": 0,
    "adversary_from_epoch": 0,
    "adversary_batch_size": 1,
    "adversary_max_steps": 1,
    "adversary_check_every": 1,
    "adversary_patience_checks": 1,
    "adversary_holdout_max_rows": 1,
    "rollout_rows": 1,
    "rollout_chunk_rows": 1,
    "horizon_min": 1,
    "updates_per_step": 1,
    "sac_batch_size": 1,
    "entropy_rows": 1,
    "seed": 0,
    "threads": 1,
    "eval_episodes": 1,
    "checkpoint_every_steps": 1,
    "keep_checkpoints": 1,
    "keep_policies": 0,
}
_POSITIVE = (
    "model_lr",
    "adversary_lr",
    "sac_lr",
    "init_temperature",
    "kl_target_nats",
    "drop_target",
    "kl_dual_lr",
)
_FRACTIONS = ("real_fraction", "gamma", "tau", "holdout_fraction")


def validate(config: Config) -> None:
    """Raises ConfigError, naming the flag, what was expected and what came."""
    values = config.flat()

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
    if not 0 < config.model.holdout_fraction < 1:
        fail("holdout_fraction", "strictly between 0 and 1")
    if config.run.seed >= 2**63:
        fail("seed", "below 2**63")
    for name in ("model_hidden", "sac_hidden"):
        if not values[name] or min(values[name]) < 1:
            fail(name, "one or more layer widths of at least 1")
    if config.model.num_elites > config.model.num_members:
        fail("num_elites", f"at most --num-members, {config.model.num_members}")
    if len(config.model.model_weight_decay) != len(config.model.model_hidden) + 1:
        fail("model_weight_decay", f"{len(config.model.model_hidden) + 1} numbers, one per layer")
    if min(config.model.model_weight_decay) < 0:
        fail("model_weight_decay", "at least 0 in each layer")
    for name in ("rollout_rows", "rollout_chunk_rows"):
        if (values[name] or 0) % config.model.num_elites:
            fail(name, f"a multiple of --num-elites, {config.model.num_elites}")
    first, last = config.rollout.horizon_epochs
    if not 0 <= first < last:
        fail("horizon_epochs", "two growing epochs")
    if config.rollout.horizon_max < config.rollout.horizon_min:
        fail("horizon_max", f"at least --horizon-min, {config.rollout.horizon_min}")
    if min(config.rollout.start_spread, default=0.0) < 0:
        fail("start_spread", "at least 0 for each observation")
    if config.adversary.adversary_dims == ():
        fail("adversary_dims", "one or more dimensions")
    if config.model.correlated_noise and config.adversary.adversarial:
        if config.adversary.parametrization != "residual":
            fail("parametrization", "residual with --correlated-noise")
        if config.adversary.adversary_dims is not None:
            raise ConfigError(
                "--adversary-dims takes numbers apart that --correlated-noise draws together"
            )
    if (config.adversary.algo == "dr") != bool(config.task.randomize):
        raise ConfigError("--algo dr and --randomize NAME=FIRST:LAST ... go together")
    if config.adversary.explore == "nominal" and not config.adversary.adversarial:
        fail("explore", "robust where there is no adversary")
    targets = [name for name in ETA_TARGETS if values[name] is not None]
    if len(targets) > 1:
        flags = " and ".join(map(flag_of, targets))
        raise ConfigError(f"{flags} both adapt eta: give one of them")
    if targets and config.adversary.eta == 0:
        fail("eta", f"greater than 0 where {flag_of(targets[0])} adapts it")
