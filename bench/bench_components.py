"""The learners' steps and the rollouts on the CPU at Hopper's sizes.

Rivals: eager PyTorch, torch.compile of the loss or the step, and the native kernels in each
precision. A gradient step is compared with eager PyTorch's before it is timed.
"""

import copy
from collections.abc import Callable

import pytest
import torch

from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.rollout import imagine
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.presets import preset
from rmbpo_fast.run.agent import Agent, build
from rmbpo_fast.run.loop import update_policy
from rmbpo_fast.worlds.tasks import find_task

CONFIG = preset("hopper").replace(device="cpu")
E, B, S, A = 7, 256, 11, 3
ROWS, HORIZON = 100_000, 5
# relative, of a step's gradients in float32: see kernels/testing.py, where bf16 has its own
SAME = 1e-4


def never_ends(obs: torch.Tensor) -> torch.Tensor:
    return torch.zeros(obs.shape[:-1], dtype=torch.bool)


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Hopper's parts, untrained, with noise in the buffers."""
    parts = build(CONFIG, find_task("hopper"), torch.device("cpu"))
    parts.imagined.resize_(ROWS * HORIZON)
    for buffer in (parts.real, parts.imagined):
        buffer.add_(torch.rand(20_000, buffer.width))
    parts.world_model.table = (torch.randn(20_000, S + A), torch.randn(20_000, S + 1))
    return parts


def _rivals(
    eager: Callable[[], object], compiled: Callable[[], object]
) -> dict[str, Callable[[], object]]:
    def on(function: Callable[[], object], *choice: str) -> Callable[[], None]:
        def call() -> None:
            with using(*choice):
                function()

        return call

    rivals = {
        "eager PyTorch": on(eager, "reference"),
        "torch.compile": on(compiled, "reference"),
    }
    if backend.native is not None:
        rivals["native fp32"] = on(eager, "native", "fp32")
        rivals["native bf16"] = on(eager, "native", "bf16")
    return rivals


def _assert_same_step(optimizer: Callable[[object], Adam], module, step) -> None:
    """First moments of a fresh optimiser are a tenth of the gradients."""
    if backend.native is None:
        return
    moments = []
    for name in ("reference", "native"):
        copied = copy.deepcopy(module)
        optimizer(copied).state.clear()
        with using(name):
            step(copied)
        moments.append(optimizer(copied).lists().exp_avgs)
    for expected, found in zip(*moments, strict=True):
        assert (found - expected).norm() <= SAME * expected.norm()


def bench_world_model_step(agent, race):
    model = agent.world_model
    rows = torch.randint(20_000, (E, B))
    inputs, targets = (column[rows] for column in model.table)
    _assert_same_step(lambda m: m.optimizer, model, lambda m: m._train_step(rows))
    compiled = torch.compile(model.loss, fullgraph=True)
    race(
        _rivals(
            lambda: model._train_step(rows),
            lambda: model.optimizer.minimize(compiled(inputs, targets)),
        ),
        calls=10,
    )


def bench_adversary_step(agent, race):
    adversary, generator = agent.adversary, torch.Generator().manual_seed(0)
    rows = torch.randint(20_000, (1, E, B))

    def step(adversary) -> None:
        adversary.train_steps(rows, agent.real, agent.game, generator.manual_seed(0))

    _assert_same_step(lambda a: a.optimizer, adversary, step)
    compiled = torch.compile(adversary.loss, fullgraph=True)

    def compiled_step() -> None:
        drawn = adversary.draw(rows[0], agent.real, agent.game, generator)
        adversary.optimizer.minimize(compiled(agent.game, *drawn))

    race(_rivals(lambda: step(adversary), compiled_step), calls=5)


def bench_sac_update(agent, race):
    """Sampling included."""
    sac = agent.sac
    batch = agent.real.sample(B, agent.streams["sac"])
    noises = torch.randn(2, B, A)
    _assert_same_step(lambda s: s.optimizers["critic"], sac, lambda s: s.update(batch, *noises))
    eager = (sac.critic_objective, sac.actor_objective)
    compiled = tuple(torch.compile(f, fullgraph=True) for f in eager)

    def update(functions) -> None:
        sac.critic_objective, sac.actor_objective = functions
        update_policy(agent, CONFIG, 1)

    race(_rivals(lambda: update(eager), lambda: update(compiled)), calls=20)
    sac.critic_objective, sac.actor_objective = eager


@pytest.mark.parametrize("world", ["nominal", "adversary"])
def bench_rollouts(agent, world, race, capsys):
    """100,000 rows, 5 steps, storing included; nothing ends. torch.compile: of the dynamics."""
    starts = 0.1 * torch.rand(ROWS, S)
    generator = torch.Generator().manual_seed(0)
    eager = agent.world_model.dynamics if world == "nominal" else agent.dynamics
    compiled = torch.compile(eager)

    def rollouts(dynamics) -> None:
        model, sac = agent.world_model, agent.sac
        imagine(starts, HORIZON, dynamics, model, sac, never_ends, agent.imagined, generator)

    race(_rivals(lambda: rollouts(eager), lambda: rollouts(compiled)), calls=1, rounds=3)
    with capsys.disabled():
        print(f"  one call stores {ROWS * HORIZON:,} steps")
