"""Append-only journal of real transitions, checksummed one by one: they are the costly part.

A run writes one segment per process, `journal/<number>-<first step>.bin`, and never rewrites an
older one:

    8 bytes     number of committed records, little-endian, rewritten after each step
    a line      JSON: what this file is
    records     (step, row, place in its episode, CRC-32), fixed size

A SIGKILL can cut a write between two memory pages. What it leaves behind the committed records is
no transition yet and is passed over; a committed record that is missing or altered is damage.
"""

import fcntl
import json
import os
import re
import zlib
from pathlib import Path

import numpy as np

from rmbpo_fast.errors import StorageError

FORMAT = "rmbpo_fast journal 2"
_COUNT_BYTES = 8
_NAME = re.compile(r"(\d{4,})-(\d{9,})\.bin")


def _record_type(width: int) -> np.dtype:
    return np.dtype([("step", "<u8"), ("row", "<f4", (width,)), ("place", "<u1"), ("crc", "<u4")])


def _checksum(record: np.ndarray) -> int:
    return zlib.crc32(b"".join(record[name].tobytes() for name in ("step", "row", "place")))


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """(number, first step, path) of each segment, oldest first."""
    found = []
    for path in folder.glob("*.bin"):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise StorageError(f"{path}: not a journal of rmbpo_fast")
        found.append((int(match[1]), int(match[2]), path))
    return sorted(found)


class JournalWriter:
    """One new segment. Holds a lock on the folder: one process trains in a run at a time.

    Args:
        folder: the run's journal folder, made if absent.
        first_step: real step of the first record.
        width: float32 numbers per transition.
    Raises:
        StorageError: another process writes to this journal.
    """

    def __init__(self, folder: Path, first_step: int, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise StorageError(f"{folder}: another process is training in this run") from error
        number = 1 + max((number for number, _, _ in _segments(folder)), default=-1)
        self.path = folder / f"{number:04d}-{first_step:09d}.bin"
        self._type = _record_type(width)
        self._first_step, self._count = first_step, 0
        header = json.dumps({"format": FORMAT, "width": width, "first_step": first_step})
        # whole or not there: a process killed between the two calls leaves no half header
        unfinished = self.path.with_suffix(".new")
        unfinished.write_bytes(bytes(_COUNT_BYTES) + header.encode() + b"\n")
        self._end = unfinished.stat().st_size
        os.rename(unfinished, self.path)
        self._fd = os.open(self.path, os.O_WRONLY)

    def append(self, rows: np.ndarray, places: np.ndarray) -> None:
        """Adds transitions, one a step.

        Args:
            rows: [n, width] float32.
            places: [n] uint8, where in its episode each is (see `Envs.places`).
        Raises:
            OSError: the disk is full; the journal then ends before these rows.
        """
        records = np.zeros(len(rows), dtype=self._type)
        first = self._first_step + self._count
        records["step"] = np.arange(first, first + len(rows))
        records["row"], records["place"] = rows, places
        records["crc"] = [_checksum(record) for record in records]
        data = records.tobytes()
        written = os.pwrite(self._fd, data, self._end)
        if written != len(data):
            raise OSError(f"{self.path.name}: only {written} of {len(data)} bytes were written")
        self._end += len(data)
        self._count += len(rows)
        os.pwrite(self._fd, self._count.to_bytes(_COUNT_BYTES, "little"), 0)

    def sync(self) -> None:
        """Hands everything to the disk: what a power cut can't take any more."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)
        os.close(self._lock)


def _read_segment(path: Path, first_step: int, width: int) -> tuple[np.ndarray, str]:
    """The records [n] before the first bad one, and what is bad ("" if nothing is)."""
    data = path.read_bytes()
    committed = int.from_bytes(data[:_COUNT_BYTES], "little")
    head, _, body = data[_COUNT_BYTES:].partition(b"\n")
    kind = _record_type(width)
    try:
        header = json.loads(head)
        found = (header["format"], header["width"], header["first_step"])
    except (ValueError, KeyError, TypeError):
        return np.zeros(0, kind), "not a journal of rmbpo_fast"
    if found != (FORMAT, width, first_step):
        problem = f"expected {(FORMAT, width, first_step)}, found {found}"
        return np.zeros(0, kind), problem
    whole = min(len(body) // kind.itemsize, committed)
    records = np.frombuffer(body, dtype=kind, count=whole)
    good = 0
    while good < whole and records[good]["step"] == first_step + good:
        if _checksum(records[good]) != records[good]["crc"]:
            break
        good += 1
    damage = "" if good == committed else f"damaged after {good} of {committed} transitions"
    return records[:good], damage


def reached(folder: Path) -> int:
    """Real steps that a run's journal holds, from the newest segment's counter alone.

    For a look from outside at a run in progress: nothing is verified.
    """
    if not (segments := _segments(folder)):
        return 0
    _, first, path = segments[-1]
    with open(path, "rb") as handle:
        return first + int.from_bytes(handle.read(_COUNT_BYTES), "little")


def read_journal(folder: Path, width: int, accept_damage: bool = False) -> np.ndarray:
    """All transitions [n, width] of a run; see `read_records`."""
    return np.ascontiguousarray(read_records(folder, width, accept_damage)["row"])


def read_records(folder: Path, width: int, accept_damage: bool = False) -> np.ndarray:
    """A run's records [n] with fields `row` and `place`, in the order of their steps from 0 on.

    A segment supersedes what older ones hold from its first step on: that is how a run goes on
    after damage that was accepted.

    Args:
        accept_damage: return what comes before the first bad or missing record.
    Raises:
        StorageError: a foreign file, another width, a torn or altered record, missing steps.
    """
    chain: list[tuple[int, int | None, Path]] = []  # (first step, step of the next segment, path)
    for _, first, path in reversed(_segments(folder)):
        end = chain[-1][0] if chain else None
        if end is None or first < end:
            chain.append((first, end, path))
    records, count = [np.zeros(0, _record_type(width))], 0
    for first, end, path in reversed(chain):
        segment, problem = _read_segment(path, first, width)
        if end is not None and len(segment) >= end - first:
            segment, problem = segment[: end - first], ""
        elif end is not None:
            problem = problem or f"ends before step {end}, where the next segment begins"
        if first != count:
            segment, problem = segment[:0], f"begins at step {first}, expected {count}"
        records.append(segment)
        count += len(segment)
        if problem and accept_damage:
            break
        if problem:
            raise StorageError(f"{path}: {problem}; --resume-fallback goes on with {count} steps")
    return np.concatenate(records)
