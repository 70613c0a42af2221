"""Public operations `sac_critic_gradients` and `sac_actor_gradients`, of the native backend only.

Their readable truth is `SAC.critic_objective` and `SAC.actor_objective` with autograd, which the
other backends run and the tests compare with.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..backend import active
from ..checks import require_like, require_shape

MOST_LAYERS = 16


class Layers(NamedTuple):
    """E stacked networks with relus: per layer [E, inputs, outputs] and [E, 1, outputs]."""

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]

    def sizes(self) -> list[int]:
        """Inputs, hidden widths, outputs."""
        return [self.weights[0].shape[1], *(w.shape[2] for w in self.weights)]


class CriticBatch(NamedTuple):
    """obs, next_obs [B, S], action [B, A], reward, terminated [B]; noise [B, A]."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    noise: Tensor


def sac_critic_gradients(
    batch: CriticBatch,
    actor: Layers,
    critic: Layers,
    target: Layers,
    log_temperature: Tensor,
    log_std_bounds: tuple[float, float],
    gamma: float,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Loss [], mean Q [], and the loss's gradients to the critics' weights, then biases.

    Source: SAC (arXiv 1812.05905), Eq. (5); noise draws the next actions.

    Args:
        actor: one network, S to 2 A. critic, target: two, S + A to 1.
        log_temperature: [].
        log_std_bounds: the policy's log-std is clamped to them.
    Backends: native.
    Raises:
        ValueError: another backend is active; shapes, dtypes or devices differ.
    """
    _check(batch.obs, batch.noise, actor, critic, log_temperature)
    rows, size = batch.obs.shape
    _check_network("target", target, critic.sizes(), 2)
    require_shape("action", batch.action, tuple(batch.noise.shape))
    require_shape("next_obs", batch.next_obs, (rows, size))
    for name in ("reward", "terminated"):
        require_shape(name, getattr(batch, name), (rows,))
    for name, tensor in batch._asdict().items():
        require_like(name, tensor, torch.float32, torch.device("cpu"))
    from .cpu import critic_gradients

    return critic_gradients(batch, actor, critic, target, log_temperature, log_std_bounds, gamma)


def sac_actor_gradients(
    obs: Tensor,
    noise: Tensor,
    actor: Layers,
    critic: Layers,
    log_temperature: Tensor,
    log_std_bounds: tuple[float, float],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Loss [], log-probabilities [B], and the loss's gradients to the actor's weights, biases.

    Source: SAC (arXiv 1812.05905), Eq. (7). Arguments as `sac_critic_gradients`'s.
    """
    _check(obs, noise, actor, critic, log_temperature)
    from .cpu import actor_gradients

    return actor_gradients(obs, noise, actor, critic, log_temperature, log_std_bounds)


def _check(
    obs: Tensor, noise: Tensor, actor: Layers, critic: Layers, log_temperature: Tensor
) -> None:
    if active().name != "native":
        raise ValueError(f"kernels: expected native to be active, found {active().name}")
    (rows, size), actions = obs.shape, noise.shape[-1]
    require_shape("noise", noise, (rows, actions))
    require_shape("log_temperature", log_temperature, ())
    for name, tensor in (("obs", obs), ("noise", noise), ("log_temperature", log_temperature)):
        require_like(name, tensor, torch.float32, torch.device("cpu"))
    _check_network("actor", actor, [size, *actor.sizes()[1:-1], 2 * actions], 1)
    _check_network("critic", critic, [size + actions, *critic.sizes()[1:-1], 1], 2)


def _check_network(name: str, net: Layers, sizes: list[int], members: int) -> None:
    if len(net.weights) > MOST_LAYERS or len(net.weights) != len(net.biases):
        raise ValueError(
            f"{name}: expected at most {MOST_LAYERS} layers and as many biases, found "
            f"{len(net.weights)} and {len(net.biases)}"
        )
    if len(sizes) != len(net.weights) + 1:
        raise ValueError(f"{name}: expected {len(sizes) - 1} layers, found {len(net.weights)}")
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        inputs, outputs = sizes[layer], sizes[layer + 1]
        if weight.shape != (members, inputs, outputs) or bias.shape != (members, 1, outputs):
            raise ValueError(
                f"{name}, layer {layer}: expected {(members, inputs, outputs)} and "
                f"{(members, 1, outputs)}, found {tuple(weight.shape)} and {tuple(bias.shape)}"
            )
        for tensor in (weight, bias):
            if tensor.dtype != torch.float32 or not tensor.is_cpu or not tensor.is_contiguous():
                raise ValueError(
                    f"{name}, layer {layer}: expected contiguous torch.float32 on cpu, found "
                    f"{tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
                )
