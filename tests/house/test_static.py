"""Lint, format and types, by the tools that pyproject.toml configures."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*command, cwd=ROOT):
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")])
def test_ruff(command):
    _run(*command, ".")


@pytest.mark.slow
def test_types(tmp_path):
    """mypy reads the tree as it is installed, with kernels/ inside the package."""
    shutil.copytree(ROOT / "rmbpo_fast", tmp_path / "rmbpo_fast")
    shutil.copytree(ROOT / "kernels", tmp_path / "rmbpo_fast" / "kernels")
    _run("mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "rmbpo_fast", cwd=tmp_path)
