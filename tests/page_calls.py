"""Making the calls that the documentation's pages show, in this process and for a moment each.

Small settings are added to a call, or it stands in `LISTED` with the reason why it isn't made. Of
calls that do the same (`what_it_does`) one is made; of the others the flags are read.
"""

import importlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import SMALL, flags
from pages import Block
from rmbpo_fast import analyze, evaluate, report, sweep, train
from rmbpo_fast.errors import RmbpoError
from rmbpo_fast.kernels import backend
from rmbpo_fast.policy import Policy, epoch_files
from rmbpo_fast.run.cli import parse
from rmbpo_fast.study import average, imagine_on, summary, video
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.study.sweep import session as sweep_session
from rmbpo_fast.worlds import grids

ROOT = Path(__file__).resolve().parents[1]

# One fit, some updates, one epoch: the last of two equal flags counts.
TINY = {
    **SMALL,
    "total_env_steps": 24,
    "random_steps": 20,
    "epoch_steps": 12,
    "eval_episodes": 1,
    "keep_policies": 1,
    "adversary_from_epoch": 0,
    "threads": 1,
}
BUILD = ["-m", "sphinx", "-W", "docs", "build/docs"]

HOURS = "hours; test_a_results_script_..."
# What can't be run here, how its call begins, and what it needs of the repository.
LISTED = {
    "python -m venv .venv": "makes an environment",
    "pip install --no-build-isolation --no-deps .": "tests/house/test_package.py builds the wheel",
    "python -m pytest -m slow": "minutes; .ci/run runs it",
    "ruff format .": "tests/house/test_static.py",
    "ruff check .": "tests/house/test_static.py",
    "sh tests/sanitize.sh": "minutes of compiling; .ci/run runs it",
    "python tests/run/test_golden.py": "rewrites tests/run/golden.json",
    "python examples/": "tests/house/test_examples.py",
    "sh results/inverted_pendulum.sh": HOURS,
    "sh results/inverted_pendulum_options.sh": HOURS,
    "sh results/hopper.sh": HOURS,
    "python bench/gpu_model.py": "counts launches for some ten seconds; no test depends on it",
    "python -m rmbpo_fast.kernels.report": "minutes; tests/kernels/test_report.py",
    "python " + " ".join(BUILD): "test_site_builds_without_a_warning_...",
}


