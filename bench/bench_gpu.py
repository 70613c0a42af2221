"""On a GPU: what --compile brings, at Hopper's sizes. `python -m pytest bench -k gpu`

Each of the four captured functions, eagerly and as a CUDA graph, with PyTorch's and with our
kernels, timed in turn in one run; one line for each, with its speed beside eager PyTorch's in
float32. "triton, compiled, graph" is what --compile does.
"""

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import triton

from rmbpo_fast.kernels.backend import using
from rmbpo_fast.presets import preset
from rmbpo_fast.run.accelerate import capture
from rmbpo_fast.run.agent import Agent, build
from rmbpo_fast.run.graph import CudaGraphs
from rmbpo_fast.run.loop import make_steps
from rmbpo_fast.worlds.tasks import find_task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
CONFIG = preset("hopper").replace(device="cuda")
HORIZON = 5


class Variant(NamedTuple):
    backend: str
    precision: str
    how: str

    @property
    def choice(self) -> tuple[str, str, bool]:
        """What the operations use, and whether torch.compile fuses what lies between them."""
        return self.backend, self.precision, "compiled" in self.how


EAGER = Variant("reference", "fp32", "eager")
VARIANTS = [
    EAGER,
    Variant("reference", "fp32", "compiled"),
    Variant("reference", "fp32", "graph"),
    Variant("reference", "fp32", "compiled, graph"),
    Variant("triton", "fp32", "graph"),
    Variant("triton", "fp32", "compiled, graph"),
    Variant("triton", "tf32", "compiled, graph"),
    Variant("triton", "bf16", "compiled, graph"),
]


def _parts() -> Agent:
    agent = build(CONFIG, find_task("hopper"), torch.device("cuda"))
    agent.players[0].imagined.resize_(CONFIG.rollout.rollout_rows * HORIZON)
    for buffer in agent.buffers():
        buffer.add_(torch.rand(20_000, buffer.width, device="cuda"))
    agent.world_model.table = tuple(
        torch.randn(20_000, n, device="cuda") for n in (14, agent.world_model.outputs)
    )
    return agent


def _update(agent: Agent, steps: Any) -> tuple[Callable[[], Any], int, str]:
    return lambda: steps.update(20), 20, "SAC update, batch 256"


def _world_model(agent: Agent, steps: Any) -> tuple[Callable[[], Any], int, str]:
    rows = torch.randint(20_000, (16, 7, 256), device="cuda")
    return lambda: steps.fit_model(rows), 16, "ensemble gradient step"


def _adversary(agent: Agent, steps: Any) -> tuple[Callable[[], Any], int, str]:
    rows = torch.randint(20_000, (25, 7, 256), device="cuda")
    return lambda: steps.fit_adversary(rows), 25, "adversary gradient step"


def _imagine(agent: Agent, steps: Any) -> tuple[Callable[[], Any], int, str]:
    return lambda: steps.imagine(HORIZON, True, 100_000), HORIZON, "imagined step of 100,000 rows"


@pytest.mark.parametrize("part", [_update, _world_model, _adversary, _imagine])
def bench_gpu(part, benchmark, capsys):
    calls = {}
    for variant in VARIANTS:
        agent = _parts()
        steps = capture(agent, CudaGraphs()) if "graph" in variant.how else make_steps(agent)
        call, count, what = part(agent, steps)
        with using(*variant.choice):
            for _ in range(4):  # warm-up, compilation and capture included
                call()
        calls[variant] = call
    seconds = {variant: [] for variant in VARIANTS}
    for _ in range(9):
        for variant, call in calls.items():
            with using(*variant.choice):
                seconds[variant].append(_time(call) / count)
    median = {variant: statistics.median(times) for variant, times in seconds.items()}
    benchmark.extra_info.update({" ".join(variant): value for variant, value in median.items()})
    default = VARIANTS[5]  # what --compile does
    with using(*default.choice):
        benchmark.pedantic(lambda: (calls[default](), torch.cuda.synchronize()), rounds=3)
    with capsys.disabled():
        device, versions = torch.cuda.get_device_name(), (torch.__version__, triton.__version__)
        print("\n{}, torch {}, Triton {}: one {}".format(device, *versions, what))
        for variant, value in median.items():
            ratio = median[EAGER] / value
            name = "{:9} {:4} {:15}".format(*variant)
            print(f"  {name} {1e6 * value:8.1f} us  {ratio:5.1f} times eager PyTorch's speed")


def _time(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3
