"""Command line of `train`: flags on the config dataclasses, defaults of the task or of the run."""

import argparse
import contextlib
import dataclasses
import io
from pathlib import Path

import tyro

from rmbpo_fast.config import ETA_TARGETS, Config, RunConfig, flag_of
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.presets import preset, with_pessimism
from rmbpo_fast.run.config_file import read_config
from rmbpo_fast.run.validation import validate
from rmbpo_fast.worlds.tasks import with_module

# what may change when a run goes on; anything else would make it another run
_RESUMABLE = {f.name for f in dataclasses.fields(RunConfig)} - {"seed", "run_dir"} | {
    "total_env_steps"
}

_ABOUT = """Train RMBPO. Defaults shown are those of the --env given.

--config FILE starts from a run's config.json; flags change single settings."""


def with_hyphens(argv: list[str]) -> list[str]:
    """Flags as tyro's help shows them: --drop_target is --drop-target, also before a `=`."""
    flags = (word.partition("=") for word in argv)
    return [
        (name.replace("_", "-") if name.startswith("--") else name) + equals + value
        for name, equals, value in flags
    ]


def without_flag(argv: list[str], flag: str) -> list[str]:
    """The words without a flag and its value."""
    kept, words = [], iter(argv)
    for word in words:
        if word == flag:
            next(words, None)
        elif not word.startswith(f"{flag}="):
            kept.append(word)
    return kept


def parse(argv: list[str]) -> Config:
    """The validated config of `python -m rmbpo_fast.train`. tyro prints help and usage errors.

    Raises:
        ConfigError: a value that can't be served.
    """
    argv = with_hyphens(argv)
    # --env, --config and --resume decide which defaults apply, and --help shows those
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--config", type=Path)
    peek.add_argument("--env", default=Config().task.env)
    peek.add_argument("--resume", type=Path)
    for name in ("eta", *ETA_TARGETS):
        peek.add_argument(flag_of(name))
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            known, _ = peek.parse_known_args(argv)
    except SystemExit:  # a flag without its value: tyro says so better
        known = peek.parse_args([])
    if known.config is not None:
        base = read_config(known.config).replace(run_dir=None)
        argv = without_flag(argv, "--config")
    else:
        base = preset(known.env)
    given = [name for name in ("eta", *ETA_TARGETS) if getattr(known, name) is not None]
    base = with_pessimism(base, given)
    if known.resume is not None:
        base = read_config(known.resume).replace(run_dir=known.resume)
    config = tyro.cli(
        tyro.conf.OmitArgPrefixes[Config],
        args=argv,
        default=base,
        prog="python -m rmbpo_fast.train",
        description=_ABOUT,
    )
    config = config.replace(env=with_module(config.task.env))
    validate(config)
    if known.resume is not None:
        require_same(base, config)
    return config


def require_same(before: Config, after: Config) -> None:
    """Raises ConfigError where a run that goes on would become another one."""
    if changed := changed_settings(before, after):
        flags = ", ".join(changed)
        raise ConfigError(f"--resume goes on with the run's own settings: can't change {flags}")


def changed_settings(before: Config, after: Config) -> list[str]:
    """Flags whose values differ and that --resume doesn't let change."""
    old, new = before.flat(), after.flat()
    changed = [name for name in old if old[name] != new[name] and name not in _RESUMABLE]
    return [flag_of(name) for name in changed]
