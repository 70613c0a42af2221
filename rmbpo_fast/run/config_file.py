"""A run's settings as JSON: the `config` of its config.json."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, StorageError
from rmbpo_fast.run.validation import validate

CONFIG_FILE = "config.json"


def to_json(config: Config) -> dict[str, Any]:
    """Nested plain values, for config.json."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return str(value) if isinstance(value, Path) else value

    return plain(dataclasses.asdict(config))


# settings that came after the first runs
_ADDED_LATER = {
    "keep_policies",
    "adversary_holdout_max_rows",
    "adversary_patience_checks",
    "randomize",
    "explore",
    "drop_target",
    "adversary_from_epoch",
    "save_dataset",
    "start_spread",
    "correlated_noise",
    "entropy_rows",
}


def from_json(data: dict[str, Any]) -> Config:
    """The inverse of `to_json`.

    A setting that older runs don't have takes its default, which is what those runs did.

    Raises:
        ConfigError: a missing, unknown or mistyped field.
    """
    values = {}
    try:
        for group in dataclasses.fields(Config):
            hints = typing.get_type_hints(group.type)
            odd = hints.keys() ^ data[group.name].keys()
            odd -= _ADDED_LATER & hints.keys()
            if odd:
                raise KeyError(*sorted(odd))
            for name, value in data[group.name].items():
                values[name] = _restore(value, hints[name])
        config = Config().replace(**values)
        validate(config)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"not the settings of this version: {error!r}") from error
    return config


def read_config(run_dir: Path) -> Config:
    """The settings of a run, from its config.json. Raises StorageError where it is none of ours."""
    try:
        return from_json(json.loads((run_dir / CONFIG_FILE).read_text())["config"])
    except OSError as error:
        raise StorageError(f"{run_dir}: no run here ({CONFIG_FILE}: {error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{run_dir}: {CONFIG_FILE} can't be read ({error})") from error


def _restore(value: Any, hint: Any) -> Any:
    """JSON knows neither tuples nor paths."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, str) and Path in options:
        return Path(value)
    return value
