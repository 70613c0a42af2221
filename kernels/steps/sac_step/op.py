"""Public operation `sac_step_`."""

from torch import Tensor

from ...backend import active
from ...checks import require_like, require_shape
from .arguments import SacBatch, SacMetrics, SacNetworks, SacOptimizers, SacSettings
from .native import sac_step_native_
from .reference import sac_step_reference_


def sac_step_(
    batch: SacBatch,
    networks: SacNetworks,
    log_temperature: Tensor,
    optimizers: SacOptimizers,
    settings: SacSettings,
) -> SacMetrics:
    """One gradient step of critics, actor and temperature, then of the target networks, in place.

    Source: SAC (arXiv 1812.05905), Eqs. (5), (7), (18). The actor sees the new critics.

    Args:
        log_temperature: [].
    Backends: native; the others take the reference, on their own operations.
    Raises:
        ValueError: shapes, dtypes or devices differ, or an optimiser is of other tensors. Nothing
            is written then.
    """
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
        found = getattr(batch, name)
        require_shape(name, found, shape)
        require_like(name, found, batch.obs.dtype, batch.obs.device)
    require_shape("log_temperature", log_temperature, ())
    require_like("log_temperature", log_temperature, batch.obs.dtype, batch.obs.device)
    actor, critic, target = networks
    actor.require("actor", [size, *actor.sizes()[1:-1], 2 * actions], 1, batch.obs)
    critic.require("critic", [size + actions, *critic.sizes()[1:-1], 1], 2, batch.obs)
    target.require("target", critic.sizes(), 2, batch.obs)
    optimizers.actor.require("actor", [*actor.weights, *actor.biases])
    optimizers.critic.require("critic", [*critic.weights, *critic.biases])
    optimizers.temperature.require("temperature", [log_temperature])
    step = sac_step_native_ if active().name == "native" else sac_step_reference_
    return step(batch, networks, log_temperature, optimizers, settings)
