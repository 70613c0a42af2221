"""Many runs on Ray: each eta with each seed, resumed where a worker dies, evaluated at the end.

python -m rmbpo_fast.sweep --env hopper --eta 0 1 2 4 8 --seeds 5
"""

import shlex
import sys

import torch
import tyro

from rmbpo_fast.errors import run_command, words_of
from rmbpo_fast.study.sweep.session import Arguments, run


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failed run, 2 for bad settings."""
    words = words_of(argv)
    prog = "python -m rmbpo_fast.sweep"
    arguments, of_train = tyro.cli(Arguments, args=words, prog=prog, return_unknown_args=True)
    torch.set_num_threads(1)  # the evaluation's batches are small
    command = shlex.join([*prog.split(), *words])
    return run_command(
        lambda: run(arguments, of_train, command),
        "stopped without saving; the journals have every real step, the same command goes on",
    )


if __name__ == "__main__":
    sys.exit(main())
