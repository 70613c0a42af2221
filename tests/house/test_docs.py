"""The documentation: its site builds without a warning, and what it tells people to type works.

Every `sh` block and every inline command of the pages goes through bash, so quotes, loops and `&&`
are bash's; the programs there are stand-ins that write down how they were called. Then each call is
made as `page_calls` does it.
"""

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from conftest import flags
from page_calls import BUILD, ROOT, TINY, make_call, put_file, what_it_does
from pages import FENCE, blocks, calls_of, write_stand_ins
from rmbpo_fast import sweep, train
from rmbpo_fast.config import Config
from rmbpo_fast.kernels import backend
from rmbpo_fast.run.cli import parse
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.study.summary import by_group, read_runs

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "results").glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
MEASURED = sorted((ROOT / "bench").glob("*.md"))
RUN = Path("runs/hopper/rmbpo/0-20260101-120000")  # that the pages name

MBPO_AND_RMBPO = ("mbpo/mbpo-seed-0", "rmbpo/rmbpo-seed-0")
OPTIONS = "inverted_pendulum_options"
SWEEP = "rmbpo_fast.sweep"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """A folder of programs that only write down their arguments."""
    folder = tmp_path_factory.mktemp("bin")
    write_stand_ins(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The runs that the pages and the scripts speak of, trained for a moment."""
    folder = tmp_path_factory.mktemp("runs")
    for env, algo in itertools.product(("hopper", "inverted_pendulum"), ("rmbpo", "mbpo")):
        run_dir = folder / "runs" / env / algo / RUN.name
        settings = flags(env=env, algo=algo, **TINY, run_dir=run_dir)
        assert train.main(settings) == 0
    return folder / "runs"


def lay_out(here: Path) -> None:
    """What the pages' commands find beside them."""
    (here / ".venv" / "bin").mkdir(parents=True)
    (here / ".venv" / "bin" / "activate").write_text("")
    (here / "my_rules.py").write_text(
        "from rmbpo_fast.worlds.termination import never as swimmer\n"
    )


def new_modules(page: Path) -> set[str]:
    """Files that a page has people write; "rmbpo_fast" if it has them change one of ours."""
    return {Path(b.caption).parts[0].removesuffix(".py") for b in blocks(page) if b.kind == "file"}


@pytest.fixture(scope="module")
def first_calls(stand_ins, tmp_path_factory) -> set[tuple[Path, int, int]]:
    """Page, line and place among the line's calls of the first of all that do the same.

    Every worker that shares the pages finds the same ones. A page that changes the package or
    writes the module that a call names makes that call itself.
    """
    here = tmp_path_factory.mktemp("first_calls")
    lay_out(here)
    first: dict[tuple[object, ...], tuple[Path, int, int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.syspath_prepend(here)
        for page in PAGES:
            new = new_modules(page)
            for block in blocks(page):
                calls = calls_of(block.text, stand_ins, here) if block.kind == "sh" else []
                for i, words in enumerate(calls):
                    own = "rmbpo_fast" in new or any(name in " ".join(words) for name in new)
                    does = (page, *words) if own else what_it_does(words)
                    first.setdefault(does, (page, block.line, i))
    sys.modules.pop("my_rules", None)
    return set(first.values())


def config_of(words: list[str]) -> Config:
    """The settings that a sweep with one setting hands to its runs."""
    flags_of_sweep = words[words.index(SWEEP) + 1 :]
    own, of_train = tyro.cli(sweep.Arguments, args=flags_of_sweep, return_unknown_args=True)
    return parse([*of_train, *(word for eta in own.eta for word in ("--eta", str(eta)))])


@pytest.mark.skipif(backend.native is None, reason="the pages use the native library")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_to_type_works(page, runs, first_calls, stand_ins, tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(runs)
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("my_rules", None)
    scope = {"obs": [0.0] * 11}
    for block in blocks(page):
        try:
            if block.kind == "file":
                put_file(block, tmp_path, monkeypatch)
            elif block.kind == "python":
                backend.use("reference")
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), scope)
            else:
                for i, words in enumerate(calls_of(block.text, stand_ins, tmp_path)):
                    again = (page, block.line, i) not in first_calls
                    make_call(words, tmp_path, monkeypatch, again)
        except Exception as error:
            raise AssertionError(f"{page.name}:{block.line}: {error}") from error


def test_a_command_that_no_test_knows_fails(tmp_path, stand_ins, monkeypatch):
    with pytest.raises(AssertionError, match="no test knows this command"):
        make_call(["python", "-m", "rmbpo_fast.fly"], tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="status 2"):
        make_call(["python", "-m", "rmbpo_fast.train", "--etta", "1"], tmp_path, monkeypatch)
    with pytest.raises(AssertionError, match="curl: command not found"):
        calls_of("curl example", stand_ins, tmp_path)


@pytest.mark.parametrize(
    ("script", "name", "planned", "copies", "axis"),
    [
        ("inverted_pendulum", "", 4, ("mbpo/mbpo-seed-0", "rmbpo/eta-0.05-seed-0"), "pole_mass"),
        (OPTIONS, "inverted_pendulum_three_updates", 2, MBPO_AND_RMBPO, "pole_mass"),
        ("hopper", "", 2, MBPO_AND_RMBPO, "torso_mass"),
    ],
)
def test_a_results_script_makes_its_pictures(
    script, name, planned, copies, axis, runs, tmp_path, stand_ins, monkeypatch
):
    """results/<script>.sh: sweeps up to their plan, the rest with two runs of a moment."""
    monkeypatch.chdir(tmp_path)
    text = f"set -- {name}\n" + (ROOT / "results" / f"{script}.sh").read_text()
    calls = calls_of(text, stand_ins, tmp_path)
    sweeps = [words for words in calls if SWEEP in words]
    assert len(sweeps) == planned
    kept = by_group(read_runs(ROOT / "results" / name)) if name else {}
    for words in sweeps:
        make_call(words, tmp_path, monkeypatch)
        if name:
            assert group_of(config_of(words)) in kept
    task = sweeps[0][sweeps[0].index("--env") + 1]
    out = tmp_path / "runs/results" / (name or script)
    for copy in copies:
        shutil.copytree(runs / task / copy.split("/")[0] / RUN.name, out / copy)
    for words in calls[len(sweeps) :]:
        make_call(words, tmp_path, monkeypatch)
    for picture in ("learning_curves.png", f"steadiness_{axis}.png"):
        assert (out / picture).is_file()


@pytest.mark.parametrize(
    ("name", "of_mbpo"),  # the folders of the kept runs
    [
        ("kl_target", "kl_target"),
        ("correlated_kl_target", "correlated"),
        ("correlated", "correlated"),
        ("two_updates", "two_updates"),
        ("noise", "noise"),
        ("small_step", "small_step"),
        ("entropy", "entropy"),
    ],
)
def test_a_results_script_has_the_settings_of_the_kept_runs(name, of_mbpo, tmp_path, stand_ins):
    text = f"set -- inverted_pendulum_{name}\n" + (ROOT / f"results/{OPTIONS}.sh").read_text()
    sweeps = [words for words in calls_of(text, stand_ins, tmp_path) if SWEEP in words]
    assert len(sweeps) == 2
    for words, folder in zip(sweeps, (of_mbpo, name), strict=True):
        kept = by_group(read_runs(ROOT / "results" / f"inverted_pendulum_{folder}"))
        assert group_of(config_of(words)) in kept
        steps = int(words[words.index("--total-env-steps") + 1])
        assert {run.metrics["env_step"][-1] for runs in kept.values() for run in runs} == {steps}


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page: lower case, hyphens for spaces, no other signs."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *MEASURED], ids=lambda page: page.name)
def test_files_and_headings_that_a_page_links_to_exist(page):
    prose = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if not target.startswith("https://"):
            name, _, heading = target.partition("#")
            file = page.parent / name if name else page
            assert file.is_file(), target
            assert not heading or heading in anchors(file), target


@pytest.mark.slow
def test_site_builds_without_a_warning_and_shows_every_module(tmp_path):
    """Warnings are errors: a missing page, picture or name, a formula that can't be read."""
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name, reason="the docs extra isn't installed")
    *command, _ = BUILD
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, *command, str(site), "-d", str(tmp_path / "trees"), "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "algorithm.html").read_text().count("<math") > 50
    assert "--total-env-steps" in (site / "train.html").read_text()
    assert "kl_target_nats" in (site / "api" / "rmbpo_fast.config.html").read_text()

    package = (p.relative_to(ROOT) for p in (ROOT / "rmbpo_fast").rglob("*.py"))
    modules = [".".join(f.with_suffix("").parts) for f in package if f.name[0] != "_"]
    references = (p.relative_to(ROOT) for p in (ROOT / "kernels").rglob("reference.py"))
    modules += [".".join(("rmbpo_fast", *f.with_suffix("").parts)) for f in references]
    listed = (site / "api.html").read_text()
    for module in modules:
        assert f'href="api/{module}.html' in listed, f"docs/api.md names no folder of {module}"
        page = (site / "api" / f"{module}.html").read_text()
        assert f'id="module-{module}"' in page, f"{module} has no page"
