"""What can go wrong and is the user's to mend; `main()` prints each as one line."""

import sys
import traceback
from collections.abc import Callable


class RmbpoError(Exception):
    """Base class: the message says what was expected and what came."""


class ConfigError(RmbpoError, ValueError):
    """A setting, task name or flag that can't be served."""


class EnvironmentFault(RmbpoError):
    """An environment that returned numbers it must not return."""


class NoInstance(EnvironmentFault):
    """A task of which no further instance can be made.

    Attributes:
        made: how many could be made before.
    """

    def __init__(self, message: str, made: int) -> None:
        super().__init__(message, made)  # both: a worker's exception comes back by its arguments
        self.made = made

    def __str__(self) -> str:
        return str(self.args[0])


class DivergedError(RmbpoError):
    """A loss or a network that is no longer finite."""


class RunFailed(RmbpoError):
    """A training run that has ended early; its cause says why, the message how to go on."""


class CaptureError(RmbpoError):
    """A function that can't become a CUDA graph."""


class StorageError(RmbpoError):
    """A checkpoint, journal or policy file that is missing, damaged or of another kind."""


def words_of(argv: list[str] | None) -> list[str]:
    """A command's words, the process's own if none are given; a bare command asks for its help."""
    return (sys.argv[1:] if argv is None else argv) or ["--help"]


def run_command(work: Callable[[], int | None], when_interrupted: str) -> int:
    """Runs a command's work.

    Returns:
        The exit status: the work's own (none is 0), 1 for a failure, 2 for bad settings.
    """
    try:
        return work() or 0
    except ConfigError as error:
        print_error(error)
        return 2
    except (RmbpoError, OSError) as error:
        cause = error.__cause__
        if isinstance(error, RunFailed) and not isinstance(cause, (RmbpoError, OSError)):
            traceback.print_exception(cause)  # of a task's own code, or of ours
        print_error(error)
        return 1
    except KeyboardInterrupt:
        print(when_interrupted, file=sys.stderr)
        return 130


def print_error(error: Exception) -> None:
    """One line on stderr."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
