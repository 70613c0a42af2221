"""Checkpoints of a run: `checkpoints/step-000005000`, the newest last."""

import re
import shutil
from pathlib import Path

from rmbpo_fast.errors import StorageError
from rmbpo_fast.storage import Tree, load_tree, save_tree

KIND = "rmbpo_fast run, format 2"
_NAME = re.compile(r"step-(\d{9,})")


def step_of(folder: Path) -> int:
    """The real step that a checkpoint folder is named after."""
    return int(folder.name.removeprefix("step-"))


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    found = [p for p in (run_dir / "checkpoints").glob("step-*") if _NAME.fullmatch(p.name)]
    return sorted(found, key=step_of)


def save_checkpoint(run_dir: Path, env_step: int, tree: Tree, keep: int) -> Path:
    """Writes a checkpoint, reads it back, and only then removes all but the newest `keep`.

    Raises:
        OSError: it can't be written; older checkpoints are untouched.
        StorageError: what was written can't be read back; older checkpoints are untouched.
    """
    folder = run_dir / "checkpoints" / f"step-{env_step:09d}"
    save_tree(folder, tree, KIND)
    load_tree(folder, KIND)
    for old in list_checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    for unfinished in folder.parent.glob(".step-*"):  # of a process that was killed while saving
        shutil.rmtree(unfinished)
    return folder


def load_newest(run_dir: Path, accept_older: bool) -> tuple[Path, Tree] | None:
    """The newest checkpoint, None where the run has none yet.

    Args:
        accept_older: take the one before a damaged one.
    Raises:
        StorageError: the newest is damaged (or all are).
    """
    damage: list[str] = []
    for folder in reversed(list_checkpoints(run_dir)):
        try:
            return folder, load_tree(folder, KIND)
        except StorageError as error:
            damage.append(str(error))
            if not accept_older:
                raise StorageError(
                    f"{error}; --resume-fallback takes the checkpoint before it"
                ) from error
    if damage:
        raise StorageError(f"no checkpoint can be read: {'; '.join(damage)}")
    return None


def set_aside_newer(run_dir: Path, than: Path) -> None:
    """Renames the checkpoints behind `than`, which were found damaged; their content stays."""
    for folder in list_checkpoints(run_dir):
        if step_of(folder) > step_of(than):
            number = len(list(folder.parent.glob(f"damaged*-{folder.name}")))
            folder.rename(folder.with_name(f"damaged{number}-{folder.name}"))