def run_train(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    if "--resume" in words:
        return train.main([*words, "--total-env-steps", "26"])
    # two runs of one second must not meet in one folder
    with monkeypatch.context() as patch:
        new = here / f"start-{len(list(here.glob('start-*')))}"
        new.mkdir()
        patch.chdir(new)
        status = train.main([*words, *flags(**TINY)])
        assert len(list(new.glob("runs/*/*/*/policy.safetensors"))) == 1
    return status


def plan_sweep(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Flags and plan are right. tests/study/test_sweep.py starts Ray, which takes its time."""
    with monkeypatch.context() as patch:
        patch.setattr(sweep_session, "_train", lambda arguments, views: None)
        return sweep.main([*words, "--dry-run"])


_parse_axis, _record = grids.parse_axis, video.record


def _both_ends(text: str) -> grids.Axis:
    """A range as it was typed, but for the values between its ends."""
    axis = _parse_axis(text)
    return grids.Axis(axis.name, tuple(dict.fromkeys((axis.values[0], axis.values[-1]))))


def _few_frames(*arguments: Any) -> video.Take:
    """The beginning of an episode, each step half a second: without a GPU a frame takes long."""
    take = _record(*arguments)
    return replace(take, positions=take.positions[:2], returns=take.returns[:2], step_s=0.5)


def run_evaluate(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(grids, "parse_axis", _both_ends)
        patch.setattr(video, "record", _few_frames)
        return evaluate.main([*words, "--episodes", "1"])


def run_analyze(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    return analyze.main([*words, "--episodes", "1"])


def run_report(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    status = report.main(words)
    assert list(here.glob("**/*.html"))
    return status


def run_average(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    return average.main(words)


def run_summary(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    return summary.main(words)


def imagine_one_round(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    status = imagine_on.main([*words, "--rounds", "1"])
    out = here / words[words.index("--out") + 1]
    assert Policy.load(out).digest == Policy.load(*epoch_files(out)).digest
    return status


def check_pip(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The extra exists, and so does the switch. tests/house/test_package.py builds the wheels."""
    words = [w for w in words if w not in ("--no-build-isolation", "--no-deps")]
    if words[1:] == ["-C", "wheel.cmake=false"]:
        words = words[:1]
    (what,) = words
    extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
    assert extra, what
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.search(r"^\[project.optional-dependencies\]$(.*?)^\[", project, re.M | re.S)
    assert extra[1] in (None, *re.findall(r"^(\w+) = \[", extras[1], re.M)), what
    return 0


def check_pytest(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Paths and flags are right: the tests are found. A page's own file is run."""
    if not words:
        return 0  # that is how this test is run
    own = [w for w in words if (here / w).is_file()]
    with monkeypatch.context() as patch:
        patch.delenv("PYTEST_XDIST_WORKER", raising=False)  # this one's, if it's a worker
        if not own:
            patch.chdir(ROOT)
            return pytest.main([*words, "--collect-only", "-q", "-n0", "-p", "no:cacheprovider"])
        for name in ("bench/conftest.py", "pyproject.toml"):
            (here / name).write_text((ROOT / name).read_text())
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, "-p", "no:cacheprovider"],
            cwd=here,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return 0


TRAIN = ("python", "-m", "rmbpo_fast.train")
HANDLERS = {
    TRAIN: run_train,
    ("python", "-m", "rmbpo_fast.sweep"): plan_sweep,
    ("python", "-m", "rmbpo_fast.evaluate"): run_evaluate,
    ("python", "-m", "rmbpo_fast.analyze"): run_analyze,
    ("python", "-m", "rmbpo_fast.report"): run_report,
    ("python", "-m", "rmbpo_fast.study.average"): run_average,
    ("python", "-m", "rmbpo_fast.study.imagine_on"): imagine_one_round,
    ("python", "-m", "rmbpo_fast.study.summary"): run_summary,
    ("python", "-m", "pip", "install"): check_pip,
    ("python", "-m", "pytest"): check_pytest,
}


def _trains_anew(words: list[str]) -> bool:
    return tuple(words[:3]) == TRAIN and not {"--resume", "--help"} & set(words)


def what_it_does(words: list[str]) -> tuple[object, ...]:
    """Equal for calls that do the same: a training run's seed and length make no difference.

    Task, algorithm and settings do (`group_of`), and what the run computes with.
    """
    if not _trains_anew(words):
        return tuple(words)
    try:
        config = parse(words[3:])
    except (SystemExit, RmbpoError):  # a page's own task, or wrong: its test says so
        return tuple(words)
    run = config.run
    return config.task.env, group_of(config), run.compile, run.kernels, run.precision


def make_call(
    words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch, again: bool = False
) -> None:
    """Runs a command of a page as far as it can be run.

    Args:
        again: what it does is run elsewhere; only a training run's flags are read.
    """
    shown = " ".join(words)
    for beginning in LISTED:
        if shown == beginning or shown.startswith(
            beginning if beginning[-1] == "/" else beginning + " "
        ):
            needed = [w for w in words if (w.endswith((".py", ".sh")))]
            assert all((ROOT / w).is_file() for w in needed), shown
            return
    for beginning, handler in HANDLERS.items():
        if tuple(words[: len(beginning)]) == beginning:
            backend.use("reference")  # a new process would begin with it
            torch.set_num_threads(1)
            if again:
                if _trains_anew(words):
                    parse(words[3:])
                return
            try:
                status = handler(words[len(beginning) :], here, monkeypatch)
            except SystemExit as stopped:  # tyro's, of --help or for a wrong flag
                status = stopped.code
            assert status == 0, f"{shown}: status {status}"
            return
    raise AssertionError(f"{shown}: no test knows this command; tests/page_calls.py must")


def put_file(block: Block, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with a caption: a new file, more of a module, or entries of one of its tables."""
    file, _, table = block.caption.partition(", in ")
    if not (ROOT / file).is_file():
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(block.text)
        return
    module = importlib.import_module(".".join(Path(file).with_suffix("").parts))
    scope = dict(vars(module))
    if table:
        new = eval("{" + block.text + "}", scope)
        monkeypatch.setattr(module, table, {**getattr(module, table), **new})
        return
    exec(block.text, scope)
    for name in scope.keys() - vars(module).keys():
        monkeypatch.setattr(module, name, scope[name], raising=False)
