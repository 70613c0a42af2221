"""What SAC's gradient step takes."""

from typing import NamedTuple

from torch import Tensor

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


class SacMetrics(NamedTuple):
    """[] each: losses and mean Q before the step, entropy in nats, log-temperature after it."""

    critic_loss: Tensor
    actor_loss: Tensor
    q_mean: Tensor
    entropy_nats: Tensor
    log_temperature: Tensor
