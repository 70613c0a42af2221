"""Tensors and plain values on disk without pickle: safetensors plus JSON, written atomically."""

import csv
import hashlib
import io
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rmbpo_fast.errors import StorageError

Tree = dict[str, Any]


def flatten(tree: Tree, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A nested dict as (tensors, plain JSON values), keyed by paths such as `sac/actor/0`."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            below = flatten(value, f"{path}/")
            tensors.update(below[0])
            values.update(below[1])
        elif isinstance(value, Tensor):
            tensors[path] = value.detach().contiguous()
        else:
            values[path] = value
    return tensors, values


def unflatten(flat: dict[str, Any]) -> Tree:
    """The inverse of `flatten`, from its two results merged."""
    tree: Tree = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tree:
    """Adam's state per parameter, in the order of its groups."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    return {str(i): dict(optimizer.state[p]) for i, p in enumerate(params) if p in optimizer.state}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Tree) -> None:
    """The inverse of `optimizer_state`, for an optimiser over the same parameters."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()  # one that hadn't stepped yet has none
    for index, saved in state.items():
        param = params[int(index)]
        # fused Adam keeps its step counter on the parameter's device, as everything else
        optimizer.state[param] = {name: t.to(param.device) for name, t in saved.items()}


def fsync_dir(path: Path) -> None:
    """Makes a rename in this folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_csv_atomically(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    """Rows as comma-separated values, the header first; see `write_text_atomically`."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_text_atomically(path, text.getvalue())


def write_text_atomically(path: Path, text: str) -> None:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def save_tensors_atomically(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    """A safetensors file, whole or not there."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _save_file(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    """Writes and syncs. A full disk is an OSError, as everywhere else.

    safetensors makes files that only their owner can read; these get the mode of any other file.
    """
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(tensors, path, metadata)
        path.chmod(mode)
    except SafetensorError as error:
        raise OSError(f"can't write {path.name}: {error}") from error
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


def save_tree(folder: Path, tree: Tree, kind: str) -> None:
    """Writes `tree` as `folder`/{state.safetensors, state.json}; the folder appears whole.

    Raises:
        FileExistsError: `folder` is there already; nothing is ever overwritten.
        OSError: the disk is full or not writable; nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already")
    tensors, values = flatten(tree)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        _save_file(tensors, temporary / "state.safetensors", None)
        header = {
            "kind": kind,
            "tensors_sha256": _sha256(temporary / "state.safetensors"),
            "values_sha256": _sha256_of_json(values),
        }
        write_text_atomically(
            temporary / "state.json", json.dumps({**header, "values": values}, indent=1)
        )
        os.rename(temporary, folder)
        fsync_dir(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_tree(folder: Path, kind: str) -> Tree:
    """Reads what `save_tree` wrote, verified against its checksums.

    Raises:
        StorageError: missing, truncated, altered, or of another kind.
    """
    try:
        text = (folder / "state.json").read_text(encoding="utf-8")
        header = json.loads(text)
        found = header["kind"]
        expected_sum, values = header["tensors_sha256"], header["values"]
        values_intact = header["values_sha256"] == _sha256_of_json(values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{folder}: not a readable checkpoint ({error!r})") from error
    if found != kind:
        raise StorageError(f"{folder}: expected a {kind}, found {found!r}")
    try:
        if not values_intact or _sha256(folder / "state.safetensors") != expected_sum:
            raise StorageError(f"{folder}: damaged, its checksum does not match")
        tensors = load_file(folder / "state.safetensors")
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{folder}: can't read state.safetensors ({error})") from error
    return unflatten({**tensors, **values})


def _sha256_of_json(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
