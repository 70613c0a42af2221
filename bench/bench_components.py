"""One gradient step of each learner and one imagined chunk at Hopper's sizes: eager against
torch.compile. It decides what `--compile` does on a CPU."""

import pytest
import torch

from rmbpo_fast.agent import Agent, build
from rmbpo_fast.loop import update_policy
from rmbpo_fast.presets import preset
from rmbpo_fast.rollout import imagine_step
from rmbpo_fast.tasks import find_task

CONFIG = preset("hopper").replace(device="cpu")
E, B, S, A = 7, 256, 11, 3


@pytest.fixture(scope="module")
def agent() -> Agent:
    """Hopper's parts, untrained, with noise in the buffers."""
    parts = build(CONFIG, find_task("hopper"), torch.device("cpu"))
    for buffer in (parts.real, parts.imagined):
        buffer.add_(torch.rand(20_000, buffer.rows.shape[1]))
    return parts


def _same(function, compiled, arguments) -> None:
    """A red parity check stops the timing."""
    torch.testing.assert_close(compiled(*arguments), function(*arguments), rtol=1e-3, atol=1e-3)


def bench_world_model_step(agent, compare):
    model = agent.world_model
    arguments = (torch.randn(E, B, S + A), torch.randn(E, B, S + 1))
    compiled = torch.compile(model.loss, fullgraph=True)
    _same(model.loss, compiled, arguments)
    compare(
        lambda: model.optimizer.minimize(model.loss(*arguments)),
        lambda: model.optimizer.minimize(compiled(*arguments)),
        calls=10,
    )


def bench_adversary_step(agent, compare):
    adversary = agent.adversary
    shapes = ((E, B, S), (E, B, A), (E, B, S + 1), (E, B, A))
    arguments = (agent.game, *(torch.randn(*shape) for shape in shapes))
    compiled = torch.compile(adversary.loss, fullgraph=True)
    _same(adversary.loss, compiled, arguments)
    compare(
        lambda: adversary.optimizer.minimize(adversary.loss(*arguments)),
        lambda: adversary.optimizer.minimize(compiled(*arguments)),
        calls=5,
    )


def bench_sac_update(agent, compare):
    """Sampling included."""
    sac = agent.sac
    eager = (sac.critic_objective, sac.actor_objective)
    compiled = tuple(torch.compile(f, fullgraph=True) for f in eager)
    batch = agent.real.sample(B, agent.streams["sac"])
    for function, fast in zip(eager, compiled, strict=True):
        first = batch if function is eager[0] else batch.obs
        _same(function, fast, (first, torch.randn(B, A)))

    def update(functions):
        sac.critic_objective, sac.actor_objective = functions
        update_policy(agent, CONFIG, 1)

    compare(lambda: update(eager), lambda: update(compiled), calls=20)
    sac.critic_objective, sac.actor_objective = eager


def bench_imagined_step(agent, compare):
    """5,000 rows, 1,000 for each elite."""
    rows = 5_000
    arguments = (
        torch.randn(rows, S),
        torch.ones(rows, dtype=torch.bool),
        torch.randn(rows, A),
        torch.randn(rows, S + 1),
        agent.dynamics,
        agent.world_model,
        agent.sac,
        agent.rule,
    )
    compiled = torch.compile(imagine_step, fullgraph=True)
    with torch.no_grad():
        _same(lambda *a: imagine_step(*a)[0], lambda *a: compiled(*a)[0], arguments)
        compare(lambda: imagine_step(*arguments), lambda: compiled(*arguments), calls=5)
