"""Which precision of the native library's products is the faster one on this processor.

Instruction sets don't tell: a processor may have bf16 products and be twice as fast in float32.
"""

import time

import torch

from ..backend import using
from ..ops.ensemble_mlp.op import ensemble_mlp
from ..testing import make_network

# two members of the dynamics ensemble on one batch
MEMBERS, ROWS, SIZES = 2, 256, (14, 200, 200, 200, 200, 24)
ROUNDS = 7


def gradient_seconds(precision: str) -> float:
    """Seconds of a forward and backward pass of a small dynamics ensemble."""
    weights, biases = (
        [t.float().requires_grad_() for t in parts] for parts in make_network(MEMBERS, SIZES)
    )
    x = torch.zeros(MEMBERS, ROWS, SIZES[0])
    with using("native", precision):
        start = time.perf_counter()
        loss = ensemble_mlp(x, weights, biases, "swish").sum()
        torch.autograd.grad(loss, [*weights, *biases])
        return time.perf_counter() - start


def faster_precision() -> str:
    """`fp32` or `bf16`: timed in turn for some tens of milliseconds."""
    rounds = [(gradient_seconds("fp32"), gradient_seconds("bf16")) for _ in range(ROUNDS)]
    # the least of each: whatever else the machine does can only add
    fp32, bf16 = (min(seconds) for seconds in zip(*rounds, strict=True))
    return "fp32" if fp32 <= bf16 else "bf16"
