"""The dependency rule: rooms in the order in which the data flow, imports only downwards."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "rmbpo_fast"
# Rooms from the ground up, floors in each: a file imports only from floors below its own.
HOUSE = {
    "": ["errors seeding", "config storage"],
    "worlds": [
        "transition",
        "physics termination",
        "distorted tasks",
        "distortion grids vector_env",
        "definition dimensions envs randomized_env",
        "episodes",
    ],
    "presets": ["presets"],
    "algo": [
        "correlation early_stop nets optim",
        "replay",
        "learned_termination learner world_model",
        "game sac",
        "effect",
        "adversary",
        "adversary_fit rollout",
        "gaussian_adversary",
    ],
    "policy": ["policy"],
    "run": [
        "graph journal metrics stop",
        "checkpoint display validation",
        "config_file",
        "agent cli",
        "state",
        "dataset files loop",
        "accelerate",
        "session",
    ],
    "study": [
        "groups metrics_csv",
        "figures subjects",
        "analysis average report_figures robustness video",
        "analysis_report evaluation imagine_on report summary",
    ],
    "study.sweep": ["plan trial", "results workers", "table", "session"],
    "commands": ["__main__ analyze evaluate report sweep train"],
}
OPERATIONS = sorted(
    f"{path.parent.name}/{path.name}"
    for room in ("ops", "steps")
    for path in (ROOT / "kernels" / room).iterdir()
    if (path / "op.py").is_file()
)
TESTED_BY = {
    "cpu.py": "test_native*.py",
    "native.py": "test_native*.py",
    "gpu.py": "test_triton.py",
}
COMPARES = re.compile(r"\b_?(compare|assert_near_truth|assert_same_gradients)\(")
IN_NO_FOLDER = {"", "presets", "policy", "commands"}
FLOORS = [
    {name if room in IN_NO_FOLDER else f"{room}.{name}" for name in floor.split()}
    for room, floors in HOUSE.items()
    for floor in floors
]
FLOOR = {name: i for i, names in enumerate(FLOORS) for name in names}


def _imports(path):
    """Every module that a file imports, names in a `from` included: they may be modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def _modules():
    files = (path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__init__")
    return {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in files}


@pytest.mark.parametrize("name", _modules())
def test_imports_go_down(name):
    assert name in FLOOR, f"give {name} a floor"
    for found in _imports(_modules()[name]):
        other = found.removeprefix("rmbpo_fast.")
        if other != found and other in FLOOR:
            assert FLOOR[other] < FLOOR[name], f"{name} imports {other}"


def test_every_place_on_a_floor_is_a_file():
    assert set(FLOOR) == set(_modules())


def test_files_have_a_readable_size():
    """The algorithm reads like the paper only as long as a file is one thought."""
    for name, path in _modules().items():
        assert len(path.read_text().splitlines()) <= 350, name


def test_which_backend_runs_is_asked_in_the_kernels_alone():
    for name, path in _modules().items():
        assert "active()" not in path.read_text(), name


def _parity_tests(files):
    """Names of the tests in tests/kernels that compare with a reference."""
    for path in (ROOT / "tests" / "kernels").glob(files):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and COMPARES.search(ast.unparse(node)):
                yield node.name


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_its_reference_and_its_parity_tests(name):
    """One for each file that does the same in another way."""
    folder = ROOT / "kernels" / name
    assert (folder / "reference.py").is_file()
    backends = [file for file in TESTED_BY if (folder / file).is_file()]
    assert backends, "no other implementation"
    for file in backends:
        found = [t for t in _parity_tests(TESTED_BY[file]) if t.startswith(f"test_{folder.name}")]
        assert found, f"{file}: no test_{folder.name} in {TESTED_BY[file]}"


def test_kernels_know_nothing_of_the_algorithm():
    for path in (ROOT / "kernels").rglob("*.py"):
        for name in _imports(path):
            assert not name.startswith(("rmbpo_fast", "numpy", "envpool", "gymnasium")), path


def test_numbers_leave_the_device_in_few_places():
    """`.item()` waits for the device; the learning files must not."""
    for path in (PACKAGE / "algo").glob("*.py"):
        for word in (".item()", ".cpu()", ".numpy()"):
            assert word not in path.read_text(), f"{path.name}: {word}"


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
