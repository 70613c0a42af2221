"""A stand-in for the CUDA graph API on a CPU: records PyTorch operations, replays them in place.

As on a GPU, recording computes nothing that lasts, a replay writes to the recorded tensors, and
whatever asks for a value in the middle is refused.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def _tensors(values):
    return [t for t in tree_leaves(values) if isinstance(t, torch.Tensor)]


def _is_alias(func):
    """A view of what is there, or an argument changed in place: no memory of its own."""
    return any(r.alias_info is not None for r in func._schema.returns)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self.saved, self.made = [], {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.__name__.startswith(("_local_scalar_dense", "nonzero", "is_nonzero")):
            raise RuntimeError("operation not permitted when stream is capturing")
        for place, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[place] if place < len(args) else kwargs.get(argument.name)
                for tensor in _tensors(value):
                    storage = tensor.untyped_storage()
                    if storage.data_ptr() not in self.made | self.saved.keys():
                        self.saved[storage.data_ptr()] = (storage, storage.clone())
        out = func(*args, **kwargs)
        if not _is_alias(func):
            self.made |= {t.untyped_storage().data_ptr() for t in _tensors(out)}
        self.calls.append((func, args, kwargs, out))
        return out


class RecordedGraphs:
    """Same methods as `rmbpo_fast.run.graph.CudaGraphs`."""

    def run(self, function):
        return function()

    def record(self, function, generators):
        states = [g.get_state() for g in generators]
        recorder = _Recorder()
        with recorder:
            outputs = function()
        for storage, before in recorder.saved.values():
            storage.copy_(before)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)

        @torch.no_grad()
        def replay():
            for func, args, kwargs, out in recorder.calls:
                new = func(*args, **kwargs)
                if _is_alias(func):
                    continue
                for static, fresh in zip(_tensors(out), _tensors(new), strict=True):
                    static.detach().copy_(fresh)

        return replay, outputs
