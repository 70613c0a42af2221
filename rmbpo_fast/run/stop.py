"""Signals that ask a run to stop."""

import os
import signal
import sys
import threading
from types import FrameType


class Stopped(Exception):
    """A phase has ended before its time because a stop was asked for."""


class StopRequest:
    """SIGINT and SIGTERM ask for an orderly stop; a second one stops at once, without saving.

    Signals come to a process's main thread, so a run in another thread takes none.

    Attributes:
        signal: the one that asked.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._by_program = False

    def __enter__(self) -> "StopRequest":
        of_process = threading.current_thread() is threading.main_thread()
        asking = (signal.SIGINT, signal.SIGTERM) if of_process else ()
        self._before = {number: signal.signal(number, self._ask) for number in asking}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Stopped once a stop has been asked for."""
        if self.asked:
            raise Stopped

    def ask(self) -> None:
        """Asks for an orderly stop."""
        self._by_program = True

    @property
    def asked(self) -> bool:
        """Whether a signal or `ask` has."""
        return self._by_program or self.signal is not None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if not sys.stdout.isatty():  # on a terminal the live table says so
            # a signal may come in the middle of a print, so this goes past Python's buffers
            os.write(2, b"stopping, then saving; once more stops at once\n")
