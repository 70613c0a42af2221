"""Public operation `sac_step_`, of the native backend only.

Its readable truth is `SAC.update` on the other operations, with autograd, which the other backends
run and the tests compare with.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...backend import require_native
from ...checks import require_like, require_shape
from ...layers import Layers
from ...ops.adam.op import AdamState


class SacBatch(NamedTuple):
    """obs, next_obs [B, S], action [B, A], reward, terminated [B]; both noises [B, A].

    At entropy_obs [B, S] with entropy_noise [B, A] the temperature finds the entropy of the policy
    after its step; if absent, at obs and before the step.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    critic_noise: Tensor
    actor_noise: Tensor
    entropy_obs: Tensor | None = None
    entropy_noise: Tensor | None = None


class SacNetworks(NamedTuple):
    """actor: one network of relus, S to 2 A. critic, target: two, S + A to 1."""

    actor: Layers
    critic: Layers
    target: Layers


class SacOptimizers(NamedTuple):
    """Of the actor's and the critics' weights, then biases, and of log_temperature."""

    actor: AdamState
    critic: AdamState
    temperature: AdamState


class SacSettings(NamedTuple):
    """The policy's log-std is clamped; tau: how far the target networks follow in one step."""

    log_std_min: float
    log_std_max: float
    gamma: float
    tau: float
    target_entropy: float


def sac_step_(
    batch: SacBatch,
    networks: SacNetworks,
    log_temperature: Tensor,
    optimizers: SacOptimizers,
    settings: SacSettings,
) -> Tensor:
    """One gradient step of critics, actor and temperature, then of the target networks, in place.

    Source: SAC (arXiv 1812.05905), Eqs. (5), (7), (18). The actor sees the new critics.

    Args:
        log_temperature: [].
    Returns:
        [5]: critics' loss, actor's loss, mean Q, entropy in nats, new log-temperature.
    Backends: native.
    Raises:
        ValueError: another backend is active; shapes, dtypes or devices differ, or an optimiser is
            of other tensors. Nothing is written then.
    """
    require_native()
    cpu = torch.device("cpu")
    (rows, size), actions = batch.obs.shape, batch.action.shape[-1]
    shapes = {
        "action": (rows, actions),
        "reward": (rows,),
        "next_obs": (rows, size),
        "terminated": (rows,),
        "critic_noise": (rows, actions),
        "actor_noise": (rows, actions),
    }
    if (batch.entropy_obs is None) != (batch.entropy_noise is None):
        raise ValueError("expected entropy_obs and entropy_noise together, found one of them")
    if batch.entropy_obs is not None:
        shapes |= {"entropy_obs": (rows, size), "entropy_noise": (rows, actions)}
    for name, shape in shapes.items():
        require_shape(name, getattr(batch, name), shape)
    for name, tensor in (*batch._asdict().items(), ("log_temperature", log_temperature)):
        if tensor is not None:
            require_like(name, tensor, torch.float32, cpu)
    require_shape("log_temperature", log_temperature, ())
    actor, critic, target = networks
    actor.require("actor", [size, *actor.sizes()[1:-1], 2 * actions], 1)
    critic.require("critic", [size + actions, *critic.sizes()[1:-1], 1], 2)
    target.require("target", critic.sizes(), 2)
    optimizers.actor.require("actor", [*actor.weights, *actor.biases])
    optimizers.critic.require("critic", [*critic.weights, *critic.biases])
    optimizers.temperature.require("temperature", [log_temperature])
    from .native import sac_step_native_

    return sac_step_native_(batch, networks, log_temperature, optimizers, settings)
