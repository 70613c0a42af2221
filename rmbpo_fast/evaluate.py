"""Returns of policies in the nominal task and in distorted ones.

python -m rmbpo_fast.evaluate RUN_DIR... --distort torso_mass=2.5:6.0:0.5 --episodes 10
"""

import shlex
import signal
import sys
from typing import NoReturn

import torch
import tyro

from rmbpo_fast.errors import run_command
from rmbpo_fast.study.evaluation import Arguments, run


def _stop(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)  # an ordinary exit: what was made for this process is cleaned up


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failure, 2 for bad settings."""
    words = sys.argv[1:] if argv is None else argv
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


if __name__ == "__main__":
    sys.exit(main())
