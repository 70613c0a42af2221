"""The documentation: its site builds without a warning, and what it tells people to type works.

Every `sh` block and every inline command of the pages goes through bash, so quotes, loops and `&&`
are bash's; the programs there are stand-ins that write down how they were called. Then each call is
made in this process, with small settings added, or stands in `LISTED` with the reason why not.
"""

import importlib
import re
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import tyro

import rmbpo_fast
from conftest import SMALL, flags
from pages import FENCE, Block, blocks, calls_of, write_stand_ins
from rmbpo_fast import analyze, evaluate, report, sweep, train, video
from rmbpo_fast.cli import parse
from rmbpo_fast.config import Config
from rmbpo_fast.kernels import backend
from rmbpo_fast.policy import Policy, epoch_files
from rmbpo_fast.subjects import group_of, load_subjects

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
RUN = Path("runs/hopper/rmbpo/0-20260101-120000")  # that the pages name

# One fit, some updates, one epoch: the last of two equal flags counts.
TINY = {
    **SMALL,
    "total_env_steps": 24,
    "random_steps": 20,
    "epoch_steps": 12,
    "eval_episodes": 1,
    "keep_policies": 1,
    "adversary_from_epoch": 0,
    "threads": 1,
}
MBPO_AND_RMBPO = ("mbpo/mbpo-seed-0", "rmbpo/rmbpo-seed-0")
OPTIONS = "inverted_pendulum_options"
BUILD = ["-m", "sphinx", "-W", "docs", "build/docs"]

