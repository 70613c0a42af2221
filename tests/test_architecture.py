"""The dependency rule: a file imports only from files above it in this list of levels."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LEVELS = [
    {"errors", "types", "seeding", "correlation"},
    {
        "graph",
        "config",
        "storage",
        "metrics",
        "journal",
        "replay",
        "nets",
        "optim",
        "losses",
        "termination",
    },
    {
        "validation",
        "checkpoint",
        "display",
        "learned_termination",
        "world_model",
        "sac",
        "presets",
        "policy",
    },
    {"config_file", "game", "groups"},
    {"effect", "rollout", "tasks"},
    {"adversary"},
    {"adversary_fit"},
    {"vector_env", "distortion", "grids"},
    {"envs", "dimensions", "randomized_env"},
    {"episodes", "agent", "figures"},
    {"run_files", "loop", "subjects", "analysis", "dataset"},
    {"accelerate", "cli", "video", "report_figures", "robustness"},
    {"train", "evaluate", "analyze", "report", "trial", "sweep_plan"},
    {"sweep_workers", "sweep_results"},
    {"sweep_table"},
    {"sweep"},
]
LEVEL = {name: i for i, names in enumerate(LEVELS) for name in names}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _modules():
    return [p for p in sorted((ROOT / "rmbpo_fast").glob("*.py")) if p.stem != "__init__"]


@pytest.mark.parametrize("path", _modules(), ids=lambda p: p.stem)
def test_imports_go_one_way(path):
    assert path.stem in LEVEL, f"give {path.name} a level"
    for name in _imports(path):
        if name.startswith("rmbpo_fast.") and not name.startswith("rmbpo_fast.kernels"):
            assert LEVEL[name.split(".")[1]] < LEVEL[path.stem], f"{path.name} imports {name}"


def test_every_level_entry_is_a_file():
    assert set(LEVEL) == {p.stem for p in _modules()}


def test_kernels_know_nothing_of_the_algorithm():
    for path in (ROOT / "kernels").rglob("*.py"):
        for name in _imports(path):
            assert not name.startswith(("rmbpo_fast", "numpy", "envpool", "gymnasium")), path


def test_numbers_leave_the_device_in_few_places():
    """`.item()` waits for the device; the learning files must not."""
    learning = ("rollout", "sac", "adversary", "effect", "world_model", "replay", "losses", "nets")
    for name in learning:
        text = (ROOT / "rmbpo_fast" / f"{name}.py").read_text()
        for word in (".item()", ".cpu()", ".numpy()"):
            assert word not in text, f"{name}.py: {word}"


def test_native_kernels_tests_load_no_environment():
    """tests/sanitize.sh runs them, and a sanitizer ends the process at EnvPool's own libraries."""
    files = sorted(map(str, (ROOT / "tests" / "kernels").glob("test_native*.py")))
    code = (
        "import sys, pytest\n"
        "status = pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', *sys.argv[1:]])\n"
        "print('loaded:', 'envpool' in sys.modules)\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *files], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("loaded: False\n"), "the tests load EnvPool"
