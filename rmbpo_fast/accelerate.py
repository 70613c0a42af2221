"""What --compile does with a run's heavy functions besides compiled kernels: CUDA graphs on a GPU.

This is the only file that says which functions are captured. Everything that they read or write is
listed by `touched`, and all of it changes in place, so a graph's addresses stay right until a
buffer grows; then `Captured` records anew.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.agent import Agent, learners
from rmbpo_fast.config import Config
from rmbpo_fast.graph import Captured, CudaGraphs
from rmbpo_fast.kernels.backend import active
from rmbpo_fast.loop import Steps, make_steps


def accelerate(agent: Agent, config: Config, device: torch.device) -> tuple[Steps, str]:
    """The loop's functions, made fast where that is measured to help; and a line on what was done.

    The gradient steps of the world model and of the adversary are replaced in `agent`.
    """
    if device.type == "cpu":
        kernels = active()
        return make_steps(agent, config), (
            f"compile: {kernels.name} kernels in {kernels.precision}; torch.compile gains nothing "
            "on a CPU (bench/RESULTS.md)"
        )
    compile_losses(agent)
    return capture(agent, config, CudaGraphs()), (
        "compile: CUDA graphs of the rollouts, of the policy updates of a real step, and of the "
        "model's and the adversary's gradient steps; torch.compile of the policy's and the "
        "adversary's losses"
    )


def compile_losses(agent: Agent) -> None:
    """torch.compile fuses what lies between the kernels: fewer and larger launches in a graph.

    Not the world model's loss: its last batch has another size at each fit, and would be compiled
    again and again for a small gain.
    """
    owners: list[tuple[Any, str]] = []
    for sac in filter(None, (agent.sac, agent.explorer)):
        owners += [(sac, "critic_objective"), (sac, "actor_objective")]
    if agent.adversary is not None:
        owners.append((agent.adversary, "loss"))
    for owner, name in owners:
        setattr(owner, name, torch.compile(getattr(owner, name), fullgraph=True))


def capture(agent: Agent, config: Config, graphs: Any) -> Steps:
    """`Captured` around each heavy function. graphs: the CUDA API or its stand-in."""
    # by type: a generator made for "cuda" has no index
    kind = agent.real.rows.device.type
    generators = [s for s in agent.streams.values() if s.device.type == kind]

    def captured(function: Callable[..., Any], name: str) -> Captured:
        return Captured(function, lambda: touched(agent), generators, graphs, name)

    plain = make_steps(agent, config)
    owners: dict[str, Any] = {"the world model's gradient step": agent.world_model}
    if agent.adversary is not None:
        owners["the adversary's gradient step"] = agent.adversary
    for name, owner in owners.items():
        owner.train_steps = captured(owner.train_steps, name)
    return Steps(
        captured(plain.imagine, "the rollout (with the task's --termination rule)"),
        captured(plain.update, "the policy update"),
    )


def touched(agent: Agent) -> Iterator[Tensor]:
    """Every tensor that outlives a captured function: buffers, weights, optimiser states."""
    for buffer in (agent.real, agent.imagined, agent.nominal):
        if buffer is not None:
            yield from (buffer.rows, buffer.size, buffer.cursor)
    yield from agent.world_model.table
    for module, optimizers in learners(agent).values():
        yield from module.parameters()
        yield from module.buffers()
        for optimizer in optimizers.values():
            for state in optimizer.state.values():
                yield from state.values()
