"""Installing: what the wheel holds, with and without a compiler, and mixed versions."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import rmbpo_fast
from rmbpo_fast.kernels import backend

ROOT = Path(__file__).resolve().parents[2]


def _python(code, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
    )


def _check_contents(names, native):
    """kernels/ lies inside the package; the library is at the top, or left out by the switch."""
    assert "rmbpo_fast/kernels/ops/gaussian_kl/reference.py" in names
    assert "rmbpo_fast/py.typed" in names
    assert any(n.startswith("_rmbpo_fast_native.") for n in names) == native
    tops = {n.split("/")[0].split(".")[0] for n in names}
    assert tops <= {"rmbpo_fast", "_rmbpo_fast_native", "rmbpo_fast-0"}


def test_wheel_that_was_installed():
    """What pip unpacked and noted of it: building another one would compile for minutes."""
    try:
        installed = importlib.metadata.distribution("rmbpo_fast")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("rmbpo_fast isn't installed: it's imported from the checkout")
    native = backend.native is not None
    if native and installed.locate_file(Path(backend.native.__file__).name) != Path(
        backend.native.__file__
    ):
        pytest.skip("the native library that is tested is not the installed one")
    # the command's script lies outside
    files = [str(file) for file in installed.files if not str(file).startswith("..")]
    _check_contents(files, native)
    assert installed.entry_points.select(name="rmbpo-fast")
    assert ("Tag: py3-none-any" in installed.read_text("WHEEL")) != native


def test_wheel_without_the_native_library(tmp_path):
    switch = ["-C", "wheel.cmake=false"]
    command = ["pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", *command, *switch], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    _check_contents(names, native=False)
    ours = {str(file.relative_to(ROOT)) for file in (ROOT / "rmbpo_fast").rglob("*.py")}
    ours |= {f"rmbpo_fast/{file.relative_to(ROOT)}" for file in (ROOT / "kernels").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == ours
    assert wheel.name.endswith("py3-none-any.whl")


def test_source_tree_finds_kernels_beside_itself():
    done = _python("import rmbpo_fast.kernels as k; print(k.__file__)")
    assert done.stdout.strip() == str(ROOT / "kernels" / "__init__.py"), done.stderr


def test_another_librarys_version_is_refused():
    done = _python(
        "import sys, types, importlib.machinery as machinery\n"
        "other = types.ModuleType('_rmbpo_fast_native')\n"
        "other.__spec__ = machinery.ModuleSpec('_rmbpo_fast_native', None)\n"
        "other.__version__ = '0.0.0'\n"
        "sys.modules['_rmbpo_fast_native'] = other\n"
        "import rmbpo_fast"
    )
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"is version 0.0.0, the Python source {rmbpo_fast.__version__}" in last


def test_runs_without_the_native_library():
    done = _python(
        "import sys; sys.modules['_rmbpo_fast_native'] = None\n"
        "import torch; from rmbpo_fast.kernels.backend import choose_backend\n"
        "print(choose_backend('auto', torch.device('cpu')))"
    )
    assert "'native': 'not installed'" in done.stdout, done.stderr


@pytest.mark.skipif(backend.native is None, reason="installed without the native library")
def test_native_library_tells_the_instruction_set():
    isa = backend.native.cpu_isa()
    flags = Path("/proc/cpuinfo").read_text().split()
    assert isa in ("avx512bf16", "avx512", "avx2", "generic")
    assert (isa in ("avx512bf16", "avx512")) == ("avx512f" in flags)
    assert (isa == "avx512bf16") == ("avx512_bf16" in flags)
    assert (isa == "generic") == ("avx2" not in flags)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"expected one of .*found 'warp'"):
        backend.choose_backend("warp", torch.device("cpu"))
