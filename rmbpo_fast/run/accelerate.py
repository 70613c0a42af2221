"""What --compile does with a run's heavy functions besides compiled kernels: CUDA graphs on a GPU.

This is the only file that says which functions are captured. Everything that they read or write is
listed by `find_touched` or beside the function, and all of it changes in place, so a graph's
addresses stay right until a buffer grows; then `Captured` records anew.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.kernels import backend
from rmbpo_fast.run.agent import Agent
from rmbpo_fast.run.graph import Captured, CudaGraphs
from rmbpo_fast.run.loop import Steps, make_steps
from rmbpo_fast.run.state import learners


def accelerate(agent: Agent, device: torch.device) -> tuple[Steps, str]:
    """The loop's functions, made fast where that is measured to help; what was done, in a line."""
    if device.type == "cpu":
        return make_steps(agent), (
            f"compile: {backend.describe()}; torch.compile gains nothing on a CPU "
            "(bench/RESULTS.md)"
        )
    return capture(agent, CudaGraphs()), (
        "compile: CUDA graphs of a real step's action and storing, of its policy updates, of the "
        "rollouts, and of the model's and the adversary's gradient steps; torch.compile of the "
        "policy's and the adversary's losses"
    )


def capture(agent: Agent, graphs: Any) -> Steps:
    """`Captured` around each heavy function. graphs: the CUDA API or its stand-in."""
    # by type: a generator made for "cuda" has no index
    kind = agent.real.rows.device.type
    generators = [s for s in agent.streams.values() if s.device.type == kind]
    plain, real, everything = make_steps(agent), agent.real, find_touched(agent)
    acting, judged = (
        [*layers.weights, *layers.biases]
        for layers in (agent.explorer.policy_layers, agent.learner.policy_layers)
    )

    def captured(
        function: Callable[..., Any],
        name: str,
        touches: Callable[[], Iterable[Tensor]] = everything,
    ) -> Captured:
        return Captured(function, touches, generators, graphs, name)

    return Steps(
        act=captured(plain.act, "the action", lambda: acting),
        act_deterministic=captured(plain.act_deterministic, "the mean action", lambda: judged),
        store=captured(plain.store, "storing", lambda: (real.rows, real.size, real.cursor)),
        fit_model=captured(plain.fit_model, "the world model's gradient step"),
        fit_adversary=captured(plain.fit_adversary, "the adversary's gradient step"),
        imagine=captured(plain.imagine, "the rollout (with the task's --termination rule)"),
        update=captured(plain.update, "the policy update"),
    )


def find_touched(agent: Agent) -> Callable[[], Iterator[Tensor]]:
    """Gives every tensor that outlives a captured function: buffers, weights, optimiser states."""
    found = list(learners(agent).values())
    # listed once: they change in place only, and to walk through modules takes 0.1 ms at each call
    weights = [parameter for module, _ in found for parameter in module.parameters()]
    optimizers = [optimizer for _, each in found for optimizer in each.values()]

    def touched() -> Iterator[Tensor]:
        for buffer in agent.buffers():
            yield from (buffer.rows, buffer.size, buffer.cursor)
        yield from agent.world_model.table
        yield from weights
        for module, _ in found:
            yield from module.buffers()
        for optimizer in optimizers:
            for state in optimizer.state.values():
                yield from state.values()

    return touched
