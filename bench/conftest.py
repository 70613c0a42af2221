"""Timing several things in turn: these machines are shared, so only ratios taken together count."""

import statistics
import time
from collections.abc import Callable, Mapping

import pytest

from rmbpo_fast.kernels.backend import active, choose_backend, use


@pytest.hookimpl(
    tryfirst=True
)  # before pytest-xdist starts the processes that pyproject.toml asks for
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One process: others beside it would be timed too."""
    if hasattr(config.option, "numprocesses"):  # pytest-xdist is installed
        config.option.numprocesses = 0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the benchmarks that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="takes minutes: --full")
    for item in items:
        if "full" in item.keywords and not config.getoption("--full"):
            item.add_marker(skip)


@pytest.fixture
def race(request, benchmark, capsys):
    """race(rivals, calls, rounds): times them in turn and prints each beside the first.

    rivals: name -> what to call. The figure is the median of the rounds, with the 20 % and the 80 %
    quantile; `benchmark` records the last rival, and `--benchmark-json` keeps all.
    """

    def run(rivals: Mapping[str, Callable[[], object]], calls: int, rounds: int = 9) -> None:
        for function in rivals.values():  # warm-up, compilation included
            for _ in range(2):
                function()
        seconds: dict[str, list[float]] = {name: [] for name in rivals}
        for _ in range(rounds):
            for name, function in rivals.items():
                start = time.perf_counter()
                for _ in range(calls):
                    function()
                seconds[name].append((time.perf_counter() - start) / calls)
        median = {name: statistics.median(values) for name, values in seconds.items()}
        benchmark.extra_info.update(median)
        benchmark.pedantic(function, rounds=3, iterations=calls)
        base = next(iter(median.values()))
        with capsys.disabled():
            print(f"\n{request.node.name}")
            for name, values in seconds.items():
                low, *_, high = statistics.quantiles(values, n=5)
                print(
                    f"  {name:24} {_time(median[name])}  [{_time(low)} .. {_time(high)}]"
                    f"  ratio {median[name] / base:5.2f}"
                )

    return run


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:8.2f} ms" if seconds > 1e-3 else f"{1e6 * seconds:8.1f} us"


def pytest_report_header() -> str:
    import torch

    before = active()
    facts = choose_backend("auto", torch.device("cpu"), "auto")
    use(*before)  # a benchmark names the kernels that it times
    return "machine: " + ", ".join(f"{name} {value}" for name, value in facts.items())
