"""When a fit ends: keeps the best weights and counts the checks without an improvement."""

from collections.abc import Iterable

import torch
from torch import Tensor


class EarlyStop:
    """Keeps the best weights of E stacked networks.

    Args:
        parameters: [E, ., .] each, changed in place by whoever trains them.
    Attributes:
        stale: checks since the last improvement.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._now = list(parameters)
        self._best = [parameter.detach().clone() for parameter in self._now]
        self.stale = 0

    @torch.no_grad()
    def look(self, improved: Tensor) -> None:
        """Keeps the present weights of the networks that improved: [E] bool, or [] for all."""
        for best, now in zip(self._best, self._now, strict=True):
            best.copy_(torch.where(improved.reshape(-1, 1, 1), now, best))
        self.stale = 0 if improved.any() else self.stale + 1

    @torch.no_grad()
    def restore(self) -> None:
        """Puts the best weights back."""
        for best, now in zip(self._best, self._now, strict=True):
            now.copy_(best)
