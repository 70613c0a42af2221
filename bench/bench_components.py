"""The learners' steps and the rollouts on the CPU at Hopper's sizes.

Rivals: eager PyTorch, torch.compile of the losses as on a GPU, and the native kernels in each
precision. A gradient step is compared with eager PyTorch's before it is timed.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.rollout import ImaginedWorld, imagine
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.presets import preset
from rmbpo_fast.run.agent import Agent, build
from rmbpo_fast.run.loop import update_policies
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
    parts.players[0].imagined.resize_(ROWS * HORIZON)
    for buffer in parts.buffers():
        buffer.add_(torch.rand(20_000, buffer.width))
    parts.world_model.table = (torch.randn(20_000, S + A), torch.randn(20_000, S + 1))
    return parts


def _rivals(step: Callable[[], object]) -> dict[str, Callable[[], object]]:
    def on(*choice: Any) -> Callable[[], None]:
        def call() -> None:
            with using(*choice):
                step()

        return call

    rivals = {
        "eager PyTorch": on("reference"),
        "torch.compile": on("reference", "fp32", True),
    }
    if backend.native is not None:
        rivals["native fp32"] = on("native", "fp32")
        rivals["native bf16"] = on("native", "bf16")
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
    """Nothing of it is compiled: its last batch has another size at each fit."""
    model = agent.world_model
    rows = torch.randint(20_000, (E, B))
    _assert_same_step(lambda m: m.optimizer, model, lambda m: m._train_step(rows))
    rivals = _rivals(lambda: model._train_step(rows))
    del rivals["torch.compile"]
    race(rivals, calls=10)


def bench_adversary_step(agent, race):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(20_000, (1, E, B))

    def step(adversary) -> None:
        adversary.train_steps(rows, agent.real, agent.game, generator.manual_seed(0))

    _assert_same_step(lambda a: a.optimizer, agent.adversary, step)
    race(_rivals(lambda: step(agent.adversary)), calls=5)


def bench_sac_update(agent, race):
    """Sampling included."""
    batch, noises = agent.real.sample(B, agent.streams["sac"]), torch.randn(2, B, A)
    learner = agent.learner
    _assert_same_step(lambda s: s.optimizers["critic"], learner, lambda s: s.step(batch, *noises))
    race(_rivals(lambda: update_policies(agent, 1)), calls=20)


@pytest.mark.parametrize("world", ["nominal", "adversary"])
def bench_rollouts(agent, world, race, capsys):
    """100,000 rows, 5 steps, storing included; nothing ends."""
    starts = 0.1 * torch.rand(ROWS, S)
    generator = torch.Generator().manual_seed(0)
    adversary = agent.adversary if world == "adversary" else None
    imagined_world = ImaginedWorld(agent.world_model, adversary, never_ends)
    player = agent.players[0]

    def rollouts() -> None:
        imagine(starts, HORIZON, imagined_world, player.learner, player.imagined, generator)

    rivals = _rivals(rollouts)
    del rivals["torch.compile"]
    race(rivals, calls=1, rounds=3)
    with capsys.disabled():
        print(f"  one call stores {ROWS * HORIZON:,} steps")
