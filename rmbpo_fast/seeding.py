"""One independent random stream per purpose, so that using one part leaves the others' alone.

That is what makes RMBPO with eta = 0 equal MBPO number for number: the adversary draws from a
stream of its own.
"""

import hashlib
import random

import numpy as np
import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """63 bits from a run's seed and a purpose; purposes share no stream."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_everything(seed: int, env_step: int = 0) -> None:
    """The global generators of Python, NumPy and PyTorch, which a user's task may draw from.

    Args:
        env_step: where a run goes on; it must not draw again what it drew before.
    """
    random.seed(seed_for(seed, "python", env_step))
    np.random.seed(seed_for(seed, "numpy", env_step) % 2**32)
    torch.manual_seed(seed_for(seed, "torch", env_step))


def generator_for(
    seed: int, *purpose: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator on `device` for a purpose."""
    return torch.Generator(device).manual_seed(seed_for(seed, *purpose))
