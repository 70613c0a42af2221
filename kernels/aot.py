"""Ahead-of-time compilation of the Triton kernels, which needs no GPU, and what came of it."""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# a block's shared memory, bytes; sm_86 and sm_89 run sm_80's code with the smallest of all
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
SMALLEST_SHARED = 99 * 1024
ARCHITECTURES = (80, 90, 100)


def rows_of_block(columns: int) -> int:
    """Rows of an element-wise kernel's block: 1,024 numbers, eight for each of 128 threads."""
    return max(1, 1024 // triton.next_power_of_2(columns))


class Const(NamedTuple):
    """A compile-time argument."""

    value: Any


class AotCase(NamedTuple):
    """One configuration of one kernel.

    Attributes:
        name: of the configuration.
        kernel: the `triton.jit` function.
        arguments: per parameter a type such as "*fp32" or "i32" (":16" where it is a multiple of
            16; pointers are), a tuple of types, or a `Const`.
        num_warps: warps per program.
        matrix: the matrix instruction meant, per architecture; {} where there is no product.
        wide_loads: whether its operands are meant to be read 16 bytes at a time.
    """

    name: str
    kernel: Any
    arguments: dict[str, Any]
    num_warps: int
    matrix: dict[int, str] = {}  # noqa: RUF012
    wide_loads: bool = False


def predicted_cases(name: str, kernel: Any, pointers: Iterable[str]) -> list[AotCase]:
    """An element-wise kernel over D predicted numbers: Hopper's twelve, and Humanoid's 46."""
    return [
        AotCase(
            f"{name}, {size} numbers",
            kernel,
            {
                **dict.fromkeys(pointers, "*fp32"),
                "rows": "i32",
                "D": Const(size),
                "BLOCK_B": Const(rows_of_block(size)),
                "BLOCK_D": Const(triton.next_power_of_2(size)),
            },
            4,
        )
        for size in (12, 46)
    ]


class Compiled(NamedTuple):
    """What the compiler made of a case.

    Attributes:
        shared: bytes per block. registers: per thread. stack: bytes per thread, 0 without spills.
        instructions: how often each SASS instruction of interest occurs.
    """

    shared: int
    registers: int
    stack: int
    instructions: Counter[str]

    def count(self, prefix: str) -> int:
        """How many instructions begin with `prefix`."""
        return sum(n for name, n in self.instructions.items() if name.startswith(prefix))

    def operand_loads(self) -> tuple[int, int]:
        """Loads of 16 bytes and narrower ones, of what goes to shared memory.

        Operands travel asynchronously (LDGSTS) where the kernel pipelines them. Elsewhere all
        loads count, those of biases too.
        """
        kind = "LDGSTS." if self.count("LDGSTS.") else "LDG."
        wide = sum(
            n for k, n in self.instructions.items() if k.startswith(kind) and k[-4:] == ".128"
        )
        return wide, self.count(kind) - wide


def compile_case(case: AotCase, architecture: int) -> Compiled:
    """Compiles down to machine code for sm_<architecture> and reads it."""
    signature: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int, ...], list[list[Any]]] = {}

    def declare(kind: str, path: tuple[int, ...]) -> str:
        if kind.startswith("*") or kind.endswith(":16"):
            attributes[path] = [["tt.divisibility", 16]]
        return kind.removesuffix(":16")

    for place, (name, kind) in enumerate(case.arguments.items()):
        if isinstance(kind, Const):
            signature[name], constants[name] = "constexpr", kind.value
        elif isinstance(kind, tuple):
            signature[name] = tuple(declare(k, (place, i)) for i, k in enumerate(kind))
        else:
            signature[name] = declare(kind, (place,))
    source = ASTSource(fn=case.kernel, signature=signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", architecture, 32)
    built = triton.compile(source, target=target, options={"num_warps": case.num_warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(built.asm["cubin"])
        cubin.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", cubin.name)
        sass = _tool("nvdisasm", cubin.name)
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage)[0]
    found = re.findall(r"\b((?:HGMMA|HMMA|UTC\w*MMA|LDG|LDGSTS|LDL|STL)\S*)", sass)
    return Compiled(built.metadata.shared, int(registers), int(stack), Counter(found))


def _tool(name: str, *arguments: str) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=True).stdout
