"""Native: memory for the results, and addresses for the library."""

import torch
from torch import Tensor

from ...library import implement
from ...native.addresses import address, native


def squashed_gaussian_fwd(
    head: Tensor, noise: Tensor, log_std_min: float, log_std_max: float
) -> tuple[Tensor, Tensor]:
    """(action [..., A], log-density [...])."""
    head, noise = head.contiguous(), noise.contiguous()
    action, log_prob = noise.new_empty(noise.shape), noise.new_empty(noise.shape[:-1])
    native.squashed_gaussian_fwd(
        rows=log_prob.numel(),
        size=noise.shape[-1],
        log_std_min=log_std_min,
        log_std_max=log_std_max,
        head=address(head),
        noise=address(noise),
        action=address(action),
        log_prob=address(log_prob),
        threads=torch.get_num_threads(),
    )
    return action, log_prob


def squashed_gaussian_bwd(
    d_action: Tensor,
    d_log_prob: Tensor,
    head: Tensor,
    noise: Tensor,
    log_std_min: float,
    log_std_max: float,
) -> Tensor:
    """d_head [..., 2 A]."""
    head, noise = head.contiguous(), noise.contiguous()
    d_action, d_log_prob = d_action.contiguous(), d_log_prob.contiguous()
    d_head = head.new_empty(head.shape)
    native.squashed_gaussian_bwd(
        rows=d_log_prob.numel(),
        size=noise.shape[-1],
        log_std_min=log_std_min,
        log_std_max=log_std_max,
        head=address(head),
        noise=address(noise),
        d_action=address(d_action),
        d_log_prob=address(d_log_prob),
        d_head=address(d_head),
        threads=torch.get_num_threads(),
    )
    return d_head


implement("native", "squashed_gaussian_fwd", squashed_gaussian_fwd)
implement("native", "squashed_gaussian_bwd", squashed_gaussian_bwd)
