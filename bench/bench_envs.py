"""EnvPool, as the evaluation steps it, against a Python loop over one Gymnasium environment."""

import dataclasses

import gymnasium
import numpy as np
import pytest

from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.vector_env import make_vector_env

STEPS = 3_000  # environment steps timed, by either
STAYS_UP = {"terminate_when_unhealthy": False}  # a trained policy's episodes are long


@pytest.mark.parametrize("episodes", [10, 30])
@pytest.mark.parametrize(
    ("env", "env_id", "kwargs"),
    [
        ("hopper", "Hopper-v4", STAYS_UP),
        ("halfcheetah", "HalfCheetah-v4", {}),
        ("walker2d", "Walker2d-v4", STAYS_UP),
    ],
    ids=["hopper", "halfcheetah", "walker2d"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def bench_stepping(env, env_id, kwargs, episodes, race):
    one = gymnasium.make(env_id, **kwargs)
    task = find_task(env)
    task = dataclasses.replace(task, make_kwargs={**task.make_kwargs, **kwargs})
    pool = make_vector_env(task, episodes, 0)
    shape = (STEPS // episodes, episodes, *one.action_space.shape)
    actions = np.random.default_rng(0).uniform(-0.1, 0.1, size=shape)
    singles = actions.reshape(STEPS, -1)

    def loop():
        one.reset(seed=0)
        for action in singles:
            _, _, terminated, truncated, _ = one.step(action)
            if terminated or truncated:
                one.reset()

    def together():
        pool.reset(np.arange(episodes))
        for action in actions:
            pool.step(action)

    race({"Gymnasium": loop, "EnvPool": together}, calls=1, rounds=7)
    pool.close()
