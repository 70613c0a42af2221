"""The documentation site: `python -m sphinx -W docs build/docs` in the root of the checkout."""

import contextlib
import importlib
import io
import os
import re
import shutil
import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.ext.autosummary import Autosummary
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # document the checkout's files

import rmbpo_fast

project = "rmbpo_fast"
author = copyright = "The rmbpo_fast developers"
version = release = rmbpo_fast.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "furo"
html_title = "rmbpo_fast"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_math_renderer = "mathml"
html_show_sphinx = False

# A name of ours that is no longer there fails the build; torch's and Python's aren't checked.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!rmbpo_fast).*"),
    ("py:class", r"rmbpo_fast\.kernels\.backend\.T"),  # a type variable
]

smartquotes = False  # s' is a state
highlight_language = "text"
default_role = "code"  # docstrings put code in single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_param = False  # "Args" may describe two arguments in one line
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs" / "api"  # a page for each module, written anew by every build


def modules_of(room: str) -> list[str]:
    """The modules of a folder of the package ("" is its top), without those of its folders.

    Of the kernels also each folder's reference, because that is where the equations are.
    """
    folder = ROOT / "kernels" if room == "kernels" else ROOT / "rmbpo_fast" / room
    package = ".".join(["rmbpo_fast", *filter(None, room.split("/"))])
    names = [f"{package}.{file.stem}" for file in folder.glob("[!_]*.py")]
    if room == "kernels":
        references = folder.glob("*/*/reference.py")
        parts = (file.relative_to(ROOT).with_suffix("").parts for file in references)
        names += [package, *(".".join(("rmbpo_fast", *part)) for part in parts)]
    return sorted(names)


def write_api_pages() -> None:
    """One for each module. A folder that docs/api.md doesn't name leaves pages without a link."""
    shutil.rmtree(API, ignore_errors=True)  # else the page of a module that is gone would stay
    API.mkdir()
    package = ROOT / "rmbpo_fast"
    rooms = {file.parent.relative_to(package).as_posix() for file in package.rglob("*.py")}
    for name in (name for room in {*rooms, "kernels"} for name in modules_of(room.strip("."))):
        title = name.removeprefix("rmbpo_fast.")
        page = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {name}\n   :members:\n"
        (API / f"{name}.rst").write_text(page)


class Modules(Autosummary):
    """`modules:: algo`: the modules of a folder, each with its docstring's first sentence."""

    required_arguments, optional_arguments = 0, 1
    has_content = False

    def run(self) -> list[nodes.Node]:
        names = modules_of(self.arguments[0] if self.arguments else "")
        self.content = StringList(names, source=self.env.docname)
        self.options["toctree"] = "api"
        return super().run()


class Help(SphinxDirective):
    """`{help} train --env hopper`: what a command says about its own options."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # no file that Sphinx watches says whether it has changed
        command, *words = self.arguments[0].split()
        main = importlib.import_module(f"rmbpo_fast.{command}").main
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*words, "--help"])
        if "usage:" not in text.getvalue():
            raise self.error(f"{command} printed no help")
        return [nodes.literal_block(text.getvalue(), text.getvalue(), language="text")]


def mathml(translator, node: nodes.math | nodes.math_block) -> None:
    """A formula as MathML, which browsers draw themselves; one that can't be read is a warning."""
    block = isinstance(node, nodes.math_block)
    try:
        formula = tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
    else:
        translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """The docstrings are plain text: `*` and `|` mean themselves, and an indented block is code."""
    found, code = [], None  # code: indentation of the paragraph that a block of code follows
    paragraph = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if code is not None and line.strip() and indent <= code:
            code = None
        if line.strip() in ("Args:", "Returns:", "Raises:") and found and found[-1].strip():
            found.append("")
        if code is None and line.strip():
            before = len(paragraph) - len(paragraph.lstrip())
            if found and not found[-1].strip() and paragraph.endswith(":") and indent > before:
                found[-1:] = ["", " " * before + "::", ""]
                code = before
            else:
                line = re.sub(r"(`[^`]*`)|([*|])", lambda m: m[1] or "\\" + m[2], line)
            paragraph = line.rstrip()
        found.append(line)
    if what in ("attribute", "property", "data"):
        # an empty comment first, else napoleon takes what is before a colon for a type
        found[:0] = ["..", ""]
    lines[:] = found


def link_within_the_site(app, path, docname, content: list[str]) -> None:
    """A link of an included file leads to the page that includes its target, else it is text."""

    def on_the_site(match: re.Match) -> str:
        label, name, heading = match.groups(default="")
        page = name.rpartition("/")[2].lower()
        known = "/" not in name and (Path(app.srcdir) / page).is_file()
        return f"[{label}]({page}{heading})" if known else label

    content[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^):#]+\.md)(#[^)]*)?\)", on_the_site, content[0])


def is_plain_field(app, what, name, obj, skip, options) -> bool | None:
    """A named tuple's fields are described in its docstring."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def setup(app) -> None:
    write_api_pages()
    os.environ["COLUMNS"] = "80"  # of the help texts
    app.add_directive("help", Help)
    app.add_directive("modules", Modules)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    app.connect("include-read", link_within_the_site)
    app.connect("autodoc-skip-member", is_plain_field)
    app.connect("autodoc-process-docstring", plain_docstring, priority=1)  # before napoleon
