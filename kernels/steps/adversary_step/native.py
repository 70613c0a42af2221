"""Native: memory for the results, and addresses for the library."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...backend import active
from ...native.addresses import addresses, native, network, optimizer
from ...ops.ensemble_mlp.cpu import ensemble_mlp_fwd
from ...ops.gaussian_nll.op import bound_logvar
from .op import Draw

if TYPE_CHECKING:
    from ...layers import Layers
    from ...ops.adam.op import AdamState
    from .op import Critic, Nominal


def residual_gaussian_native(
    head_p: Tensor, head_g: Tensor, min_logvar: Tensor, max_logvar: Tensor, touch: Tensor
) -> tuple[Tensor, Tensor]:
    """See `residual_gaussian`."""
    *rows, width = head_p.shape
    mean, logvar = (head_p.new_empty(*rows, width // 2) for _ in range(2))
    heads = [head_p.contiguous(), head_g.contiguous()]
    none = [0] * 4
    native.adversary_draw(
        math.prod(rows),
        width // 2,
        0,
        [*addresses([*heads, min_logvar, max_logvar, touch]), *none],
        [0, 0, *addresses([mean, logvar]), 0, 0],
        torch.get_num_threads(),
    )
    return mean, logvar


def draw_native(
    inputs: Tensor,
    obs: Tensor,
    eps: Tensor,
    nominal: "Nominal",
    adversary: "Layers",
    touch: Tensor,
) -> Draw:
    """See `adversary_draw`."""
    members, rows, size = eps.shape
    precision = active().precision

    def forward(layers: "Layers", save: bool) -> tuple[list[Tensor], list[Tensor]]:
        networks = (list(layers.weights), list(layers.biases))
        return ensemble_mlp_fwd(inputs, *networks, None, "swish", precision, save)

    (head_p,), _ = forward(nominal.layers, save=False)
    outputs, slopes = forward(adversary, save=True)
    if nominal.noise_factor is not None:
        return _correlated_draw(head_p, outputs, slopes, obs, eps, nominal, touch)
    if obs.stride(2) != 1 or obs.stride(0) != rows * obs.stride(1):
        obs = obs.contiguous()
    bounds = (nominal.min_logvar, nominal.max_logvar)
    eps = eps.contiguous()
    mean_p, logvar_p, mean_g, logvar_g, sample = (eps.new_empty(eps.shape) for _ in range(5))
    next_obs = eps.new_empty(2, *obs.shape)
    drawn = (mean_p, logvar_p, mean_g, logvar_g, sample, next_obs)
    native.adversary_draw(
        members * rows,
        size,
        obs.stride(1),
        addresses(
            [head_p, outputs[-1], *bounds, touch, eps, obs, nominal.obs_low, nominal.obs_high]
        ),
        addresses(drawn),
        torch.get_num_threads(),
    )
    reward = torch.stack([sample[..., -1], mean_g[..., -1]])
    return Draw(*drawn, reward, outputs, slopes)


@torch.no_grad()
def _correlated_draw(
    head_p: Tensor,
    outputs: list[Tensor],
    slopes: list[Tensor],
    obs: Tensor,
    eps: Tensor,
    nominal: "Nominal",
    touch: Tensor,
) -> Draw:
    """p and g of the noise. PyTorch's operations: they are small beside the networks."""
    assert nominal.noise_factor is not None
    mean_p, raw = head_p.chunk(2, dim=-1)
    std_p = torch.exp(0.5 * bound_logvar(raw, nominal.min_logvar, nominal.max_logvar))
    shift, change = outputs[-1].chunk(2, dim=-1)
    mean_g, logvar_g = touch * shift, touch * 2.0 * torch.tanh(0.5 * change)
    sample = mean_g + torch.exp(0.5 * logvar_g) * eps
    led = mean_p + std_p * (torch.stack([sample, mean_g]) @ nominal.noise_factor.T)
    next_obs = torch.clamp(obs + led[..., :-1], nominal.obs_low, nominal.obs_high).contiguous()
    standard = torch.zeros_like(sample)
    reward = led[..., -1].contiguous()
    return Draw(standard, standard, mean_g, logvar_g, sample, next_obs, reward, outputs, slopes)


def step_native_(
    inputs: Tensor,
    draw: Draw,
    terminated: Tensor,
    noise: Tensor,
    adversary: "Layers",
    touch: Tensor,
    critic: "Critic",
    eta: Tensor,
    baseline: bool,
    adam: "AdamState",
) -> Tensor:
    """See `adversary_step_`."""
    members, rows, _ = inputs.shape
    inputs, terminated, noise = inputs.contiguous(), terminated.contiguous(), noise.contiguous()
    loss = inputs.new_empty(())
    native.adversary_step(
        members,
        rows,
        inputs.data_ptr(),
        network(adversary),
        addresses(draw.outputs),
        addresses(draw.slopes),
        addresses([*draw[:7], touch]),
        terminated.data_ptr(),
        noise.data_ptr(),
        network(critic.actor),
        network(critic.critic),
        [critic.log_std_min, critic.log_std_max, critic.gamma],
        critic.log_temperature.data_ptr(),
        eta.data_ptr(),
        baseline,
        optimizer(adam),
        loss.data_ptr(),
        active().precision == "bf16",
        torch.get_num_threads(),
    )
    return loss
