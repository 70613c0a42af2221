"""A stop in the middle of a phase: what was begun is undone, and begins again on --resume."""

import signal

import gymnasium as gym
import numpy as np
import pytest

from conftest import SMALL, flags
from rmbpo_fast import train
from rmbpo_fast.run.loop import Steps
from rmbpo_fast.run.stop import StopRequest
from same_run import assert_same_run

ID = "OneStep-v0"
WIDTH = 2 + 1 + 1 + 2 + 1


class OneStep(gym.Env):
    """Every step is an episode, so a run goes on bit for bit wherever it is stopped."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.obs = self.np_random.normal(size=2).astype(np.float32)
        return self.obs, {}

    def step(self, action):
        return self.obs + action.astype(np.float32), float(action[0]), False, True, {}


@pytest.fixture(scope="module", autouse=True)
def _task():
    gym.register(ID, OneStep)
    yield
    gym.registry.pop(ID)


def run(folder, **more):
    settings = {**SMALL, "total_env_steps": 110, "rollout_schedule": (0, 2, 1, 2), **more}
    return train.main(flags(env=ID, **settings, termination="learned", run_dir=folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped, and in which phase each of its checks came."""
    folder, phases = tmp_path_factory.mktemp("whole"), []
    with pytest.MonkeyPatch.context() as patch:

        def watched(self, check):
            def note(name):
                function = getattr(self, name)
                return lambda *a: (phases.append(name), function(*a))[1]

            return original(self, check)._replace(**{n: note(n) for n in LONG})

        original = Steps.checked
        patch.setattr(Steps, "checked", watched)
        assert run(folder) == 0
    return folder, phases


LONG = ("act_deterministic", "fit_model", "fit_adversary", "imagine")


@pytest.mark.parametrize(
    ("phase", "which"),  # 1: in the first fit, in which optimisers get their first state
    [
        ("fit_model", 1),
        ("fit_adversary", 1),
        ("fit_adversary", -1),
        ("imagine", -1),
        ("act_deterministic", -1),
    ],
)
def test_a_stop_in_any_phase_resumes_bit_for_bit(whole, tmp_path, monkeypatch, phase, which):
    whole, phases = whole
    number = [i for i, name in enumerate(phases) if name == phase][which]
    original, passed = Steps.checked, []

    def checked(self, check):
        def count(name):
            function = getattr(original(self, check), name)

            def counted(*arguments):
                passed.append(name)
                if len(passed) == number + 1:
                    stops[0].signal = signal.SIGTERM
                return function(*arguments)

            return counted

        return self._replace(**{name: count(name) for name in LONG})

    stops, enter = [], StopRequest.__enter__
    monkeypatch.setattr(StopRequest, "__enter__", lambda self: stops.append(self) or enter(self))
    with monkeypatch.context() as patch:
        patch.setattr(Steps, "checked", checked)
        assert run(tmp_path) == 128 + signal.SIGTERM
    assert len(passed) == number + 1
    assert train.main(flags(resume=tmp_path)) == 0
    assert_same_run(tmp_path, whole, WIDTH)
