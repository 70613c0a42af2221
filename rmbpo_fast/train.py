"""Train RMBPO or MBPO. `python -m rmbpo_fast.train --env hopper --compile`, or in Python:

from rmbpo_fast import preset, train

run_dir = train(preset("hopper", seed=1), callback=lambda row: row["eval/return_mean"] > 3_000)
"""

import signal
import sys
from pathlib import Path
from types import ModuleType

from rmbpo_fast.config import Config
from rmbpo_fast.errors import run_command, words_of
from rmbpo_fast.run.cli import parse, require_same
from rmbpo_fast.run.config_file import read_config
from rmbpo_fast.run.loop import Callback
from rmbpo_fast.run.session import run
from rmbpo_fast.run.validation import validate
from rmbpo_fast.worlds.tasks import with_module


def train(config: Config, callback: Callback | None = None) -> Path:
    """Trains a run to its end, also in a notebook or in a thread.

    Args:
        config: every setting; `preset` has each task's.
        callback: called at the end of each epoch with its row of metrics.csv. If it returns
            something true, the run is saved and stops.
    Returns:
        The run's folder: `Policy.load` takes it, and so does `config.replace(resume=...)`.
    Raises:
        RmbpoError: settings that can't be served, or a run that failed. What the callback raises
            comes out as it is, after the run was saved.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM asked for the stop; the run is saved.
    """
    paths = {"run_dir": config.run.run_dir, "resume": config.run.resume}
    config = config.replace(
        env=with_module(config.task.env),
        **{name: None if path is None else Path(path) for name, path in paths.items()},
    )
    if (run_dir := config.run.resume) is not None:
        config = config.replace(run_dir=run_dir)
        require_same(read_config(run_dir).replace(run_dir=run_dir), config)
    validate(config)
    ended = run(config, callback)
    if ended.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if ended.signal is not None:
        sys.exit(128 + ended.signal)
    return ended.run_dir


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failed run, 2 for bad settings."""
    words = words_of(argv)

    def work() -> int:
        ended = run(parse(words))
        return 0 if ended.signal is None else 128 + ended.signal

    return run_command(work, "stopped before the first step")


class _Callable(ModuleType):
    """`rmbpo_fast.train` is the module of the command and the function in one."""

    __call__ = staticmethod(train)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
