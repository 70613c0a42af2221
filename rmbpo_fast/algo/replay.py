"""Ring buffer of transitions on one device: add, sample. Adding and sampling never ask the host."""

from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.worlds.transition import Transition


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """[..., W]: table [N, W] at rows [...]. `table[rows]` takes longer on a CPU."""
    return table.index_select(0, rows.flatten()).unflatten(0, rows.shape)


class ReplayBuffer:
    """Transitions packed as rows [obs, action, reward, next_obs, terminated] of float32.

    One packed row per transition means one gather per sample. `size` and `cursor` are tensors, so
    that a masked add and a sample run on the device without a round trip. There is one row more
    than the capacity: a masked add writes the dropped rows to it.
    """

    def __init__(
        self, obs_size: int, action_size: int, capacity: int, device: torch.device | str = "cpu"
    ) -> None:
        if min(obs_size, action_size, capacity) < 1:
            raise ValueError(
                "expected sizes and capacity of at least 1, found "
                f"obs_size {obs_size}, action_size {action_size}, capacity {capacity}"
            )
        self.splits = [obs_size, action_size, 1, obs_size, 1]
        self._allocate(capacity, device)

    def _allocate(self, capacity: int, device: torch.device | str) -> None:
        self.capacity = capacity
        self.rows = torch.zeros(capacity + 1, sum(self.splits), device=device)
        self.size = torch.zeros((), dtype=torch.int64, device=device)
        self.cursor = torch.zeros((), dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return int(self.size)

    @property
    def width(self) -> int:
        """W, numbers per transition."""
        return self.rows.shape[1]

    def pack(self, transition: Transition) -> Tensor:
        """Rows [B, W] of a transition, on the device where it lies."""
        obs, action, reward, next_obs, terminated = transition
        columns = [obs, action, reward[:, None], next_obs, terminated[:, None]]
        return torch.cat([column.float() for column in columns], dim=1)

    def unpack(self, rows: Tensor) -> Transition:
        """The inverse of `pack`: views into rows [..., W]."""
        obs, action, reward, next_obs, terminated = rows.split(self.splits, dim=-1)
        return Transition(obs, action, reward[..., 0], next_obs, terminated[..., 0])

    def add_(self, rows: Tensor, keep: Tensor | None = None) -> None:
        """Appends packed rows, the oldest go first.

        Args:
            rows: [B, W] float32 with B <= capacity.
            keep: [B] bool; False drops a row. All are kept if absent.
        """
        if rows.shape[0] > self.capacity or rows.shape[1] != self.width:
            raise ValueError(
                f"expected at most {self.capacity} rows of {self.width}, found {tuple(rows.shape)}"
            )
        if keep is None:
            keep = torch.ones(rows.shape[0], dtype=torch.bool, device=rows.device)
        order = torch.cumsum(keep, dim=0)  # [B] 1 for the first kept row
        slots = (self.cursor + order - 1) % self.capacity
        self.rows[torch.where(keep, slots, self.capacity)] = rows
        count = order[-1] if rows.shape[0] else torch.zeros_like(self.size)
        self.cursor.copy_((self.cursor + count) % self.capacity)
        self.size.copy_((self.size + count).clamp(max=self.capacity))

    def sample_rows(
        self, count: int, generator: torch.Generator, newest: int | None = None
    ) -> Tensor:
        """[count, W], drawn uniformly with replacement. The buffer must not be empty.

        Args:
            newest: draw from so many of the newest rows; from all if absent.
        """
        # float64: 24 random bits would favour some rows of a buffer of millions
        uniform = torch.rand(
            count, dtype=torch.float64, device=self.rows.device, generator=generator
        )
        if newest is None:
            return self.rows.index_select(0, (uniform * self.size).long())
        back = 1 + (uniform * self.size.clamp(max=newest)).long()
        return self.rows.index_select(0, (self.cursor - back) % self.capacity)

    def sample(self, count: int, generator: torch.Generator) -> Transition:
        """`count` transitions, drawn uniformly with replacement. The buffer must not be empty."""
        return self.unpack(self.sample_rows(count, generator))

    def oldest_first(self) -> Tensor:
        """The stored rows [size, W] in the order in which they came."""
        size, cursor = int(self.size), int(self.cursor)
        if size < self.capacity:
            return self.rows[:size]
        return torch.cat([self.rows[cursor:size], self.rows[:cursor]])

    def all(self) -> Transition:
        """Every stored transition, oldest first."""
        return self.unpack(self.oldest_first())

    def resize_(self, capacity: int) -> None:
        """Another capacity; the newest rows that fit stay."""
        rows = self.oldest_first()[-capacity:].clone()
        self._allocate(capacity, self.rows.device)
        self.add_(rows)

    def state_dict(self) -> dict[str, Any]:
        """Stored rows and the ring's geometry: sampling after `load_state_dict` is bit-exact."""
        return {
            "capacity": self.capacity,
            "cursor": self.cursor,
            "rows": self.rows[: len(self)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        rows = state["rows"]
        self._allocate(state["capacity"], self.rows.device)
        self.rows[: len(rows)] = rows.to(self.rows.device)
        self.size.fill_(len(rows))
        self.cursor.copy_(state["cursor"])


def sample_mixed(
    real: ReplayBuffer,
    imagined: ReplayBuffer,
    batches: int,
    batch_size: int,
    real_fraction: float,
    generator: torch.Generator,
) -> list[Transition]:
    """Batches with int(batch_size * real_fraction) real rows each, the rest imagined (MBPO).

    All are drawn at once: one batch's draw is a few small operations, which take as long as
    those of twenty.
    """
    from_real = int(batch_size * real_fraction)
    rows = [
        buffer.sample_rows(batches * count, generator).unflatten(0, (batches, count))
        for buffer, count in ((real, from_real), (imagined, batch_size - from_real))
    ]
    return [real.unpack(batch) for batch in torch.cat(rows, dim=1)]
