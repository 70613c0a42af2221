"""The native library's threads: every share once, whoever else is there."""

import os
import threading

import pytest
import torch

from rmbpo_fast import kernels
from rmbpo_fast.kernels import backend
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import draw, make_network

pytestmark = pytest.mark.skipif(backend.native is None, reason="the native library isn't installed")
WEIGHTS, BIASES = ([t.float() for t in parts] for parts in make_network(3, (14, 200, 200, 24)))


def _forward(rows):
    """Large enough for several threads: rows * 3 * 47,600 products."""
    return kernels.ensemble_mlp(draw(3, rows, 14).float(), WEIGHTS, BIASES, "swish")


def test_many_regions_give_what_one_thread_gives():
    with using("native"):
        torch.set_num_threads(1)
        expected = [_forward(rows) for rows in (63, 500)]
        torch.set_num_threads(3)
        for _ in range(300):
            assert torch.equal(_forward(63), expected[0])
        for _ in range(30):
            assert torch.equal(_forward(500), expected[1])


def test_threads_of_python_share_the_pool():
    """Whoever finds it taken does all of its own work."""
    with using("native"):
        torch.set_num_threads(1)
        expected = _forward(200)
        torch.set_num_threads(3)
        wrong = []

        def work():
            for _ in range(40):
                if not torch.equal(_forward(200), expected):
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_a_fork_has_no_threads_and_needs_none():
    with using("native"):
        torch.set_num_threads(3)
        expected = _forward(200)  # the pool's threads are there now
        child = os.fork()
        if child == 0:
            same = torch.equal(_forward(200), expected)
            os._exit(0 if same else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
