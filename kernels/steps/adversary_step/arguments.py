"""What the adversary's gradient step takes, and what passes between its two parts."""

from typing import NamedTuple

from torch import Tensor

from ...layers import Layers


class Nominal(NamedTuple):
    """p_theta: its networks, from I to 2 D numbers, and what turns their output into a step.

    Attributes:
        min_logvar, max_logvar: [D], bounds of the log-variance.
        obs_low, obs_high: [S], bounds of observable states.
        noise_factor: [D, D], L of the correlated noise L y; None for independent noise.
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
        mean_p, logvar_p, mean_g, logvar_g: [E, B, D], of x, or of y with correlated noise L y. The
            reference's mean_g and logvar_g carry the gradient to g's networks.
        sample: [E, B, D], drawn from g.
        next_obs: [2, E, B, S], the states that the sample and g's mean lead to.
        reward: [2, E, B], the rewards of the two.
        outputs, slopes: of g's layers, as the native `ensemble_mlp` saves them; [] elsewhere.
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
