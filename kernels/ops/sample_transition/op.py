"""Public operation `sample_transition`."""

import torch
from torch import Tensor

from ...backend import active
from ...checks import require_alike, require_like, require_shape
from ...library import call, define
from .reference import sample_transition_reference


def sample_transition(
    obs: Tensor,
    action: Tensor,
    mean: Tensor,
    logvar: Tensor,
    noise: Tensor,
    obs_low: Tensor,
    obs_high: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draws (state change, reward) and packs the row [obs, action, reward, next_obs, terminated].

    Source: MBPO (arXiv 1906.08253), Algorithm 2. next_obs is clipped to the observable states, and
    a row whose draw is not finite gets zeros in place of it (both ours).

    Args:
        obs: [B, S]. action: [B, A].
        mean, logvar: [B, D], D = S + 1, of the state change and the reward.
        noise: [B, D], drawn by the caller: the step is mean + std * noise.
        obs_low, obs_high: [S].
    Returns:
        rows [B, 2 S + A + 2], terminated still 0; whether the draw was finite, [B] bool.
    Gradients: none.   Backends: reference, native, triton.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    rows, size = obs.shape
    require_shape("mean", mean, (rows, size + 1))
    require_alike(mean=mean, logvar=logvar, noise=noise)
    require_shape("action", action, (rows, action.shape[-1]))
    for name, bound in (("obs_low", obs_low), ("obs_high", obs_high)):
        require_shape(name, bound, (size,))
    tensors = {"action": action, "mean": mean, "obs_low": obs_low, "obs_high": obs_high}
    for name, tensor in tensors.items():
        require_like(name, tensor, obs.dtype, obs.device)
    backend = active().name
    arguments = (obs, action, mean, logvar, noise, obs_low, obs_high)
    if backend == "reference":
        return sample_transition_reference(*arguments)
    require_like("obs", obs, torch.float32, obs.device)
    return call(backend, "sample_transition", *arguments)


define(
    "sample_transition",
    "(Tensor obs, Tensor action, Tensor mean, Tensor logvar, Tensor noise, Tensor obs_low, "
    "Tensor obs_high) -> (Tensor rows, Tensor finite)",
    lambda obs, action, *_: (
        obs.new_empty(obs.shape[0], 2 * obs.shape[1] + action.shape[1] + 2),
        obs.new_empty(obs.shape[0], dtype=torch.bool),
    ),
)
