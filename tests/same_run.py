"""Two runs that must be the same to the last bit."""

import numpy as np
import torch

from conftest import read_metrics
from rmbpo_fast.run.checkpoint import load_newest
from rmbpo_fast.run.journal import read_journal


def _tensors(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{key}/")
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{key}", value


def assert_same_run(found, expected, width):
    """Metrics, journal (rows of `width` numbers) and the last checkpoint of two folders."""
    assert read_metrics(found) == read_metrics(expected)
    np.testing.assert_array_equal(
        read_journal(found / "journal", width), read_journal(expected / "journal", width)
    )
    a, b = (dict(_tensors(load_newest(path, False)[1])) for path in (expected, found))
    assert a.keys() == b.keys()
    assert len(a) > 60
    for name in a:
        assert torch.equal(a[name], b[name]), name
