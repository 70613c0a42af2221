"""Returns of policies in the nominal task and in distorted ones.

python -m rmbpo_fast.evaluate RUN_DIR... --distort torso_mass=2.5:6.0:0.5 --episodes 10

Or in Python:

    from rmbpo_fast import evaluate

    returns = evaluate(run_dir, {"torso_mass": 6.0})
"""

import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import numpy as np
import torch
import tyro

from rmbpo_fast.errors import run_command, words_of
from rmbpo_fast.study.evaluation import Arguments, run
from rmbpo_fast.study.subjects import load_subjects
from rmbpo_fast.worlds.episodes import check_changes, play


def evaluate(
    run_dir: str | Path,
    changes: Mapping[str, float] | None = None,
    *,
    episodes: int = 10,
    seed: int = 0,
) -> np.ndarray:
    """Undiscounted returns [episodes] of a run's deterministic policy, action noise included.

    Args:
        run_dir: a run's folder, or one of its policy files.
        changes: distortions of the task's physics, such as {"torso_mass": 6.0}; none if absent.
        seed: of resets and action noise, the same ones whatever the physics.
    Raises:
        RmbpoError: no run, or a distortion that the task can't have.
    """
    (subject,) = load_subjects([str(run_dir)])
    task, changes = subject.config.task, dict(changes or {})
    check_changes(task, changes)
    return play(subject.policy.unit_action, task, episodes, seed, changes)


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)  # an ordinary exit: what was made for this process is cleaned up


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failure, 2 for bad settings."""
    words = words_of(argv)
    arguments = tyro.cli(Arguments, args=words, prog="python -m rmbpo_fast.evaluate")
    torch.set_num_threads(1)  # a batch of ten rows: a second thread costs more than it brings
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        return run_command(
            lambda: run(arguments, shlex.join(["python", "-m", "rmbpo_fast.evaluate", *words])),
            "stopped; values played so far are kept, the same command goes on",
        )
    finally:
        signal.signal(signal.SIGTERM, before)


class _Callable(ModuleType):
    """`rmbpo_fast.evaluate` is the module of the command and the function in one."""

    __call__ = staticmethod(evaluate)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
