"""Public operations of the adversary, of the native backend only.

Their readable truth is `Adversary.loss` in the residual parametrisation with the score-function
estimator, with autograd and `Adam.minimize`, which the other backends run and the tests compare
with. A step is two calls, because the termination rule between them is the task's, any function.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ...backend import require_native
from ...checks import require_like, require_shape
from ...layers import Layers
from ...ops.adam.op import AdamState

CPU = torch.device("cpu")


class Nominal(NamedTuple):
    """p_theta: networks from I to 2 D, bounds of its log-variance [D], of observable states [S].

    noise_factor: [D, D], how its noise goes together; None where each number is drawn on its own.
    """

    layers: Layers
    min_logvar: Tensor
    max_logvar: Tensor
    obs_low: Tensor
    obs_high: Tensor
    noise_factor: Tensor | None = None


class Draw(NamedTuple):
    """What `adversary_draw` found, for `adversary_step_`.

    Attributes:
        mean_p, logvar_p, mean_g, logvar_g: [E, B, D]; of the noise where it goes together.
        sample: [E, B, D], drawn from g.
        next_obs: [2, E, B, S], where the sample leads, and g's mean. reward: [2, E, B] of them.
        outputs, slopes: of g's layers, as the native `ensemble_mlp` saves them.
    """

    mean_p: Tensor
    logvar_p: Tensor
    mean_g: Tensor
    logvar_g: Tensor
    sample: Tensor
    next_obs: Tensor
    reward: Tensor
    outputs: list[Tensor]
    slopes: list[Tensor]


class Critic(NamedTuple):
    """V(s') = min_j Q_j(s', a') - alpha log pi(a'|s'): see `SacNetworks` and `SacSettings`."""

    actor: Layers
    critic: Layers
    log_temperature: Tensor
    log_std_min: float
    log_std_max: float
    gamma: float


def residual_gaussian(
    head_p: Tensor, head_g: Tensor, min_logvar: Tensor, max_logvar: Tensor, touch: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of g, [E, B, D] each, around p: see `adversary_draw`.

    Args:
        head_p, head_g: [E, B, 2 D], the networks' outputs.
        min_logvar, max_logvar: [D], bounds of p's log-variance. touch: [D].
    Gradients: none.   Backends: native.
    Raises:
        ValueError: another backend is active; shapes, dtypes or devices differ.
    """
    require_native()
    require_shape("head_g", head_g, tuple(head_p.shape))
    size = head_p.shape[-1] // 2
    bounds = {"min_logvar": min_logvar, "max_logvar": max_logvar, "touch": touch}
    for name, tensor in bounds.items():
        require_shape(name, tensor, (size,))
    for name, tensor in {"head_p": head_p, "head_g": head_g, **bounds}.items():
        require_like(name, tensor, torch.float32, CPU)
    from .native import residual_gaussian_native

    return residual_gaussian_native(head_p, head_g, min_logvar, max_logvar, touch)


def adversary_draw(
    inputs: Tensor,
    obs: Tensor,
    eps: Tensor,
    nominal: Nominal,
    adversary: Layers,
    touch: Tensor,
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
        touch: [D] 1 where g may differ from p, else 0.
    Backends: native.
    Raises:
        ValueError: another backend is active; shapes, dtypes or devices differ.
    """
    require_native()
    members, rows, size = eps.shape
    require_shape("inputs", inputs, (members, rows, inputs.shape[-1]))
    require_shape("obs", obs, (members, rows, size - 1))
    shapes = {"min_logvar": size, "max_logvar": size, "obs_low": size - 1, "obs_high": size - 1}
    tensors = {name: getattr(nominal, name) for name in shapes}
    for name, tensor in tensors.items():
        require_shape(name, tensor, (shapes[name],))
    require_shape("touch", touch, (size,))
    tensors |= {"inputs": inputs, "obs": obs, "eps": eps, "touch": touch}
    if nominal.noise_factor is not None:
        require_shape("noise_factor", nominal.noise_factor, (size, size))
        tensors["noise_factor"] = nominal.noise_factor
    for name, tensor in tensors.items():
        require_like(name, tensor, torch.float32, CPU)
    for name, layers in (("nominal", nominal.layers), ("adversary", adversary)):
        layers.require(name, [inputs.shape[-1], *layers.sizes()[1:-1], 2 * size], members)
    from .native import draw_native

    return draw_native(inputs, obs, eps, nominal, adversary, touch)


def adversary_step_(
    inputs: Tensor,
    draw: Draw,
    terminated: Tensor,
    noise: Tensor,
    adversary: Layers,
    touch: Tensor,
    critic: Critic,
    eta: Tensor,
    baseline: bool,
    optimizer: AdamState,
) -> Tensor:
    """One gradient step of g on KL(g || p) + eta A(x) log g(x), in place.

    Source: RMBPO (arXiv 2406.09976), the auxiliary model's objective; see `gaussian_kl_score`.

    Args:
        inputs, adversary, touch: as in the `adversary_draw` that `draw` is from.
        terminated: [2, E, B] bool, of draw.next_obs.
        noise: [E, B, A] standard normal, draws a'.
        eta: []. baseline: subtracts the target at g's mean.
        optimizer: of the adversary's weights, then its biases.
    Returns:
        [] the loss before the step.
    Backends: native.
    Raises:
        ValueError: another backend is active; shapes, dtypes or devices differ, or the optimiser is
            of other tensors. Nothing is written then.
    """
    require_native()
    members, rows, size = draw.sample.shape
    require_shape("inputs", inputs, (members, rows, inputs.shape[-1]))
    require_shape("terminated", terminated, (2, members, rows))
    require_shape("next_obs", draw.next_obs, (2, members, rows, size - 1))
    require_shape("reward", draw.reward, (2, members, rows))
    require_like("terminated", terminated, torch.bool, CPU)
    require_shape("noise", noise, (members, rows, noise.shape[-1]))
    require_shape("touch", touch, (size,))
    scalars = {"eta": eta, "log_temperature": critic.log_temperature}
    for name, tensor in scalars.items():
        require_shape(name, tensor, ())
    tensors = {"inputs": inputs, "sample": draw.sample, "noise": noise, "touch": touch, **scalars}
    for name, tensor in tensors.items():
        require_like(name, tensor, torch.float32, CPU)
    adversary.require("adversary", [inputs.shape[-1], *adversary.sizes()[1:-1], 2 * size], members)
    states, actions = size - 1, noise.shape[-1]
    critic.actor.require("actor", [states, *critic.actor.sizes()[1:-1], 2 * actions], 1)
    critic.critic.require("critic", [states + actions, *critic.critic.sizes()[1:-1], 1], 2)
    optimizer.require("optimizer", [*adversary.weights, *adversary.biases])
    from .native import step_native_

    return step_native_(
        inputs, draw, terminated, noise, adversary, touch, critic, eta, baseline, optimizer
    )
