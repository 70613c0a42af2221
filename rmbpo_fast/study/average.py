"""The mean of the weights of a run's last epochs' policies (ours, no part of the paper's protocol).

python -m rmbpo_fast.study.average RUNS... writes averaged/policy.safetensors to each run's folder
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import load_file

from rmbpo_fast.errors import StorageError, run_command
from rmbpo_fast.policy import FILE_NAME, FORMAT, Policy, epoch_files
from rmbpo_fast.storage import save_tensors_atomically
from rmbpo_fast.study.subjects import find_policies


@dataclass(frozen=True)
class Arguments:
    """Averages the policies of the last epochs, from `policies/` of each run."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, or glob patterns of them."""
    last: int = 10
    """How many policies, the newest; all where there are fewer."""


def average(run_dir: Path, last: int) -> Path:
    """Writes the mean of a run's last policies; returns its file.

    Raises:
        StorageError: the run has none.
    """
    files = epoch_files(run_dir)[-last:]
    if not files:
        raise StorageError(f"{run_dir}/policies: expected policies of some epochs, found none")
    tensors = [load_file(file) for file in files]
    mean = {name: torch.stack([t[name] for t in tensors]).mean(0) for name in tensors[0]}
    file = run_dir / "averaged" / FILE_NAME
    file.parent.mkdir(exist_ok=True)
    newest = Policy.load(files[-1])
    metadata = {"format": FORMAT, "env_id": newest.env_id, "action_dtype": newest.dtype.name}
    save_tensors_atomically(file, mean, metadata)
    return file


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, or 1 for a failure."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m rmbpo_fast.study.average")

    def work() -> None:
        for policy_file in find_policies(arguments.runs):
            print(average(policy_file.parent, arguments.last))

    return run_command(work, "stopped")


if __name__ == "__main__":
    sys.exit(main())
