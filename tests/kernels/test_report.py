"""The compiled kernels, without a GPU: what the table says, and that it can say no."""

import os
import subprocess
import sys
from collections import Counter

import pytest

pytest.importorskip("triton")
from rmbpo_fast.kernels.aot import ARCHITECTURES, AotCase, Compiled
from rmbpo_fast.kernels.report import cases, main, problems

DEFAULT = 90  # compiled by every run of the tests; the others are slow together
CLEAN = Compiled(50_000, 200, 0, Counter({"HMMA.1688.F32.TF32": 9, "LDGSTS.E.BYPASS.128": 30}))
CASE = AotCase("case", None, {}, 4, dict.fromkeys(ARCHITECTURES, "HMMA"), wide_loads=True)


@pytest.mark.parametrize(
    "architecture",
    [a if a == DEFAULT else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES],
)
def test_every_kernel_compiles_for_every_architecture_and_nothing_is_wrong(architecture):
    """In a process of its own, because here the interpreter may have taken the kernels' place."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    code = (
        "import sys\n"
        "from rmbpo_fast.kernels import report\n"
        f"report.ARCHITECTURES = ({architecture},)\n"
        "sys.exit(report.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment | {"COLUMNS": "160"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(rows) == len(cases())
    assert all(line.split("│")[2].strip() == str(architecture) for line in rows)
    assert ("HGMMA" in done.stdout) == (architecture == 90)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shared": 300_000}, "at most 232448 exist"),
        ({"shared": 120_000}, "don't fit sm_86's and sm_89's 101376"),
        ({"stack": 16}, "a stack of 16 bytes"),
        ({"instructions": CLEAN.instructions + Counter({"LDL.LU": 2})}, "2 accesses to local"),
        ({"instructions": Counter({"LDGSTS.E.BYPASS.128": 30})}, "no HMMA"),
        ({"instructions": CLEAN.instructions + Counter({"LDGSTS.E": 20})}, "20 narrower ones"),
    ],
)
def test_what_must_not_ship_is_named(change, words):
    assert list(problems(CASE, 90, CLEAN)) == []
    found = list(problems(CASE, 90, CLEAN._replace(**change)))
    assert any(words in line for line in found), found


def test_the_report_refuses_to_interpret(monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert main([]) == 2
    assert "unset it" in capsys.readouterr().err


def test_its_help_compiles_nothing(monkeypatch, capsys):
    monkeypatch.setattr("rmbpo_fast.kernels.report.compile_case", None)
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "What the compiler makes of each Triton kernel" in capsys.readouterr().out
