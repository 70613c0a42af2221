"""Shared by all tests: a small config, and tensors that are NaN until they are written."""

import csv
import os
import subprocess
import sys

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported: its decorators read it

from rmbpo_fast.algo import world_model
from rmbpo_fast.algo.gaussian_adversary import (
    PaperAdversary,
    PathwiseAdversary,
    ResidualAdversary,
)
from rmbpo_fast.config import Config
from rmbpo_fast.kernels import backend

# Tiny tensors: a second thread costs more than it brings, and results stay the same. Fixtures of
# modules run before any fixture of a test, so not in one.
torch.set_num_threads(1)

pytest.register_assert_rewrite("page_calls", "pages", "parity", "same_run")  # helpers that assert

# A run in which every part works, on networks so small that it takes seconds.
SMALL = {
    "total_env_steps": 200,
    "random_steps": 50,
    "epoch_steps": 50,
    "fit_every_steps": 50,
    "num_members": 3,
    "model_hidden": (16, 16),
    "rollout_rows": 400,
    "sac_hidden": (16, 16),
    "sac_batch_size": 32,
    "updates_per_step": 1,
    "eval_episodes": 2,
    "checkpoint_every_steps": 50,
    "device": "cpu",
}


# Few gradient steps show what many do, and a process that a test starts fits as shortly.
SHORT_FIT = {"LOOK_EVERY": 4, "PATIENCE_LOOKS": 1, "MAX_STEPS": 12}
_TRAIN = f"""
import sys
from rmbpo_fast import train
from rmbpo_fast.algo import world_model
vars(world_model).update({SHORT_FIT})
sys.exit(train.main())
"""


def train_process(run_dir: object, stdout: int, stderr: int, **settings: object):
    """A small run in a process of its own, on one thread."""
    arguments = flags(env="inverted_pendulum", **SMALL | settings, run_dir=run_dir)
    return subprocess.Popen(
        [sys.executable, "-c", _TRAIN, *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def flags(**values: object) -> list[str]:
    """Settings as command line flags."""
    words: list[str] = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


def read_metrics(run_dir, timed=False):
    with open(run_dir / "metrics.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    if timed:
        return rows
    # seconds and speeds differ between equal runs
    return [
        {k: v for k, v in row.items() if not k.startswith("time/") and k != "env/steps_per_s"}
        for row in rows
    ]


@pytest.fixture
def small() -> Config:
    from rmbpo_fast.presets import preset  # not above: it loads EnvPool (see tests/sanitize.sh)

    return preset("inverted_pendulum").replace(**SMALL)


@pytest.fixture
def small_flags() -> list[str]:
    return flags(env="inverted_pendulum", **SMALL)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(42)


@pytest.fixture(autouse=True)
def _nan_filled_memory():
    """Fresh memory holds NaN, so that code which forgets to write an element fails."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = before


@pytest.fixture(scope="module")
def model_fit() -> dict[str, int]:
    """Half of the time of a small run went into a model that nobody looks at."""
    return SHORT_FIT


@pytest.fixture(scope="module", autouse=True)
def short_fits(model_fit):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in model_fit.items():
            patch.setattr(world_model, name, value)
        for kind in (ResidualAdversary, PathwiseAdversary, PaperAdversary):
            patch.setattr(kind, "max_steps", 8)
        yield


@pytest.fixture(autouse=True)
def _backend_of_before():
    """A run inside a test chooses kernels; the next test must not have them."""
    before = backend.active()
    yield
    backend.use(*before)


@pytest.fixture(autouse=True)
def _one_thread():
    """What a test has set goes when it ends."""
    yield
    torch.set_num_threads(1)
