"""Train RMBPO or MBPO. `python -m rmbpo_fast.train --env hopper --compile`."""

import sys

from rmbpo_fast.errors import run_command
from rmbpo_fast.run.cli import parse
from rmbpo_fast.run.session import run


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failed run, 2 for bad settings."""
    words = sys.argv[1:] if argv is None else argv
    return run_command(lambda: run(parse(words)), "stopped before the first step")


if __name__ == "__main__":
    sys.exit(main())
