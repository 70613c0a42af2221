"""Which instruction set the native kernels' tests run with."""

import pytest
import torch

from rmbpo_fast.kernels import backend

native = backend.native
LEVELS = native.levels() if native is not None else ["generic"]


@pytest.fixture(params=[(level, 1) for level in LEVELS] + [(LEVELS[0], 3)], ids=str)
def native_level(request):
    """Three threads: no size divides evenly, and members are cut in the middle."""
    level, threads = request.param
    native.use_level(level)
    torch.set_num_threads(threads)
    yield
    native.use_level(LEVELS[0])
