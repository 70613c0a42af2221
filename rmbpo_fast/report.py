"""One self-contained HTML page about some runs. `python -m rmbpo_fast.report RUN_DIR...`."""

import shlex
import sys

import tyro

from rmbpo_fast.errors import ConfigError, run_command, words_of
from rmbpo_fast.storage import write_text_atomically
from rmbpo_fast.study.report import Arguments, make_page


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failure, 2 for bad settings."""
    words = words_of(argv)
    arguments = tyro.cli(Arguments, args=words, prog="python -m rmbpo_fast.report")

    def work() -> None:
        if not arguments.runs:
            raise ConfigError("expected at least one run folder")
        page = make_page(arguments, shlex.join(["python", "-m", "rmbpo_fast.report", *words]))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(arguments.out, page)
        print(f"{arguments.out}: {len(page) / 1e6:.1f} MB, opens in a browser without a network")

    return run_command(work, "stopped; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