HOURS = "hours; test_a_results_script_makes_its_pictures"
# What can't be run here, how its call begins, and what it needs of the repository.
LISTED = {
    "python -m venv .venv": "makes an environment",
    "pip install --no-build-isolation --no-deps .": "tests/test_package.py builds the wheel",
    "ruff format .": "tests/test_static.py",
    "ruff check .": "tests/test_static.py",
    "sh tests/sanitize.sh": "minutes of compiling; .ci/run runs it",
    "python tests/test_golden.py": "rewrites tests/golden.json",
    "sh results/inverted_pendulum.sh": HOURS,
    "sh results/inverted_pendulum_options.sh inverted_pendulum_small_step": HOURS,
    "sh results/inverted_pendulum_options.sh inverted_pendulum_entropy": HOURS,
    "sh results/inverted_pendulum_options.sh inverted_pendulum_three_updates": HOURS,
    "sh results/hopper.sh": HOURS,
    "python bench/gpu_model.py": "counts launches for some ten seconds; no test depends on it",
    "python -m rmbpo_fast.kernels.report": "minutes; tests/kernels/test_report.py",
    "python " + " ".join(BUILD): "test_site_builds_without_a_warning",
}


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> Path:
    """A folder of programs that only write down their arguments."""
    folder = tmp_path_factory.mktemp("bin")
    write_stand_ins(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The runs that the pages speak of, trained for a moment."""
    folder = tmp_path_factory.mktemp("runs")
    for env, algo in (("hopper", "rmbpo"), ("hopper", "mbpo"), ("inverted_pendulum", "rmbpo")):
        run_dir = folder / "runs" / env / algo / RUN.name
        settings = flags(env=env, algo=algo, **TINY, run_dir=run_dir)
        assert train.main(settings) == 0
    return folder / "runs"


def run_train(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    if "--resume" in words:
        return train.main([*words, "--total-env-steps", "26"])
    # two runs of one second must not meet in one folder
    with monkeypatch.context() as patch:
        new = here / f"start-{len(list(here.glob('start-*')))}"
        new.mkdir()
        patch.chdir(new)
        status = train.main([*words, *flags(**TINY)])
        assert len(list(new.glob("runs/*/*/*/policy.safetensors"))) == 1
    return status


def plan_sweep(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Flags and plan are right. tests/test_sweep.py starts Ray, which takes its time."""
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_train", lambda arguments, views: None)
        return sweep.main([*words, "--dry-run"])


def run_evaluate(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    if "--video" in words:
        pytest.importorskip("imageio_ffmpeg")
        monkeypatch.setattr(video, "_MOST_SECONDS", 0.1)  # frames are drawn slowly without a GPU
    return evaluate.main([*words, "--episodes", "1"])


def run_analyze(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    return analyze.main([*words, "--episodes", "1"])


def run_report(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    status = report.main(words)
    assert list(here.glob("**/*.html"))
    return status


def run_script(script: str, words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", [script, *words])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    return 0


def imagine_one_round(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    status = run_script("results/imagine_on.py", [*words, "--rounds", "1"], here, monkeypatch)
    out = here / words[words.index("--out") + 1]
    assert Policy.load(out).digest == Policy.load(*epoch_files(out)).digest
    return status


def check_pip(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The extra exists, and so does the switch. tests/test_package.py builds the wheels."""
    words = [w for w in words if w not in ("--no-build-isolation", "--no-deps")]
    if words[1:] == ["-C", "wheel.cmake=false"]:
        words = words[:1]
    (what,) = words
    extra = re.fullmatch(r"\.(?:\[(\w+)\])?", what)
    assert extra, what
    project = (ROOT / "pyproject.toml").read_text()
    extras = re.search(r"^\[project.optional-dependencies\]$(.*?)^\[", project, re.M | re.S)
    assert extra[1] in (None, *re.findall(r"^(\w+) = \[", extras[1], re.M)), what
    return 0


def check_pytest(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Paths and flags are right: the tests are found. A page's own file is run."""
    if not words:
        return 0  # that is how this test is run
    own = [w for w in words if (here / w).is_file()]
    if own:
        for name in ("bench/conftest.py", "pyproject.toml"):
            (here / name).write_text((ROOT / name).read_text())
    cwd, mode = (here, []) if own else (ROOT, ["--collect-only", "-q"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *mode, "-p", "no:cacheprovider"],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return 0


HANDLERS = {
    ("python", "-m", "rmbpo_fast.train"): run_train,
    ("python", "-m", "rmbpo_fast.sweep"): plan_sweep,
    ("python", "-m", "rmbpo_fast.evaluate"): run_evaluate,
    ("python", "-m", "rmbpo_fast.analyze"): run_analyze,
    ("python", "-m", "rmbpo_fast.report"): run_report,
    ("python", "results/average.py"): partial(run_script, "results/average.py"),
    ("python", "results/imagine_on.py"): imagine_one_round,
    ("python", "results/summary.py"): partial(run_script, "results/summary.py"),
    ("python", "-m", "pip", "install"): check_pip,
    ("python", "-m", "pytest"): check_pytest,
}
_made: set[tuple[str, ...]] = set()  # several pages show the same command


def make_call(words: list[str], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command of a page as far as it can be run."""
    shown = " ".join(words)
    for beginning in LISTED:
        if shown == beginning or shown.startswith(beginning + " "):
            needed = [w for w in words if (w.endswith((".py", ".sh")))]
            assert all((ROOT / w).is_file() for w in needed), shown
            return
    for beginning, handler in HANDLERS.items():
        if tuple(words[: len(beginning)]) == beginning:
            if "my_rules" not in shown and tuple(words) in _made:
                return
            backend.use("reference")  # a new process would begin with it
            torch.set_num_threads(1)
            try:
                status = handler(words[len(beginning) :], here, monkeypatch)
            except SystemExit as stopped:  # tyro's, of --help or for a wrong flag
                status = stopped.code
            assert status == 0, f"{shown}: status {status}"
            _made.add(tuple(words))
            return
    raise AssertionError(f"{shown}: no test knows this command; tests/test_docs.py must")


def put_file(block: Block, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block with a caption: a new file, more of a module, or entries of one of its tables."""
    file, _, table = block.caption.partition(", in ")
    if not (ROOT / file).is_file():
        (here / file).parent.mkdir(exist_ok=True)
        (here / file).write_text(block.text)
        return
    module = importlib.import_module(".".join(Path(file).with_suffix("").parts))
    scope = dict(vars(module))
    if table:
        new = eval("{" + block.text + "}", scope)
        monkeypatch.setattr(module, table, {**getattr(module, table), **new})
        return
    exec(block.text, scope)
    for name in scope.keys() - vars(module).keys():
        monkeypatch.setattr(module, name, scope[name], raising=False)


def config_of(words: list[str]) -> Config:
    """The settings that a sweep with one setting hands to its runs."""
    flags_of_sweep = words[words.index("rmbpo_fast.sweep") + 1 :]
    _, of_train = tyro.cli(sweep.Arguments, args=flags_of_sweep, return_unknown_args=True)
    return parse(of_train)


@pytest.mark.skipif(backend.native is None, reason="the pages use the native library")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_says_to_type_works(page, runs, stand_ins, tmp_path, monkeypatch):
    (tmp_path / "runs").symlink_to(runs)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    (tmp_path / "my_rules.py").write_text("from rmbpo_fast.termination import never as swimmer\n")
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
                for words in calls_of(block.text, stand_ins, tmp_path):
                    make_call(words, tmp_path, monkeypatch)
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
    ("script", "name", "planned", "runs", "axis"),
    [
        ("inverted_pendulum", "", 4, ("mbpo/mbpo-seed-0", "rmbpo/eta-0.05-seed-0"), "pole_mass"),
        (OPTIONS, "inverted_pendulum_small_step", 2, MBPO_AND_RMBPO, "pole_mass"),
        (OPTIONS, "inverted_pendulum_entropy", 2, MBPO_AND_RMBPO, "pole_mass"),
        (OPTIONS, "inverted_pendulum_three_updates", 2, MBPO_AND_RMBPO, "pole_mass"),
        ("hopper", "", 2, MBPO_AND_RMBPO, "torso_mass"),
    ],
)
def test_a_results_script_makes_its_pictures(
    script, name, planned, runs, axis, tmp_path, stand_ins, monkeypatch
):
    """results/<script>.sh: sweeps up to their plan, the rest with two runs of a moment."""
    monkeypatch.chdir(tmp_path)
    text = f"set -- {name}\n" + (ROOT / "results" / f"{script}.sh").read_text()
    calls = calls_of(text, stand_ins, tmp_path)
    sweeps = [words for words in calls if "rmbpo_fast.sweep" in words]
    assert len(sweeps) == planned
    for words in sweeps:
        make_call(words, tmp_path, monkeypatch)
        if name:
            kept = load_subjects([f"{ROOT}/results/{name}/*/*-seed-*"])
            assert group_of(config_of(words)) in {run.group for run in kept}
    task = sweeps[0][sweeps[0].index("--env") + 1]
    out = tmp_path / "runs/results" / (name or script)
    for run in runs:
        settings = flags(env=task, algo=run.split("/")[0], **TINY, run_dir=out / run)
        assert train.main(settings) == 0
    for words in calls[len(sweeps) :]:
        make_call(words, tmp_path, monkeypatch)
    for picture in ("learning_curves.png", f"steadiness_{axis}.png"):
        assert (out / picture).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_links_to_exist(page):
    prose = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        assert target.startswith("https://") or (page.parent / target).is_file(), target


def test_every_module_has_its_api_page():
    listed = set(re.findall(r"^   rmbpo_fast\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.M))
    modules = {path.stem for path in Path(rmbpo_fast.__file__).parent.glob("*.py")}
    assert listed - {"kernels"} == modules - {"__init__"}, "docs/api.md lists the modules"


def test_site_builds_without_a_warning(tmp_path):
    """Warnings are errors: a missing page, picture or name, a formula that can't be read."""
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name, reason="the docs extra isn't installed")
    *command, _ = BUILD
    done = subprocess.run(
        [sys.executable, *command, str(tmp_path / "site"), "-d", str(tmp_path / "trees"), "-q"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    algorithm = (tmp_path / "site" / "algorithm.html").read_text()
    assert algorithm.count("<math") > 50
    assert "--total-env-steps" in (tmp_path / "site" / "train.html").read_text()
    assert "kl_target_nats" in (tmp_path / "site" / "api" / "rmbpo_fast.config.html").read_text()
