"""Native: memory for the results, and addresses for the library."""

import math

import torch
from torch import Tensor

from ...backend import active
from ...layers import Layers
from ...native.addresses import addresses, native, network, optimizer, require_native
from ...ops.adam.op import AdamState
from ...ops.ensemble_mlp.cpu import ensemble_mlp_fwd
from .arguments import Draw, Nominal
from .reference import draw_from_heads


def residual_gaussian_native(
    head_p: Tensor, head_g: Tensor, min_logvar: Tensor, max_logvar: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """See `residual_gaussian`."""
    require_native("head_p", head_p)
    *rows, width = head_p.shape
    mean, logvar = (head_p.new_empty(*rows, width // 2) for _ in range(2))
    head_p, head_g, mask = head_p.contiguous(), head_g.contiguous(), mask.float()
    native.adversary_draw(
        count=math.prod(rows),
        size=width // 2,
        head_p=head_p.data_ptr(),
        head_g=head_g.data_ptr(),
        min_logvar=min_logvar.data_ptr(),
        max_logvar=max_logvar.data_ptr(),
        mask=mask.data_ptr(),
        mean_g=mean.data_ptr(),
        logvar_g=logvar.data_ptr(),
        threads=torch.get_num_threads(),
    )
    return mean, logvar


def adversary_draw_native(
    inputs: Tensor, obs: Tensor, eps: Tensor, nominal: Nominal, adversary: Layers, mask: Tensor
) -> Draw:
    """See `adversary_draw`. Correlated noise is PyTorch's: small beside the networks."""
    require_native("inputs", inputs)
    members, rows, size = eps.shape
    precision = active().precision

    def forward(layers: Layers, save: bool) -> tuple[list[Tensor], list[Tensor]]:
        networks = (list(layers.weights), list(layers.biases))
        return ensemble_mlp_fwd(inputs, *networks, None, "swish", precision, save)

    (head_p,), _ = forward(nominal.layers, save=False)
    outputs, slopes = forward(adversary, save=True)
    if nominal.noise_factor is not None:
        with torch.no_grad():
            draw = draw_from_heads(head_p, outputs[-1], obs, eps, nominal, mask)
        return draw._replace(outputs=outputs, slopes=slopes)
    if obs.stride(2) != 1 or obs.stride(0) != rows * obs.stride(1):
        obs = obs.contiguous()
    eps, touched = eps.contiguous(), mask.float()
    mean_p, logvar_p, mean_g, logvar_g, sample = (eps.new_empty(eps.shape) for _ in range(5))
    next_obs = eps.new_empty(2, *obs.shape)
    native.adversary_draw(
        count=members * rows,
        size=size,
        obs_stride=obs.stride(1),
        head_p=head_p.data_ptr(),
        head_g=outputs[-1].data_ptr(),
        min_logvar=nominal.min_logvar.data_ptr(),
        max_logvar=nominal.max_logvar.data_ptr(),
        mask=touched.data_ptr(),
        eps=eps.data_ptr(),
        obs=obs.data_ptr(),
        obs_low=nominal.obs_low.data_ptr(),
        obs_high=nominal.obs_high.data_ptr(),
        mean_p=mean_p.data_ptr(),
        logvar_p=logvar_p.data_ptr(),
        mean_g=mean_g.data_ptr(),
        logvar_g=logvar_g.data_ptr(),
        sample=sample.data_ptr(),
        next_obs=next_obs.data_ptr(),
        threads=torch.get_num_threads(),
    )
    reward = torch.stack([sample[..., -1], mean_g[..., -1]])
    return Draw(mean_p, logvar_p, mean_g, logvar_g, sample, next_obs, reward, outputs, slopes)


def adversary_step_native_(
    inputs: Tensor,
    draw: Draw,
    advantage: Tensor,
    adversary: Layers,
    mask: Tensor,
    eta: Tensor,
    adam: AdamState,
) -> Tensor:
    """See `adversary_step_`."""
    require_native("inputs", inputs)
    members, rows, _ = inputs.shape
    inputs, advantage, mask = inputs.contiguous(), advantage.contiguous(), mask.float()
    loss = inputs.new_empty(())
    native.adversary_step(
        members=members,
        rows=rows,
        inputs=inputs.data_ptr(),
        layers=network(adversary),
        outputs=addresses(draw.outputs),
        slopes=addresses(draw.slopes),
        mean_p=draw.mean_p.data_ptr(),
        logvar_p=draw.logvar_p.data_ptr(),
        mean_g=draw.mean_g.data_ptr(),
        logvar_g=draw.logvar_g.data_ptr(),
        sample=draw.sample.data_ptr(),
        advantage=advantage.data_ptr(),
        mask=mask.data_ptr(),
        eta=eta.data_ptr(),
        adam=optimizer(adam),
        loss=loss.data_ptr(),
        bf16=active().precision == "bf16",
        threads=torch.get_num_threads(),
    )
    return loss
