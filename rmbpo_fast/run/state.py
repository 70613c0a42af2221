"""The joint state of a run's parts: what a checkpoint holds, and how a fresh agent takes it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.errors import DivergedError
from rmbpo_fast.run.agent import Agent, Progress
from rmbpo_fast.seeding import seed_for
from rmbpo_fast.storage import Tree, load_optimizer_state, optimizer_state

_FITTED = ("world_model", "adversary", "termination")


def learners(agent: Agent) -> dict[str, tuple[torch.nn.Module, dict[str, torch.optim.Optimizer]]]:
    """Everything with weights, by name, with its optimisers."""
    found: dict[str, tuple[torch.nn.Module, dict[str, torch.optim.Optimizer]]] = {
        "world_model": (agent.world_model, {"adam": agent.world_model.optimizer})
    }
    for player in agent.players:
        found[player.name] = (player.learner, dict(player.learner.optimizers))
    if agent.adversary is not None:
        found["adversary"] = (agent.adversary, {"adam": agent.adversary.optimizer})
    if isinstance(agent.rule, LearnedTermination):
        found["termination"] = (agent.rule, {"adam": agent.rule.optimizer})
    return found


def check_finite(agent: Agent) -> None:
    """Raises DivergedError where a weight is no longer finite."""
    for name, (module, _) in learners(agent).items():
        finite = [torch.isfinite(p).all() for p in module.parameters()]
        if not torch.stack(finite).all():
            step = agent.progress.env_step
            raise DivergedError(f"at step {step} a weight of {name} is no longer finite")


def undo_of_fit(agent: Agent) -> Callable[[], None]:
    """What puts everything back that a fit of the models and its rollouts change.

    Rows that unfinished rollouts wrote stay in the buffers: the same rollouts write them again.
    """
    fitted = {n: parts for n, parts in learners(agent).items() if n in _FITTED}
    before: dict[str, Any] = deepcopy(
        {
            "modules": {name: module.state_dict() for name, (module, _) in fitted.items()},
            "optimizers": {
                name: {k: optimizer_state(o) for k, o in optimizers.items()}
                for name, (_, optimizers) in fitted.items()
            },
            "streams": {name: stream.get_state() for name, stream in agent.streams.items()},
            "rings": [(buffer.size, buffer.cursor) for buffer in agent.buffers()],
        }
    )

    def undo() -> None:
        for name, (module, optimizers) in fitted.items():
            module.load_state_dict(before["modules"][name])
            for key, optimizer in optimizers.items():
                load_optimizer_state(optimizer, before["optimizers"][name][key])
        for name, stream in agent.streams.items():
            stream.set_state(before["streams"][name])
        for buffer, (size, cursor) in zip(agent.buffers(), before["rings"], strict=True):
            buffer.size.copy_(size)
            buffer.cursor.copy_(cursor)

    return undo


def state_tree(agent: Agent) -> Tree:
    """Everything that the rest of the run depends on.

    Raises:
        DivergedError: a network is not finite; such a state must not become a checkpoint.
    """
    check_finite(agent)
    return {
        "progress": vars(agent.progress).copy(),
        "streams": {name: stream.get_state() for name, stream in agent.streams.items()},
        "stream_devices": {name: stream.device.type for name, stream in agent.streams.items()},
        "envs": agent.envs.state_dict(),
        "real": agent.real.state_dict(),
        "imagined": {player.name: player.imagined.state_dict() for player in agent.players},
        "learners": {
            name: {
                "module": dict(module.state_dict()),
                "optimizers": {k: optimizer_state(o) for k, o in optimizers.items()},
            }
            for name, (module, optimizers) in learners(agent).items()
        },
    }


def load_tree_into(agent: Agent, tree: Tree, journal: Tensor) -> None:
    """Puts a freshly built agent into a checkpoint's state, with the journal's real data.

    Args:
        journal: [n, W] all real rows; those behind the checkpoint came after it was written.
    """
    agent.progress = Progress(**tree["progress"])
    saved_step = agent.progress.env_step
    for name, state in tree["streams"].items():
        # a generator's state means nothing to another kind of device: begin a stream of its own
        if tree["stream_devices"][name] == agent.streams[name].device.type:
            agent.streams[name].set_state(state)
        else:
            agent.streams[name].manual_seed(seed_for(saved_step, "moved", name))
    capacity = max(agent.real.capacity, len(tree["real"]["rows"]))
    agent.real.load_state_dict(tree["real"])
    agent.real.resize_(capacity)
    for player in agent.players:
        player.imagined.load_state_dict(tree["imagined"][player.name])
    for name, (module, optimizers) in learners(agent).items():
        saved: dict[str, Any] = tree["learners"][name]
        module.load_state_dict(saved["module"])
        for key, optimizer in optimizers.items():
            # an optimiser that hasn't stepped yet has no state to save
            load_optimizer_state(optimizer, saved.get("optimizers", {}).get(key, {}))
    agent.envs.load_state_dict(tree["envs"])
    add_unrecorded(agent, journal[saved_step:])


def add_unrecorded(agent: Agent, rows: Tensor) -> None:
    """Real rows [n, W] that came after the state at hand was saved.

    The random streams are set aside for fresh ones: repeating their numbers would make the
    environment repeat the very steps that these rows hold.
    """
    if not len(rows):
        return
    agent.real.add_(rows.to(agent.real.rows.device))
    agent.progress.env_step += len(rows)
    agent.envs.begin_anew(
        seed_for(agent.config.run.seed, "env resets", agent.progress.env_step) % 2**31
    )
    agent.progress.learned_step = agent.progress.env_step  # as many updates at once would overfit
    for name, stream in agent.streams.items():
        stream.manual_seed(seed_for(stream.initial_seed(), name, agent.progress.env_step))
