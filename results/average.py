"""The mean of the weights of a run's last epochs' policies (ours, no part of the paper's protocol).

python results/average.py RUNS... writes averaged/policy.safetensors to each run's folder
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from safetensors.torch import load_file

from rmbpo_fast.policy import FILE_NAME, FORMAT, Policy, epoch_files
from rmbpo_fast.storage import save_tensors_atomically
from rmbpo_fast.subjects import find_policies


@dataclass(frozen=True)
class Arguments:
    """Averages the policies in RUN_DIR/policies/."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders, or glob patterns of them."""


def average(run_dir: Path) -> Path:
    """Writes the averaged policy of a run; returns its file."""
    files = epoch_files(run_dir)
    env_id = Policy.load(files[-1]).env_id
    all_tensors = [load_file(file) for file in files]
    mean = {name: torch.stack([t[name] for t in all_tensors]).mean(0) for name in all_tensors[0]}
    file = run_dir / "averaged" / FILE_NAME
    file.parent.mkdir(exist_ok=True)
    save_tensors_atomically(file, mean, {"format": FORMAT, "env_id": env_id})
    return file


if __name__ == "__main__":
    for last in find_policies(tyro.cli(Arguments).runs):
        print(average(last.parent))
