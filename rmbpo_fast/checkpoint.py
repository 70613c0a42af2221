"""Checkpoints of a run: `checkpoints/step-000005000`, newest last, pruned only after a good one."""

import re
import shutil
from pathlib import Path

from rmbpo_fast.errors import StorageError
from rmbpo_fast.storage import Tree, load_tree, save_tree

KIND = "rmbpo_fast run, format 1"
_NAME = re.compile(r"step-(\d{9,})(?:\.(\d+))?")


def list_checkpoints(run_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest first. A second one at the same step is named `step-N.1`."""
    found = []
    for path in (run_dir / "checkpoints").glob("step-*"):
        if match := _NAME.fullmatch(path.name):
            found.append((int(match[1]), int(match[2] or 0), path))
    return [path for _, _, path in sorted(found)]


def save_checkpoint(run_dir: Path, env_step: int, tree: Tree, keep: int) -> Path:
    """Writes a checkpoint, reads it back, and only then removes all but the newest `keep`.

    Raises:
        OSError: it can't be written; older checkpoints are untouched.
        StorageError: what was written can't be read back; older checkpoints are untouched.
    """
    folder = run_dir / "checkpoints" / f"step-{env_step:09d}"
    again = 0
    while folder.exists():  # damaged, or from before a fallback: never overwritten
        again += 1
        folder = folder.with_name(f"step-{env_step:09d}.{again}")
    save_tree(folder, tree, KIND)
    load_tree(folder, KIND)
    for old in list_checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    return folder


def load_newest(run_dir: Path, accept_older: bool) -> tuple[Path, Tree] | None:
    """The newest checkpoint, None where the run has none yet.

    Args:
        accept_older: go on to the one before when one is damaged.
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
