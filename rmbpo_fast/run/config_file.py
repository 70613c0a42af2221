"""A run's settings as JSON: the `config` of its config.json."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from rmbpo_fast import __version__
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


def from_json(data: dict[str, Any]) -> Config:
    """The inverse of `to_json`.

    A setting that older runs don't have takes its default, which is what those runs did.

    Raises:
        ConfigError: an unknown or mistyped field.
    """
    groups = {group.name: typing.get_type_hints(group.type) for group in dataclasses.fields(Config)}
    values: dict[str, Any] = {}
    try:
        for name, found in data.items():
            if unknown := found.keys() - groups.get(name, {}).keys():
                raise ConfigError(f"no such setting: {', '.join(sorted(unknown))}")
            values |= {n: _restore(n, value, groups[name][n]) for n, value in found.items()}
        config = Config().replace(**values)
        validate(config)
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"not settings: {error}") from error
    return config


def read_config(run_dir: Path) -> Config:
    """The settings of a run, from its folder or its config.json.

    Raises:
        StorageError: it is none of ours.
    """
    file = run_dir if run_dir.is_file() else run_dir / CONFIG_FILE
    try:
        content = json.loads(file.read_text())
        made_by = content.get("version")
        return from_json(content["config"])
    except OSError as error:
        raise StorageError(f"{run_dir}: no run here ({CONFIG_FILE}: {error.strerror})") from error
    except ConfigError as error:
        other = f" of version {made_by}, this is {__version__}" * (made_by != __version__)
        raise StorageError(f"{run_dir}: a run{other}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{run_dir}: {CONFIG_FILE} can't be read ({error})") from error


def read_machine(run_dir: Path) -> dict[str, Any]:
    """What a run's config.json says of its kernels and machine; {} where that can't be read."""
    try:
        machine = json.loads((run_dir / CONFIG_FILE).read_text())["machine"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return machine if isinstance(machine, dict) else {}


def _restore(name: str, value: Any, hint: Any) -> Any:
    """A setting's value as its type has it: JSON knows neither tuples nor paths.

    Raises:
        ConfigError: a value of another type.
    """
    for option in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        origin, parts = typing.get_origin(option), typing.get_args(option)
        if origin is tuple:
            if isinstance(value, (list, tuple)) and all(_is_a(part, parts[0]) for part in value):
                return tuple(value)
        elif origin is typing.Literal:
            if isinstance(value, str) and value in parts:
                return value
        elif option is Path:
            if isinstance(value, str):
                return Path(value)
        elif _is_a(value, option):
            return value
    raise ConfigError(f"{name}: expected {getattr(hint, '__name__', hint)}, found {value!r}")


def _is_a(value: Any, kind: type) -> bool:
    if kind is not bool and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)
