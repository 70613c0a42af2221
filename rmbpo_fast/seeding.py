"""One independent random stream per purpose, so that using one part leaves the others' alone.

That is what makes RMBPO with eta = 0 equal MBPO number for number: the adversary draws from a
stream of its own.
"""

import hashlib

import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """63 bits from a run's seed and a purpose; purposes share no stream."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(
    seed: int, *purpose: str | int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator on `device` for a purpose."""
    return torch.Generator(device).manual_seed(seed_for(seed, *purpose))
