"""Append-only journal of real transitions, checksummed one by one: they are the costly part.

A run writes one segment per process, `journal/<number>-<first step>.bin`: a JSON line that says
what it is, then fixed-size records (step, row, CRC-32). A record is one `write`, so a killed
process loses none; a power cut can tear the last ones, which the reader notices. Segments are never
rewritten.
"""

import json
import os
import zlib
from pathlib import Path

import numpy as np

from rmbpo_fast.errors import StorageError

FORMAT = "rmbpo_fast journal 1"


def _record_type(width: int) -> np.dtype:
    return np.dtype([("step", "<u8"), ("row", "<f4", (width,)), ("crc", "<u4")])


def _checksum(record: np.ndarray) -> int:
    return zlib.crc32(record["step"].tobytes() + record["row"].tobytes())


class JournalWriter:
    """One new segment.

    Args:
        folder: the run's journal folder, made if absent.
        first_step: real step of the first record.
        width: float32 numbers per transition.
    """

    def __init__(self, folder: Path, first_step: int, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_segment_key(p)[0] for p in folder.glob("*.bin")), default=-1)
        self.path = folder / f"{number:04d}-{first_step:09d}.bin"
        self._type = _record_type(width)
        self._step = first_step
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        header = {"format": FORMAT, "width": width, "first_step": first_step}
        self._write(json.dumps(header).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        written = os.write(self._fd, data)
        if written != len(data):  # a disk that is nearly full takes a part
            raise OSError(f"{self.path.name}: only {written} of {len(data)} bytes were written")

    def append(self, rows: np.ndarray) -> None:
        """Adds transitions [n, width] float32, one a step. Raises OSError on a full disk."""
        records = np.zeros(len(rows), dtype=self._type)
        records["step"] = np.arange(self._step, self._step + len(rows))
        records["row"] = rows
        records["crc"] = [_checksum(record) for record in records]
        self._write(records.tobytes())
        self._step += len(rows)

    def sync(self) -> None:
        """Hands everything to the disk: what a power cut can't take any more."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _read_segment(path: Path, width: int) -> tuple[np.ndarray, str]:
    """The rows [n, width] before the first bad record, and what is bad ("" if nothing is)."""
    data = path.read_bytes()
    head, _, body = data.partition(b"\n")
    try:
        header = json.loads(head)
        found = (header["format"], header["width"], header["first_step"])
    except (ValueError, KeyError, TypeError):
        return np.zeros((0, width), np.float32), "not a journal of rmbpo_fast"
    first_step = _segment_key(path)[1]
    if found != (FORMAT, width, first_step):
        problem = f"expected {(FORMAT, width, first_step)}, found {found}"
        return np.zeros((0, width), np.float32), problem
    kind = _record_type(width)
    whole = len(body) // kind.itemsize
    records = np.frombuffer(body[: whole * kind.itemsize], dtype=kind)
    good = 0
    while good < whole and records[good]["step"] == first_step + good:
        if _checksum(records[good]) != records[good]["crc"]:
            break
        good += 1
    intact = good * kind.itemsize == len(body)
    rows = records["row"][:good].copy()
    return rows, "" if intact else f"damaged after {good} good transitions"


def _segment_key(path: Path) -> tuple[int, int]:
    """(number, first step) from the file's name."""
    number, _, first_step = path.stem.partition("-")
    return int(number), int(first_step)


def read_journal(folder: Path, width: int, accept_damage: bool = False) -> np.ndarray:
    """All transitions [n, width] of a run, in the order of their steps, which start at 0.

    A segment supersedes what older ones hold from its first step on: that is how a run goes on
    after damage that was accepted.

    Args:
        accept_damage: return what comes before the first bad or missing record.
    Raises:
        StorageError: a foreign file, another width, a torn or altered record, missing steps.
    """
    chain: list[tuple[int, int | None, Path]] = []  # (first step, step of the next segment, path)
    for path in sorted(folder.glob("*.bin"), key=_segment_key, reverse=True):
        first = _segment_key(path)[1]
        end = chain[-1][0] if chain else None
        if end is None or first < end:
            chain.append((first, end, path))
    rows, count = [np.zeros((0, width), dtype=np.float32)], 0
    for first, end, path in reversed(chain):
        segment, problem = _read_segment(path, width)
        if end is not None and len(segment) >= end - first:
            segment, problem = segment[: end - first], ""
        elif end is not None:
            problem = problem or f"ends before step {end}, where the next segment begins"
        if first != count:
            segment, problem = segment[:0], f"begins at step {first}, expected {count}"
        rows.append(segment)
        count += len(segment)
        if problem and accept_damage:
            break
        if problem:
            raise StorageError(f"{path}: {problem}; --resume-fallback goes on with {count} steps")
    return np.concatenate(rows)
