"""Native: memory for results and intermediate numbers, and addresses for the library."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..addresses import addresses, native

if TYPE_CHECKING:
    from .op import CriticBatch, Layers


def critic_gradients(
    batch: "CriticBatch",
    actor: "Layers",
    critic: "Layers",
    target: "Layers",
    log_temperature: Tensor,
    log_std_bounds: tuple[float, float],
    gamma: float,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """See `sac_critic_gradients`."""
    (rows, size), actions = batch.obs.shape, batch.noise.shape[-1]
    columns = [batch.obs, batch.action, batch.reward, batch.next_obs, batch.terminated]
    stride = batch.obs.stride(0)
    if any(t.stride(0) != stride or (t.dim() == 2 and t.stride(1) != 1) for t in columns):
        # not the columns of packed rows
        packed = torch.cat([t.reshape(rows, -1) for t in columns], dim=1)
        columns = list(packed.split([size, actions, 1, size, 1], dim=1))
        stride = packed.shape[1]
    noise = batch.noise.contiguous()
    loss, q_mean = noise.new_empty(()), noise.new_empty(())
    d_weights = [torch.empty_like(w) for w in critic.weights]
    d_biases = [torch.empty_like(b) for b in critic.biases]
    workspace = _workspace(rows, actor, critic)
    native.sac_critic_gradients(
        [rows, size, actions, stride],
        [math.exp(log_temperature.item()), *log_std_bounds],
        gamma,
        addresses([*columns, noise]),
        actor.sizes(),
        addresses(actor.weights),
        addresses(actor.biases),
        critic.sizes(),
        addresses(critic.weights),
        addresses(critic.biases),
        addresses(target.weights),
        addresses(target.biases),
        workspace.data_ptr(),
        loss.data_ptr(),
        q_mean.data_ptr(),
        addresses(d_weights),
        addresses(d_biases),
        torch.get_num_threads(),
    )
    return loss, q_mean, [*d_weights, *d_biases]


def actor_gradients(
    obs: Tensor,
    noise: Tensor,
    actor: "Layers",
    critic: "Layers",
    log_temperature: Tensor,
    log_std_bounds: tuple[float, float],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """See `sac_actor_gradients`."""
    (rows, size), actions = obs.shape, noise.shape[-1]
    if obs.stride(1) != 1:
        obs = obs.contiguous()
    noise = noise.contiguous()
    loss, log_prob = noise.new_empty(()), noise.new_empty(rows)
    d_weights = [torch.empty_like(w) for w in actor.weights]
    d_biases = [torch.empty_like(b) for b in actor.biases]
    workspace = _workspace(rows, actor, critic)
    native.sac_actor_gradients(
        [rows, size, actions, obs.stride(0)],
        [math.exp(log_temperature.item()), *log_std_bounds],
        addresses([obs, noise]),
        actor.sizes(),
        addresses(actor.weights),
        addresses(actor.biases),
        critic.sizes(),
        addresses(critic.weights),
        addresses(critic.biases),
        workspace.data_ptr(),
        loss.data_ptr(),
        log_prob.data_ptr(),
        addresses(d_weights),
        addresses(d_biases),
        torch.get_num_threads(),
    )
    return loss, log_prob, [*d_weights, *d_biases]


def _workspace(rows: int, actor: "Layers", critic: "Layers") -> Tensor:
    """Enough for every intermediate number of either function.

    Of a network: its input, each layer's output and the gradient to it; the critics are two, and
    run twice for the critics' loss. 64 pieces at most are rounded up to 16 numbers.
    """
    per_row = 3 * sum(actor.sizes()) + 8 * sum(critic.sizes())
    return torch.empty(rows * per_row + 64 * 16)
