"""What SAC's gradient step takes."""

from typing import NamedTuple

from torch import Tensor

from ...layers import Layers
from ...ops.adam.op import AdamState


class SacBatch(NamedTuple):
    """obs, next_obs [B, S], action [B, A], reward, terminated [B]; both noises [B, A].

    The temperature's entropy is that of the policy after its step, at entropy_obs [B, S] with
    entropy_noise [B, A]. Without these two it is that of the policy before its step, at obs.
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
    """The actor's and the critics' hold all weights, then all biases."""

    actor: AdamState
    critic: AdamState
    temperature: AdamState


class SacSettings(NamedTuple):
    """Bounds of the policy's log-std; discount; step of the targets (tau); target entropy, nats."""

    log_std_min: float
    log_std_max: float
    gamma: float
    tau: float
    target_entropy: float


class SacMetrics(NamedTuple):
    """[] each: losses and mean Q before the step, entropy in nats, log-temperature after it."""

    critic_loss: Tensor
    actor_loss: Tensor
    q_mean: Tensor
    entropy_nats: Tensor
    log_temperature: Tensor
