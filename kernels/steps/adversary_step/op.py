"""Public operations of the adversary's gradient step, and of g as rollouts need it.

A step is two calls. Between them the caller says what the drawn states are worth, and which of them
are terminal.
"""

from torch import Tensor

from ...backend import active, fused
from ...checks import require_like, require_shape
from ...layers import Layers
from ...ops.adam.op import AdamState
from .arguments import Draw, Nominal
from .native import adversary_draw_native, adversary_step_native_, residual_gaussian_native
from .reference import (
    adversary_draw_reference,
    adversary_step_reference_,
    residual_gaussian_reference,
)


def residual_gaussian(
    head_p: Tensor, head_g: Tensor, min_logvar: Tensor, max_logvar: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of g, [E, B, D] each, around p: see `adversary_draw`.

    Args:
        head_p, head_g: [E, B, 2 D], the networks' outputs.
        min_logvar, max_logvar: [D], bounds of p's log-variance.
        mask: [D] bool; where it is False, g is p.
    Gradients: none.   Backends: native; the others take the reference.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    require_shape("head_g", head_g, tuple(head_p.shape))
    size = head_p.shape[-1] // 2
    bounds = {"min_logvar": min_logvar, "max_logvar": max_logvar}
    for name, tensor in {**bounds, "mask": mask}.items():
        require_shape(name, tensor, (size,))
    for name, tensor in {"head_g": head_g, **bounds}.items():
        require_like(name, tensor, head_p.dtype, head_p.device)
    native = active().name == "native"
    gaussian = residual_gaussian_native if native else residual_gaussian_reference
    return gaussian(head_p, head_g, min_logvar, max_logvar, mask)


def adversary_draw(
    inputs: Tensor, obs: Tensor, eps: Tensor, nominal: Nominal, adversary: Layers, mask: Tensor
) -> Draw:
    """p and g at some rows, a draw from g, and the states that it and g's mean lead to.

    Source: RMBPO (arXiv 2406.09976); g is p shifted by m stds, with a log-variance changed by l:
    mean_g = mean_p + m std_p, logvar_g = logvar_p + 2 tanh(l / 2) (ours). With a noise_factor L it
    is the noise that g shifts: y of mean m and log-variance 2 tanh(l / 2), x = mean_p + std_p L y
    (ours).

    Args:
        inputs: [E, B, I], normalised. obs: [E, B, S] at the same rows; D = S + 1.
        eps: [E, B, D] standard normal.
        adversary: E networks, I to 2 D numbers, m and l.
        mask: [D] bool; where it is False, g is p.
    Backends: native; the others take the reference, on their own operations.
    Raises:
        ValueError: shapes, dtypes or devices differ.
    """
    members, rows, size = eps.shape
    require_shape("inputs", inputs, (members, rows, inputs.shape[-1]))
    require_shape("obs", obs, (members, rows, size - 1))
    shapes = {"min_logvar": size, "max_logvar": size, "obs_low": size - 1, "obs_high": size - 1}
    tensors = {name: getattr(nominal, name) for name in shapes}
    for name, tensor in tensors.items():
        require_shape(name, tensor, (shapes[name],))
    require_shape("mask", mask, (size,))
    tensors |= {"obs": obs, "eps": eps}
    if nominal.noise_factor is not None:
        require_shape("noise_factor", nominal.noise_factor, (size, size))
        tensors["noise_factor"] = nominal.noise_factor
    for name, tensor in tensors.items():
        require_like(name, tensor, inputs.dtype, inputs.device)
    for name, layers in (("nominal", nominal.layers), ("adversary", adversary)):
        layers.require(name, [inputs.shape[-1], *layers.sizes()[1:-1], 2 * size], members, inputs)
    native = active().name == "native"
    draw = adversary_draw_native if native else fused(adversary_draw_reference)
    return draw(inputs, obs, eps, nominal, adversary, mask)


def adversary_step_(
    inputs: Tensor,
    draw: Draw,
    advantage: Tensor,
    adversary: Layers,
    mask: Tensor,
    eta: Tensor,
    optimizer: AdamState,
) -> Tensor:
    """One gradient step of g on KL(g || p) + eta A(x) log g(x), in place.

    Source: RMBPO (arXiv 2406.09976), the auxiliary model's objective; see `gaussian_kl_score`.

    Args:
        inputs, adversary, mask: as in the `adversary_draw` that `draw` is from.
        advantage: [E, B], A(x) at draw.sample.
        eta: [].
        optimizer: of the adversary's weights, then its biases.
    Returns:
        [] the loss before the step.
    Backends: native; the others take the reference, on their own operations.
    Raises:
        ValueError: shapes, dtypes or devices differ, or the optimiser is of other tensors. Nothing
            is written then.
    """
    members, rows, size = draw.sample.shape
    require_shape("inputs", inputs, (members, rows, inputs.shape[-1]))
    require_shape("advantage", advantage, (members, rows))
    require_shape("mask", mask, (size,))
    require_shape("eta", eta, ())
    tensors = {"sample": draw.sample, "advantage": advantage, "eta": eta}
    for name, tensor in tensors.items():
        require_like(name, tensor, inputs.dtype, inputs.device)
    sizes = [inputs.shape[-1], *adversary.sizes()[1:-1], 2 * size]
    adversary.require("adversary", sizes, members, inputs)
    optimizer.require("optimizer", [*adversary.weights, *adversary.biases])
    native = active().name == "native"
    step = adversary_step_native_ if native else adversary_step_reference_
    return step(inputs, draw, advantage, adversary, mask, eta, optimizer)
