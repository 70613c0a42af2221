"""The examples work, for a moment each."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from conftest import SMALL
from rmbpo_fast import Policy

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FEW = {**SMALL, "total_env_steps": 100}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """As if the examples' folder were the script's own."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.chdir(tmp_path)


def test_train(monkeypatch):
    example = importlib.import_module("train")
    monkeypatch.setattr(example, "GOOD", 0.0)  # the run stops after three epochs
    run_dir = example.main(**{**FEW, "total_env_steps": 300})
    assert len(list(run_dir.glob("policies/*"))) == 3


def test_own_task():
    example = importlib.import_module("own_task")
    assert Policy.load(example.main(**FEW)).env_id == "Mine/Cart-v0"


@pytest.mark.slow
def test_distortions_for_an_agent_of_stable_baselines3():
    example = importlib.import_module("distortions_for_sb3")
    returns = example.main(steps=10, masses=(3.0, 6.0), episodes=2)
    assert returns.keys() == {3.0, 6.0}
    assert not np.array_equal(returns[3.0], returns[6.0])


@pytest.mark.slow
def test_optuna_over_the_pessimism():
    study = importlib.import_module("tune_pessimism").main(trials=2, **FEW)
    assert len(study.trials) == 2
    assert 0.02 <= study.best_params["drop_target"] <= 0.2
