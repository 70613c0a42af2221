"""Named tuples of tensors that travel between the parts."""

from typing import NamedTuple

from torch import Tensor


class Transition(NamedTuple):
    """B steps of an environment, real or imagined.

    Args:
        obs: [B, S] float32, in the environment's own units.
        action: [B, A] float32 in [-1, 1]; the policy's action, before any environment noise.
        reward: [B] float32.
        next_obs: [B, S] float32; the state that the step led to, never a reset's first state.
        terminated: [B] float32, 1 where the task ended; a time limit is not a termination.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
