"""Whatever a user gives: an answer or one line of what is wrong, and no file is touched."""

import itertools
import json
import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import SMALL, flags
from rmbpo_fast import train
from rmbpo_fast.config import Config, flag_of
from rmbpo_fast.errors import RmbpoError
from rmbpo_fast.policy import Policy
from rmbpo_fast.run.cli import parse
from rmbpo_fast.run.config_file import read_config
from rmbpo_fast.run.files import load_run
from rmbpo_fast.run.journal import read_journal
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.study.metrics_csv import read_metrics
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.grids import make_experiment
from rmbpo_fast.worlds.tasks import find_task

pytestmark = pytest.mark.slow

trials = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ONE_LINE = (RmbpoError, OSError)  # what run_command prints as one

numbers = st.one_of(st.integers(-(10**20), 10**20), st.floats()).map(str)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
words = st.sampled_from(["", "none", "None", "1e400", "-1", "٣", "../x"])
values = st.one_of(numbers, texts, words)
names = st.sampled_from([flag_of(name) for name in Config().flat()])
flag = st.tuples(names, st.lists(values, max_size=3)).map(lambda pair: [pair[0], *pair[1]])


@trials
@given(st.lists(flag, min_size=1, max_size=4))
def test_flags(capsys, found):
    asked = [word for one in found for word in one if word not in ("--resume", "--help")]
    with suppress(*ONE_LINE, SystemExit):
        group_of(parse(asked))
    assert "Traceback" not in capsys.readouterr().err


ids = st.builds("{}-v{}".format, texts, numbers)


@trials
@given(st.one_of(texts, st.builds("{}:{}".format, texts, texts), ids))
def test_tasks(name):
    with suppress(RmbpoError):
        find_task(name)


known = st.sampled_from(["torso_mass", "body_mass:foot", "friction"])
ranges = st.builds("{}:{}:{}".format, numbers, numbers, numbers)


@trials
@given(st.builds("{}={}".format, st.one_of(texts, known), st.one_of(values, ranges)))
def test_distortions(text):
    with suppress(RmbpoError):
        for world in itertools.islice(make_experiment((text,), None).worlds(), 1):
            for name, value in world.items():
                Physics(find_task("hopper")).check(name, value)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "run"
    asked = flags(env="inverted_pendulum", **{**SMALL, "total_env_steps": 60}, run_dir=folder)
    assert train.main(asked) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)


@settings(trials, max_examples=100)
@given(place=st.integers(0, 100), value=anything)
def test_configs(copy, place, value):
    """One value of config.json is anything else."""
    file = copy / "config.json"
    before = file.read_text()
    content = json.loads(before)
    spots = [(content, key) for key in content]
    for group in content["config"].values():
        spots += [(group, key) for key in group]
    holder, key = spots[place % len(spots)]
    holder[key] = value
    file.write_text(json.dumps(content))
    with suppress(RmbpoError):
        group_of(read_config(copy))
    file.write_text(before)


READERS = {
    "policy.safetensors": Policy.load,
    "metrics.csv": read_metrics,
    "journal": lambda file: read_journal(file.parent, 4 + 1 + 1 + 4 + 1),
    "state.safetensors": lambda file: load_run(file.parents[2]),
    "state.json": lambda file: load_run(file.parents[2]),
}
edits = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", READERS)
@trials
@given(edits=edits, length=st.floats(0, 1))
def test_files(copy, kind, edits, length):
    """Bytes are changed and the end is cut off; nobody writes to what is damaged."""
    *_, file = sorted(p for p in copy.rglob("*") if p.is_file() and kind in (p.name, p.parent.name))
    before = file.read_bytes()
    content = bytearray(before)
    for where, new in edits:
        at = int(where * len(content))
        content[at : at + len(new)] = new
    content = content[: max(1, int(length * len(content)))]
    file.write_bytes(content)
    with suppress(*ONE_LINE):
        READERS[kind](file)
    assert file.read_bytes() == content
    file.write_bytes(before)
