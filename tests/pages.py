"""What the documentation's pages tell people to type, and what bash makes of it."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block, or a command in a line of text: what it is, a caption, where, its text."""

    kind: str
    caption: str
    line: int
    text: str


FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=ticks)$", re.M | re.S)
_INLINE = re.compile(r"`((?:\w+=\S+ )?(?:python|pip|ruff|sh) [^`]+)`")
_NO_COMMANDS = ("text", "{toctree}", "{eval-rst}", "{include}", "{literalinclude}", "{help}")


def blocks(page: Path) -> list[Block]:
    """Everything on a page that someone may type, from top to bottom."""
    source = page.read_text()
    found, prose = [], source
    for match in FENCE.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        kind, text, caption = match["info"].strip(), match["text"], ""
        if kind == "{code-block} python":
            option = re.match(r":caption: (.+)\n", text)
            assert option, f"{page.name}:{line}: expected a :caption: that says where this goes"
            kind, caption, text = "file", option[1], text[option.end() :]
        if not kind.startswith(_NO_COMMANDS):
            assert kind in ("sh", "python", "file"), f"{page.name}:{line}: {kind!r}, expected sh"
            found.append(Block(kind, caption, line, text))
        prose = prose.replace(match[0], "\n" * match[0].count("\n"), 1)
    for match in _INLINE.finditer(prose):
        line = prose.count("\n", 0, match.start()) + 1
        found.append(Block("sh", "", line, match[1]))
    return sorted(found, key=lambda block: block.line)


_NOTE = """#!/bin/sh
printf '%s\\037' "${0##*/}" "$@" >> "$CALLS"
printf '\\036' >> "$CALLS"
"""


def write_stand_ins(folder: Path) -> None:
    """Programs that only write down their arguments, for a PATH that holds no other."""
    for name in ("python", "pip", "ruff", "sh"):
        (folder / name).write_text(_NOTE)
        (folder / name).chmod(0o755)


def calls_of(text: str, stand_ins: Path, cwd: Path) -> list[list[str]]:
    """What bash calls when it runs `text`."""
    noted = cwd / "calls"
    noted.write_text("")
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", text],
        cwd=cwd,
        env={"PATH": str(stand_ins), "CALLS": str(noted)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [call.split("\037")[:-1] for call in noted.read_text().split("\036")[:-1]]
