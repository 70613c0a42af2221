"""The learners' steps and the rollouts on the CPU at Hopper's sizes: native against eager."""

from collections.abc import Callable

import pytest
import torch

from rmbpo_fast.agent import Agent, build
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.loop import update_policy
from rmbpo_fast.presets import preset
from rmbpo_fast.rollout import imagine
from rmbpo_fast.tasks import find_task

pytestmark = pytest.mark.skipif(backend.native is None, reason="the native library isn't installed")
CONFIG = preset("hopper").replace(device="cpu")
E, B, S, A = 7, 256, 11, 3
ROWS, HORIZON = 100_000, 5


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Hopper's parts, untrained, with noise in the buffers."""
    parts = build(CONFIG, find_task("hopper"), torch.device("cpu"))
    parts.imagined.resize_(ROWS * HORIZON)
    for buffer in (parts.real, parts.imagined):
        buffer.add_(torch.rand(20_000, buffer.width))
    return parts


def _compare(compare, function: Callable[[], object], calls: int, rounds: int = 15) -> None:
    def on(name: str) -> Callable[[], None]:
        def call() -> None:
            with using(name):
                function()

        return call

    names = ("eager", "native")
    compare(on("reference"), on("native"), calls, rounds=rounds, names=names)


def bench_native_world_model_step(agent, compare):
    model = agent.world_model
    batch = (torch.randn(E, B, S + A), torch.randn(E, B, S + 1))
    _compare(compare, lambda: model.optimizer.minimize(model.loss(*batch)), 10)


def bench_native_adversary_step(agent, compare):
    adversary = agent.adversary
    shapes = ((E, B, S), (E, B, A), (E, B, S + 1), (E, B, A))
    batch = (agent.game, *(torch.randn(*shape) for shape in shapes))
    _compare(compare, lambda: adversary.optimizer.minimize(adversary.loss(*batch)), 5)


def bench_native_sac_update(agent, compare):
    """Sampling included."""
    _compare(compare, lambda: update_policy(agent, CONFIG, 1), 20)


@pytest.mark.parametrize("world", ["nominal", "adversary"])
def bench_native_rollouts(agent, world, compare):
    """100,000 rows, 5 steps, storing included; nothing ends."""
    starts = 0.1 * torch.rand(ROWS, S)
    generator = torch.Generator().manual_seed(0)
    dynamics = agent.world_model.predict if world == "nominal" else agent.dynamics

    def rollouts() -> None:
        imagine(
            starts,
            HORIZON,
            dynamics,
            agent.world_model,
            agent.sac,
            lambda obs: torch.zeros(len(obs), dtype=torch.bool),
            agent.imagined,
            generator,
        )

    _compare(compare, rollouts, 1, rounds=3)
