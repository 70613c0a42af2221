"""A SAC update beside a busy neighbour: `python -m pytest bench/bench_neighbour.py`

One thread alone, two alone, one and two beside a process that computes all the time, in turn. A
neighbour is what a second run, a browser or another user of the machine is.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.presets import preset
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.loop import update_policies
from rmbpo_fast.worlds.tasks import find_task

pytestmark = pytest.mark.skipif(backend.native is None, reason="the native library isn't installed")
UPDATES, ROUNDS = 200, 5


@contextmanager
def _neighbour() -> Iterator[None]:
    """A process of the same priority that is never idle."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.2)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def bench_sac_update_beside_a_neighbour(benchmark, capsys):
    config = preset("hopper").replace(device="cpu")
    agent = build(config, find_task("hopper"), torch.device("cpu"))
    agent.envs.close()
    for buffer in agent.buffers():
        buffer.add_(torch.rand(20_000, buffer.width))
    cases = [(threads, beside) for beside in (False, True) for threads in (1, 2)]
    seconds: dict[tuple[int, bool], list[float]] = {case: [] for case in cases}
    before = torch.get_num_threads()
    with using("native"):
        for _ in range(ROUNDS):
            for threads, beside in cases:
                torch.set_num_threads(threads)
                with _neighbour() if beside else nullcontext():
                    for _ in range(UPDATES):
                        start = time.perf_counter()
                        update_policies(agent, 1)
                        seconds[threads, beside].append(time.perf_counter() - start)
        torch.set_num_threads(before)
        benchmark.pedantic(lambda: update_policies(agent, 1), rounds=3)
    alone = statistics.median(seconds[1, False])
    with capsys.disabled():
        print("\nHopper's SAC update, native fp32, ms: median, mean, 95th percentile")
        for (threads, beside), found in seconds.items():
            found.sort()
            figures = (statistics.median(found), statistics.mean(found), found[-len(found) // 20])
            shown = " ".join(f"{1e3 * figure:7.2f}" for figure in figures)
            where = "beside a busy process" if beside else "alone"
            ratio = f"{figures[0] / alone:5.2f} and {figures[1] / alone:5.2f} times one alone"
            print(f"  {threads} thread(s) {where:22} {shown}   {ratio}")
