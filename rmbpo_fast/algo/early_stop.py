"""When a fit ends: keeps the best weights and counts the looks without an improvement."""

from collections.abc import Iterable

import torch
from torch import Tensor

# Standard normal's 90 % point: chance alone calls one look in ten an improvement.
SIGNIFICANT_Z = 1.2816


def improves(score: Tensor, on: Tensor) -> bool:
    """Whether lower scores of the same held-out rows are no chance: a one-sided, paired z-test.

    Args:
        score, on: [B] each, the new ones and those to beat; lower is better.
    """
    gain = on - score
    return bool(gain.mean() > SIGNIFICANT_Z * gain.std(correction=0) / len(gain) ** 0.5)


class EarlyStop:
    """Keeps the best weights of E stacked networks.

    Args:
        parameters: [E, ., .] each, changed in place by whoever trains them.
    Attributes:
        stale: looks since the last one that counts.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._now = list(parameters)
        self._best = [parameter.detach().clone() for parameter in self._now]
        self.stale = 0

    @torch.no_grad()
    def look(self, improved: Tensor, counts: bool | None = None) -> None:
        """Keeps the present weights of the networks that improved.

        Args:
            improved: [E] bool, or [] for all.
            counts: whether this look makes the fit go on; any improvement does if absent.
        """
        for best, now in zip(self._best, self._now, strict=True):
            best.copy_(torch.where(improved.reshape(-1, 1, 1), now, best))
        self.stale = 0 if (improved.any() if counts is None else counts) else self.stale + 1

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the best weights back."""
        for best, now in zip(self._best, self._now, strict=True):
            now.copy_(best)
