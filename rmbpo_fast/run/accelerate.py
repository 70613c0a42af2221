"""What --compile does with a run's heavy functions besides compiled kernels: CUDA graphs on a GPU.

This is the only file that says which functions are captured. Everything that they read or write is
listed by `find_touched` or beside the function, and all of it changes in place, so a graph's
addresses stay right until a buffer grows; then `Captured` records anew.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.config import Config
from rmbpo_fast.kernels.backend import active
from rmbpo_fast.run.agent import Agent, learners
from rmbpo_fast.run.graph import Captured, CudaGraphs
from rmbpo_fast.run.loop import Steps, make_steps


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
        "compile: CUDA graphs of a real step's action and storing, of its policy updates, of the "
        "rollouts, and of the model's and the adversary's gradient steps; torch.compile of the "
        "policy's and the adversary's losses"
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

    everything = find_touched(agent)

    def captured(
        function: Callable[..., Any],
        name: str,
        touches: Callable[[], Iterable[Tensor]] = everything,
    ) -> Captured:
        return Captured(function, touches, generators, graphs, name)

    plain = make_steps(agent, config)
    explorer, real = agent.explorer or agent.sac, agent.real
    owners: dict[str, Any] = {"the world model's gradient step": agent.world_model}
    if agent.adversary is not None:
        owners["the adversary's gradient step"] = agent.adversary
    for name, owner in owners.items():
        owner.train_steps = captured(owner.train_steps, name)
    return Steps(
        act=captured(plain.act, "the action", lambda: explorer.actor_params),
        act_deterministic=captured(
            plain.act_deterministic, "the mean action", lambda: agent.sac.actor_params
        ),
        store=captured(plain.store, "storing", lambda: (real.rows, real.size, real.cursor)),
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
        for buffer in (agent.real, agent.imagined, agent.nominal):
            if buffer is not None:
                yield from (buffer.rows, buffer.size, buffer.cursor)
        yield from agent.world_model.table
        yield from weights
        for module, _ in found:
            yield from module.buffers()
        for optimizer in optimizers:
            for state in optimizer.state.values():
                yield from state.values()

    return touched
