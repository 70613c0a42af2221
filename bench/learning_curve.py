"""A picture of the learning curves of some runs: `learning_curve.py RUN_DIR... --out curve.png`."""

import argparse
import csv
import json
from pathlib import Path

import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    figure, axes = plt.subplots(figsize=(6.4, 3.6), constrained_layout=True)
    for run_dir in arguments.run_dirs:
        config = json.loads((run_dir / "config.json").read_text())["config"]
        with open(run_dir / "metrics.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        steps = [int(row["env_step"]) for row in rows]
        mean, std = (
            [float(row[f"eval/return_{name}"]) for row in rows] for name in ("mean", "std")
        )
        label = f"{config['adversary']['algo']}, seed {config['run']['seed']}"
        (line,) = axes.plot(steps, mean, marker=".", label=label)
        low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set_xlabel("real steps")
    axes.set_ylabel("return, mean ± std over episodes")
    axes.set_title(config["task"]["env"])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(arguments.out, dpi=150)


if __name__ == "__main__":
    main()
