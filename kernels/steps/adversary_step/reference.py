"""The residual adversary around the nominal model, and its gradient step by autograd.

Source: RMBPO (arXiv 2406.09976); the residual parametrisation is ours.
"""

import torch
from torch import Tensor

from ...layers import Layers
from ...ops.adam.op import AdamState, minimize_
from ...ops.ensemble_mlp.op import ensemble_mlp
from ...ops.gaussian_kl.op import gaussian_kl, gaussian_kl_score
from ...ops.gaussian_nll.op import bound_logvar
from .arguments import Draw, Nominal


def shift_gaussian(
    mean_p: Tensor, logvar_p: Tensor, head_g: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """g around p: mean_g = mean_p + m std_p, logvar_g = logvar_p + 2 tanh(l / 2).

    Args:
        mean_p, logvar_p: [..., D].
        head_g: [..., 2 D], the adversary's output: m, then l.
        mask: [D] bool; where it is False, g is p.
    Returns:
        mean_g, logvar_g: [..., D].
    """
    shift, change = head_g.chunk(2, dim=-1)
    mean = mean_p + shift * torch.exp(0.5 * logvar_p)
    logvar = logvar_p + 2.0 * torch.tanh(0.5 * change)
    return torch.where(mask, mean, mean_p), torch.where(mask, logvar, logvar_p)


def pathwise_loss(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    value: Tensor,
    eta: Tensor,
) -> Tensor:
    """As `gaussian_kl_score`, the gradient of the value term going through the critic.

    Args:
        mean_g, logvar_g: [E, B, D], with gradient. mean_p, logvar_p: [E, B, D], detached.
        value: [E, B] at x = mean_g + std_g * eps, with gradient. eta: [].
    """
    kl = gaussian_kl(mean_g, logvar_g, mean_p, logvar_p)
    return (kl + eta * value).mean(-1).sum()


def residual_gaussian_reference(
    head_p: Tensor, head_g: Tensor, min_logvar: Tensor, max_logvar: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    mean_p, raw = head_p.chunk(2, dim=-1)
    return shift_gaussian(mean_p, bound_logvar(raw, min_logvar, max_logvar), head_g, mask)


def draw_from_heads(
    head_p: Tensor, head_g: Tensor, obs: Tensor, eps: Tensor, nominal: Nominal, mask: Tensor
) -> Draw:
    """`adversary_draw` from the networks' outputs head_p and head_g, [E, B, 2 D] each."""
    mean_p, raw = head_p.detach().chunk(2, dim=-1)
    logvar_p = bound_logvar(raw, nominal.min_logvar, nominal.max_logvar).detach()
    # p in the coordinates in which its D numbers are independent
    standard = torch.zeros_like(mean_p)
    p = (mean_p, logvar_p) if nominal.noise_factor is None else (standard, standard)
    mean_g, logvar_g = shift_gaussian(*p, head_g, mask)
    sample = (mean_g + torch.exp(0.5 * logvar_g) * eps).detach()
    leads = []
    for change in (sample, mean_g.detach()):
        if nominal.noise_factor is not None:
            change = mean_p + torch.exp(0.5 * logvar_p) * (change @ nominal.noise_factor.T)
        leads.append(change)
    next_obs = [torch.clamp(obs + x[..., :-1], nominal.obs_low, nominal.obs_high) for x in leads]
    reward = torch.stack([x[..., -1] for x in leads])
    return Draw(*p, mean_g, logvar_g, sample, torch.stack(next_obs), reward, [], [])


def adversary_draw_reference(
    inputs: Tensor, obs: Tensor, eps: Tensor, nominal: Nominal, adversary: Layers, mask: Tensor
) -> Draw:
    """See `adversary_draw`."""
    with torch.no_grad():
        head_p = ensemble_mlp(inputs, nominal.layers.weights, nominal.layers.biases, "swish")
    head_g = ensemble_mlp(inputs, adversary.weights, adversary.biases, "swish")
    return draw_from_heads(head_p, head_g, obs, eps, nominal, mask)


def adversary_step_reference_(
    inputs: Tensor,
    draw: Draw,
    advantage: Tensor,
    adversary: Layers,
    mask: Tensor,
    eta: Tensor,
    optimizer: AdamState,
) -> Tensor:
    """See `adversary_step_`."""
    g, p = (draw.mean_g, draw.logvar_g), (draw.mean_p, draw.logvar_p)
    loss = gaussian_kl_score(*g, *p, draw.sample, advantage, eta)
    minimize_(loss, optimizer)
    return loss.detach()
