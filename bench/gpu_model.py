"""The tables of GPU_MODEL.md: launches, FLOPs and bytes at Hopper's sizes, and what they imply.

A model from datasheets, not a measurement. `python bench/gpu_model.py`; it needs no GPU: launches
are counted on the meta device, where operations run without numbers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import SimpleNamespace
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rmbpo_fast.kernels.backend import using
from rmbpo_fast.presets import preset
from rmbpo_fast.run import agent as agents
from rmbpo_fast.run.agent import Agent
from rmbpo_fast.run.loop import make_steps
from rmbpo_fast.worlds.tasks import find_task

S, A, E, B, ROWS = 11, 3, 7, 256, 100_000
D = S + 1
DYNAMICS = (S + A, 200, 200, 200, 200, 2 * D)
ACTOR, CRITIC = (S, 256, 256, 2 * A), (S + A, 256, 256, 1)
# dense TF32 FLOP/s, memory bytes/s: datasheets. L2 bytes/s and microseconds: assumptions.
GPUS = {"H100 SXM": (494e12, 3.35e12, 5.5e12), "RTX 4090": (82.6e12, 1.008e12, 4e12)}
EAGER_US, NODE_US = 6.0, 2.0  # host's time for an eager operation; a dependent node of a graph


def weights(sizes: tuple[int, ...]) -> int:
    """Numbers in the matrices of one network."""
    return sum(a * b for a, b in pairwise(sizes))


# FLOPs: 2 per weight and row forward; backward 2 for the inputs and 2 for the weights
W_DYN, W_ACT, W_CRIT = weights(DYNAMICS), weights(ACTOR), weights(CRITIC)
V_FLOPS = 2 * W_ACT + 2 * 2 * W_CRIT  # V(s') of one row: actor and twin critics
FLOPS = {
    # actor twice, target critics, critics with gradients, critics for the actor, actor's gradient
    "SAC update": B * (2 * 2 * W_ACT + 4 * W_CRIT + 12 * W_CRIT + 8 * W_CRIT + 4 * W_ACT),
    "ensemble step": E * B * 6 * W_DYN,
    "adversary step": E * B * (8 * W_DYN + 2 * V_FLOPS),  # p forward, g with gradients, V twice
    "imagined step": ROWS * (2 * W_ACT + 2 * 2 * W_DYN),
}
# L2 bytes of the fused kernels: each block of 16 or 32 rows reads the weights; activations go out
# and in again
ADAM = 7 * 4  # bytes per weight: read p, g, m, v, write p, m, v


def _l2(weight_count: int, rows: int, block: int, widths: int, passes: int) -> float:
    return passes * 4 * (rows / block * weight_count + 2 * rows * widths)


L2_BYTES = {
    "SAC update": _l2(W_ACT, B, 16, 512, 3)
    + 2 * _l2(W_CRIT, B, 16, 512, 5)
    + ADAM * (W_ACT + 2 * W_CRIT),
    "ensemble step": E * (_l2(W_DYN, B, 16, 800, 3) + ADAM * W_DYN),
    "adversary step": E
    * (
        _l2(W_DYN, B, 16, 800, 4)
        + ADAM * W_DYN
        + 2 * (_l2(W_ACT, B, 16, 512, 1) + 2 * _l2(W_CRIT, B, 16, 512, 1))
    ),
    "imagined step": _l2(W_ACT, ROWS, 32, 512, 1) + 2 * _l2(W_DYN, ROWS, 32, 800, 1),
}


class Launches(TorchDispatchMode):
    """Counts operations that compute: no views, no allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returns = func._schema.returns
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not view and not func.__name__.startswith(("empty", "new_empty", "_record_function")):
            # our two backward launches are one operation, the weights' being the second
            double = "ensemble_mlp_bwd" in func.__name__ and args[-1]
            self.count += 2 if double or "adam_" in func.__name__ else 1
        return func(*args, **(kwargs or {}))


def _parts() -> Agent:
    agent = agents.build(CONFIG, find_task("hopper"), torch.device("meta"))
    widths = (S + A, D)
    agent.world_model.table = tuple(torch.empty(20_000, n, device="meta") for n in widths)
    return agent


@contextmanager
def _without_numbers() -> Iterator[None]:
    """Lets the parts be built on the meta device: no generator there, no environment, and an
    optimiser that would refuse it."""
    original, optimizer = agents.generator_for, sys.modules["torch.optim.optimizer"]

    def generator_for(*purpose, device="cpu"):
        return original(*purpose)

    stub = mock.Mock(return_value=SimpleNamespace(obs_size=S, action_size=A))
    supported = mock.Mock(return_value=["meta"])
    with (
        mock.patch.object(agents, "generator_for", generator_for),
        mock.patch.object(agents, "Envs", stub),
        mock.patch.object(optimizer, "_get_fused_kernels_supported_devices", supported),
    ):
        yield


CONFIG = preset("hopper").replace(rollout_rows=ROWS)


def launches(backend: str) -> dict[str, int]:
    """Launches of one step of each captured function."""
    with using(backend), _without_numbers():
        agent = _parts()
        steps = make_steps(agent)
        rows = torch.zeros(1, E, B, dtype=torch.int64, device="meta")
        parts: dict[str, Callable[[], object]] = {
            "SAC update": lambda: steps.update(1),
            "ensemble step": lambda: steps.fit_model(rows),
            "adversary step": lambda: steps.fit_adversary(rows),
            "imagined step": lambda: steps.imagine(1, True, agent.config.rollout.rollout_rows),
        }
        found = {}
        for name, function in parts.items():
            function()  # optimisers make their states once
            with Launches() as counter:
                function()
            found[name] = counter.count
    return found


def main() -> None:
    """Prints both tables as Markdown."""
    eager, fused = launches("reference"), launches("triton")
    print("| | launches, PyTorch | launches, ours | GFLOP | L2 MB, ours |\n|---|---|---|---|---|")
    for name in FLOPS:
        print(
            f"| {name} | {eager[name]} | {fused[name]} | {FLOPS[name] / 1e9:.2f} | "
            f"{L2_BYTES[name] / 1e6:.0f} |"
        )
    print("\n| model, us | eager launches | graph, PyTorch | graph, ours | TF32 | L2 | bound by |")
    print("|---|---|---|---|---|---|---|")
    for gpu, (flops, _, l2) in GPUS.items():
        for name in FLOPS:
            times = {
                "launches": fused[name] * NODE_US,
                "arithmetic": FLOPS[name] / flops * 1e6,
                "L2": L2_BYTES[name] / l2 * 1e6,
            }
            bound = max(times, key=lambda term: times[term])
            columns = (
                f"{eager[name] * EAGER_US:.0f}",
                f"{eager[name] * NODE_US:.0f}",
                f"{times['launches']:.0f}",
                f"{times['arithmetic']:.1f}",
                f"{times['L2']:.1f}",
                bound,
            )
            print(f"| {gpu}, {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
