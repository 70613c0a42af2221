"""What the adversary learned, and how good Q and the model are.

python -m rmbpo_fast.analyze RUN_DIR
"""

import sys

import torch
import tyro

from rmbpo_fast.errors import run_command, words_of
from rmbpo_fast.study.analysis_report import Arguments, run


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failure, 2 for bad settings."""
    words = words_of(argv)
    arguments = tyro.cli(Arguments, args=words, prog="python -m rmbpo_fast.analyze")
    torch.set_num_threads(1)
    return run_command(lambda: run(arguments), "stopped")


if __name__ == "__main__":
    sys.exit(main())
