"""Did the numbers move unasked? Ten seeded learning steps against stored ones."""

import json
from pathlib import Path

import pytest

from conftest import flags
from rmbpo_fast import train
from rmbpo_fast.algo import world_model
from rmbpo_fast.algo.gaussian_adversary import ResidualAdversary
from rmbpo_fast.kernels import backend
from rmbpo_fast.run import loop
from rmbpo_fast.run.journal import read_journal

STORED = Path(__file__).with_name("golden.json")
# few and slow gradient steps: hundreds of them amplify the rounding of one processor into another
# number of looks on the next
SLOW_FIT = {"LEARNING_RATE": 1e-4, "LOOK_EVERY": 2, "MAX_STEPS": 5, "PATIENCE_LOOKS": 1}


@pytest.mark.parametrize("kernels", ["reference", "native"])
def test_ten_seeded_steps(kernels, small_flags, tmp_path, monkeypatch):
    """Losses of steps 51 to 60 and what the first fit reported.

    The tolerance is for other processors, where products are summed in another order: PyTorch's
    and MKL's instruction sets, switched by hand, moved no number by more than 3e-6. A change of
    the algorithm moves them by far more. To store new numbers on purpose:
    `PYTHONPATH=tests python tests/run/test_golden.py`.
    """
    if kernels == "native" and backend.native is None:
        pytest.skip("the native library isn't installed")
    chosen = [*small_flags, "--kernels", kernels, "--precision", "fp32"]
    for name, (found, expected) in compare(chosen, tmp_path, monkeypatch).items():
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6), name


def compare(small_flags, tmp_path, monkeypatch):
    found = record([*small_flags, *flags(run_dir=tmp_path)], monkeypatch)
    stored = json.loads(STORED.read_text())
    assert found.keys() == stored.keys()
    return {name: (found[name], stored[name]) for name in stored}


def record(arguments, monkeypatch):
    """The numbers of a run of 60 steps, ten of which learn."""
    losses = []
    original = loop.update_policies

    def spy(agent, updates):
        report = original(agent, updates)
        losses.append({name: float(value) for name, value in report.items()})
        return report

    fits = {}
    original_fit = loop.fit_and_imagine

    def spy_fit(agent, steps, metrics):
        original_fit(agent, steps, metrics)
        fits.update(metrics.averages())

    monkeypatch.setattr(loop, "update_policies", spy)
    monkeypatch.setattr(loop, "fit_and_imagine", spy_fit)
    monkeypatch.setattr(ResidualAdversary, "max_steps", 20)
    for name, value in SLOW_FIT.items():
        monkeypatch.setattr(world_model, name, value)
    assert train.main([*arguments, "--total-env-steps", "60"]) == 0
    losses = losses[1:]  # the first update comes with the last random step
    assert len(losses) == 10
    run_dir = Path(arguments[arguments.index("--run-dir") + 1])
    rows = read_journal(run_dir / "journal", 4 + 1 + 1 + 4 + 1)
    numbers = {name: [loss[name] for loss in losses] for name in losses[0]}
    parts = ("world_model/", "adversary/", "rollout/")
    numbers.update({k: v for k, v in fits.items() if k.startswith(parts)})
    # the world itself: first and last observed state
    return {**numbers, "obs/first": rows[0, :4].tolist(), "obs/last": rows[-1, 6:10].tolist()}


if __name__ == "__main__":
    import tempfile

    import torch

    from conftest import SMALL

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        command = [
            *flags(env="inverted_pendulum", **SMALL, kernels="reference"),
            "--run-dir",
            folder,
        ]
        STORED.write_text(json.dumps(record(command, patch), indent=1) + "\n")
