"""Timing two things in turn: these machines are shared, so only ratios taken together count."""

import statistics
import time
from collections.abc import Callable

import pytest

from rmbpo_fast.kernels.backend import active, choose_backend, use


@pytest.fixture
def compare(request, benchmark, capsys):
    """compare(reference, candidate, calls, names): times both in turn and prints the ratio.

    `benchmark` records the candidate, so `--benchmark-json` keeps the figures.
    """

    def run(
        reference: Callable[[], object],
        candidate: Callable[[], object],
        calls: int,
        rounds: int = 7,
        names: tuple[str, str] = ("eager", "compiled"),
    ) -> None:
        for function in (reference, candidate):  # warm-up, compilation included
            for _ in range(2):
                function()
        seconds: dict[str, list[float]] = {"reference": [], "candidate": []}
        for _ in range(rounds):
            for name, function in (("reference", reference), ("candidate", candidate)):
                start = time.perf_counter()
                for _ in range(calls):
                    function()
                seconds[name].append((time.perf_counter() - start) / calls)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        ratio = median["candidate"] / median["reference"]
        benchmark.extra_info.update(median, ratio=ratio)
        benchmark.pedantic(candidate, rounds=rounds, iterations=calls)
        with capsys.disabled():
            print(
                f"\n{request.node.name}: {names[0]} {1e3 * median['reference']:.2f} ms, "
                f"{names[1]} {1e3 * median['candidate']:.2f} ms, ratio {ratio:.2f}"
            )

    return run


def pytest_report_header() -> str:
    import torch

    before = active()
    facts = choose_backend("auto", torch.device("cpu"), "fp32")
    use(*before)  # a benchmark names the kernels that it times
    return "machine: " + ", ".join(f"{name} {value}" for name, value in facts.items())
