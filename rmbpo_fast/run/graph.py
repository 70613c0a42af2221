"""Captures a fixed-shape function into a CUDA graph and replays it. Knows nothing of RL.

A graph is a recording of kernel launches with their addresses: a replay costs one call instead of
hundreds. What follows from that is all that this file is about: inputs are copied to the addresses
that were recorded, outputs lie at fixed addresses, and a graph is thrown away as soon as something
that it touches has moved.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmbpo_fast.errors import CaptureError

# Eager calls before the capture: kernels are compiled and loaded, optimiser states are made.
WARM_UP_CALLS = 2


class CudaGraphs:
    """What `Captured` needs of CUDA. Tests put a recorder in its place that runs on a CPU."""

    def __init__(self) -> None:
        self._side = torch.cuda.Stream()

    def run(self, function: Callable[[], Any]) -> Any:
        """Runs eagerly on a side stream: a capture needs what warmed up on one."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            result = function()
        torch.cuda.current_stream().wait_stream(self._side)
        return result

    def record(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator]
    ) -> tuple[Callable[[], None], Any]:
        """(replay, outputs). Nothing is computed yet."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:  # else each replay would repeat the recorded noise
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            outputs = function()
        return graph.replay, outputs


class _Graph(NamedTuple):
    replay: Callable[[], None]
    inputs: list[Tensor]
    outputs: Any
    places: list[int]


class Captured:
    """A function that is replayed as a graph.

    The first calls run eagerly and count; then a call with the same shapes and values is captured
    once and replayed from there on. Another shape or value, such as a longer horizon, gets a graph
    of its own. Nothing is computed twice, so a run's numbers don't depend on when it captures.

    Args:
        function: takes tensors and hashable values, returns a tensor, a dict or tuple of them, or
            None. Everything else that it reads or writes is among `touched`, and is changed in
            place only. It must not wait for the device nor depend on values that lie on it.
        touched: the tensors as they are now; where one has moved, the graphs are dropped.
        generators: those that the function draws from; each replay goes on in their streams.
        graphs: the CUDA API, or its stand-in.
        name: what a message calls the function.
        keep: graphs kept, the latest used; each holds its own memory.
    Raises:
        CaptureError: on a call, where the function isn't fit for capture, with the reason.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        touched: Callable[[], Iterable[Tensor]],
        generators: Sequence[torch.Generator],
        graphs: Any,
        name: str,
        keep: int = 4,
    ) -> None:
        self._name = name
        self._function, self._touched = function, touched
        self._generators, self._api, self._keep = generators, graphs, keep
        self._warm: dict[Any, tuple[int, list[int]]] = {}  # eager calls, places after the last
        self._graphs: dict[Any, _Graph] = {}
        self.captures = 0

    def __call__(self, *arguments: Any) -> Any:
        """The function's result. A replay's is overwritten by the next one."""
        key = tuple(_signature(a) for a in arguments)
        places = self._places()
        self._graphs = {k: g for k, g in self._graphs.items() if g.places == places}
        graph = self._graphs.pop(key, None)
        if graph is None:
            calls, warm = self._warm.get(key, (0, []))
            # what has moved since may have to be made anew, such as an optimiser's state
            if calls < WARM_UP_CALLS or warm != places:
                result = self._run(arguments)
                self._warm[key] = (calls + 1, self._places())
                return result
            graph = self._capture(arguments, places)
        self._graphs[key] = graph  # the latest used is the last
        while len(self._graphs) > self._keep:
            del self._graphs[next(iter(self._graphs))]
        given = [a for a in arguments if isinstance(a, Tensor)]
        for static, tensor in zip(graph.inputs, given, strict=True):
            static.copy_(tensor)
        graph.replay()
        return graph.outputs

    def _places(self) -> list[int]:
        return [t.data_ptr() for t in self._touched()]

    def _run(self, arguments: tuple[Any, ...]) -> Any:
        try:
            return self._api.run(lambda: self._function(*arguments))
        except RuntimeError as error:
            if type(error).__module__.startswith("torch._dynamo"):  # it met what it can't compile
                raise self._unfit(error) from error
            raise

    def _capture(self, arguments: tuple[Any, ...], places: list[int]) -> _Graph:
        static = [a.clone() if isinstance(a, Tensor) else a for a in arguments]
        try:
            replay, outputs = self._api.record(lambda: self._function(*static), self._generators)
        except (RuntimeError, TypeError) as error:
            raise self._unfit(error) from error
        if self._places() != places:
            raise self._unfit("it replaces a tensor that it touches")
        for value in outputs.values() if isinstance(outputs, dict) else _as_tuple(outputs):
            if not isinstance(value, Tensor):
                raise self._unfit(
                    f"expected tensors as results, found {type(value).__name__}, which no replay "
                    "would change"
                )
        self.captures += 1
        return _Graph(replay, [s for s in static if isinstance(s, Tensor)], outputs, places)

    def _unfit(self, reason: object) -> CaptureError:
        return CaptureError(
            f"{self._name} can't become a CUDA graph (without --compile nothing has to): {reason}"
        )


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    if outputs is None:
        return ()
    return tuple(outputs) if isinstance(outputs, tuple) else (outputs,)


def _signature(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return tuple(argument.shape), argument.dtype, argument.device
    return argument
