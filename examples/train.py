"""Train a robust policy, watch it in Python, and see what it keeps of its return.

python examples/train.py
"""

from pathlib import Path
from typing import Any

from rmbpo_fast import evaluate, preset, train

GOOD = 950.0  # of at most 1,000


def main(**settings: Any) -> Path:
    good = 0

    def good_three_times(row: dict[str, Any]) -> bool:
        nonlocal good
        good = good + 1 if row["eval/return_mean"] >= GOOD else 0
        return good == 3

    config = preset("inverted_pendulum", **settings)
    run_dir = train(config, callback=good_three_times)
    for mass in (5.0, 20.0, 80.0):
        returns = evaluate(run_dir, {"pole_mass": mass})
        print(f"pole of {mass:g} kg: {returns.mean():.0f} +- {returns.std():.0f}")
    return run_dir


if __name__ == "__main__":
    main()
