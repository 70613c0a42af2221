"""Tasks of a user's own: found in their modules, asked what they are, and part of the run."""

import importlib
import json
import re
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from conftest import SMALL, flags
from rmbpo_fast import evaluate, train
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.policy import Policy
from rmbpo_fast.worlds import termination
from rmbpo_fast.worlds.definition import definition as find_definition
from rmbpo_fast.worlds.tasks import find_task
from toy import Point


@pytest.fixture
def register():
    """gymnasium.register, undone when the test ends."""
    names = []

    def add(name, kind, **more):
        gymnasium.register(name, kind, **more)
        names.append(name)

    yield add
    for name in names:
        gymnasium.registry.pop(name)


@pytest.fixture
def my_tasks(tmp_path, monkeypatch):
    """A user's module, which registers Mine/Cart-v0; gone again as in a new process."""

    def forget():
        sys.modules.pop("my_tasks", None)
        gymnasium.registry.pop("Mine/Cart-v0", None)

    (tmp_path / "my_tasks.py").write_text(
        "import gymnasium\n"
        "import gymnasium.envs.classic_control as classic\n"
        "class Cart(classic.Continuous_MountainCarEnv):\n"
        "    pass\n"
        "gymnasium.register('Mine/Cart-v0', Cart, max_episode_steps=30)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield forget
    forget()


@pytest.mark.parametrize("imported", [False, True])
def test_a_task_of_a_users_module_is_part_of_the_run(my_tasks, tmp_path, capsys, imported):
    """Also where the user's own program has registered it before."""
    run = tmp_path / "run"
    settings = {**SMALL, "total_env_steps": 60, "run_dir": run}
    if imported:
        importlib.import_module("my_tasks")
    env = "Mine/Cart-v0" if imported else "my_tasks:Mine/Cart-v0"
    assert train.main(flags(env=env, **settings)) == 0
    my_tasks()
    assert train.main(flags(resume=run, total_env_steps=70)) == 0
    my_tasks()
    assert evaluate.main([str(run), "--episodes", "1"]) == 0
    assert "Mine/Cart-v0: return" in capsys.readouterr().out


def test_a_module_that_cant_be_imported_is_one_line(my_tasks, tmp_path):
    (tmp_path / "my_tasks.py").write_text("1 / 0\n")
    for env, message in (
        ("my_tasks:Mine/Cart-v0", r"can't import my_tasks \(ZeroDivisionError"),
        ("no_tasks:Mine/Cart-v0", r"can't import no_tasks \(ModuleNotFoundError"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_task(env)


def test_a_known_task_that_envpool_lacks_keeps_its_facts(monkeypatch):
    """Gymnasium steps a version that EnvPool lacks, by the same rules."""
    monkeypatch.setattr("envpool.list_all_envs", lambda: ["Hopper-v3"])
    task = find_task("Hopper-v5")
    assert (task.backend, task.rule, task.clipped_from) == ("gymnasium", termination.hopper, 5)


def test_facts_are_asked_of_the_task_and_not_of_its_name(register):
    """A hopper that never ends, one with another name, and an ant that is none."""
    register("Hopper-v9", HopperEnv, kwargs={"terminate_when_unhealthy": False})
    register("Mine/Jumper-v0", HopperEnv, max_episode_steps=50)
    register("Ant-v9", Point)
    facts = [
        (task.rule, task.clipped_from, task.obs_size)
        for task in map(find_task, ("Hopper-v9", "Mine/Jumper-v0", "Ant-v9"))
    ]
    assert facts == [(None, None, None), (termination.hopper, 5, None), (None, None, None)]


def test_a_limit_that_we_set_is_printed_and_kept(register, tmp_path, capsys):
    register("Mine/Long-v0", Point)
    settings = {**SMALL, "total_env_steps": 60, "termination": "never"}
    assert train.main(flags(env="Mine/Long-v0", **settings, run_dir=tmp_path)) == 0
    assert "Mine/Long-v0 has no time limit: its episodes end after 1000" in capsys.readouterr().out
    facts = json.loads((tmp_path / "config.json").read_text())["task"]
    assert facts["limit_is_ours"]
    assert facts["max_episode_steps"] == 1_000


class Steps(Point):
    """Takes whole numbers."""

    action_space = gymnasium.spaces.Box(0, 4, (1,), np.int64)

    def step(self, action):
        assert action in self.action_space
        return super().step((action - 2) / 2)


def test_the_policy_gives_integers_where_the_task_takes_them(register, tmp_path):
    register("Mine/Steps-v0", Steps, max_episode_steps=20)
    settings = {**SMALL, "total_env_steps": 60, "termination": "never"}
    assert train.main(flags(env="Mine/Steps-v0", **settings, run_dir=tmp_path)) == 0
    policy = Policy.load(tmp_path)
    actions = policy(np.random.default_rng(0).normal(size=(50, 2)))
    assert actions.dtype == np.int64
    assert all(action in Steps.action_space for action in actions)


class Single(Point):
    """A simulator of which there can be one at a time."""

    there = 0

    def __init__(self):
        if Single.there:
            raise OSError("the port is taken")
        Single.there += 1

    def close(self):
        Single.there -= 1


def test_a_task_of_which_there_can_be_one_takes_turns(register, tmp_path, capsys):
    register("Mine/Single-v0", Single, max_episode_steps=20)
    settings = {**SMALL, "total_env_steps": 120, "eval_episodes": 3, "termination": "never"}
    run = tmp_path / "run"
    assert train.main(flags(env="Mine/Single-v0", **settings, run_dir=run)) == 0
    assert train.main(flags(resume=run, total_env_steps=150)) == 0
    assert evaluate.main([str(run), "--episodes", "3", "--out", str(tmp_path / "out")]) == 0
    assert "over 3 episodes" in capsys.readouterr().out
    assert Single.there == 0


REWARDED = """
    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, reward + {}, *rest
"""


def test_a_changed_task_is_played_again(my_tasks, tmp_path, capsys):
    """The policy, its run and the task's name are the same; the module's code isn't."""
    run, module = tmp_path / "run", tmp_path / "my_tasks.py"
    settings = {**SMALL, "total_env_steps": 60, "termination": "never"}
    assert train.main(flags(env="my_tasks:Mine/Cart-v0", **settings, run_dir=run)) == 0
    seen, code = [], module.read_text()
    for reward in ("0", "0", "1_000"):
        my_tasks()
        find_definition.cache_clear()
        module.write_text(code.replace("    pass\n", REWARDED.format(reward)))
        capsys.readouterr()
        assert evaluate.main([str(run), "--episodes", "1", "--out", str(tmp_path / "out")]) == 0
        seen.append(re.search("return .*", capsys.readouterr().out)[0])
    assert seen[0] == seen[1] != seen[2]
