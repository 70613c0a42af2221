"""`rmbpo-fast train|evaluate|analyze|report|sweep`, or `python -m rmbpo_fast train`."""

import difflib
import importlib
import sys

from rmbpo_fast.errors import words_of

COMMANDS = {
    "train": "train a policy: RMBPO, MBPO or SAC",
    "evaluate": "its returns in the nominal task and in distorted ones",
    "analyze": "what the adversary learned, how good Q and the model are",
    "report": "one HTML page about some runs",
    "sweep": "many runs, in parallel",
}


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: that of the command named, 2 where there is none."""
    name, *words = words_of(argv)
    if name in ("-h", "--help"):
        print("usage: rmbpo-fast COMMAND [...]\n")
        for command, what in COMMANDS.items():
            print(f"  {command:10}{what}")
        print("\nrmbpo-fast COMMAND --help shows a command's settings.")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0)
        print(f"error: {name}: no such command; nearest: {near[0]}", file=sys.stderr)
        return 2
    status: int = importlib.import_module(f"rmbpo_fast.{name}").main(words)
    return status


if __name__ == "__main__":
    sys.exit(main())
