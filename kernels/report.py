"""What the compiler makes of each Triton kernel: `python -m rmbpo_fast.kernels.report`.

Compiles every tuned configuration for sm_80, sm_90 and sm_100, which needs no GPU, and prints
shared memory, registers, stack, matrix instructions and the width of loads; `problems` says what
is wrong with one.
"""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console
from rich.table import Table

from .aot import (
    ARCHITECTURES,
    SHARED_LIMIT,
    SMALLEST_SHARED,
    AotCase,
    Compiled,
    compile_case,
)
from .backend import OPS, interpreting


def cases() -> list[AotCase]:
    """Every tuned configuration of every kernel."""
    modules = [importlib.import_module(f".ops.{op}.gpu", __package__) for op in OPS]
    return [case for module in modules for case in module.aot_cases()]


def problems(case: AotCase, architecture: int, made: Compiled) -> Iterator[str]:
    """Why this machine code must not ship: each as a line."""
    limit = SHARED_LIMIT[architecture]
    if made.shared > limit:
        yield f"{made.shared} bytes of shared memory, at most {limit} exist"
    if made.shared > SMALLEST_SHARED:
        smallest = f"sm_86's and sm_89's {SMALLEST_SHARED}"
        yield f"{made.shared} bytes of shared memory don't fit {smallest}"
    if made.stack or made.count("LDL") or made.count("STL"):
        local = made.count("LDL") + made.count("STL")
        yield f"spills: a stack of {made.stack} bytes, {local} accesses to local memory"
    meant = case.matrix.get(architecture)
    if meant and not made.count(meant):
        yield f"no {meant} instruction"
    wide, narrow = made.operand_loads()
    if case.wide_loads and wide < 4 * narrow:  # a small tile of activations may be narrow
        yield f"operands take {wide} loads of 16 bytes and {narrow} narrower ones"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table. Returns 1 where something is wrong, 2 where nothing can be compiled."""
    prog = "python -m rmbpo_fast.kernels.report"
    argparse.ArgumentParser(prog=prog, description=__doc__).parse_args(argv)
    if interpreting():
        print("error: TRITON_INTERPRET=1 is set; unset it to compile", file=sys.stderr)
        return 2
    table = Table(title="Triton kernels, compiled ahead of time")
    for heading in ("configuration", "sm", "shared KiB", "registers", "stack", "matrix", "loads"):
        table.add_column(heading, justify="left" if heading == "configuration" else "right")
    jobs = [(case, architecture) for case in cases() for architecture in ARCHITECTURES]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda job: compile_case(*job), jobs))
    wrong = []
    for (case, architecture), made in zip(jobs, results, strict=True):
        matrix = ", ".join(
            f"{made.count(n)} {n}" for n in ("HGMMA", "HMMA", "UTC") if made.count(n)
        )
        table.add_row(
            case.name,
            str(architecture),
            f"{made.shared / 1024:.0f}",
            str(made.registers),
            str(made.stack),
            matrix or "-",
            "{} wide, {} narrow".format(*made.operand_loads()),
        )
        wrong += [
            f"{case.name}, sm_{architecture}: {p}" for p in problems(case, architecture, made)
        ]
    Console().print(table)
    for line in wrong:
        print(f"wrong: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
