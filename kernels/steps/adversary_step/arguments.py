"""What the adversary's gradient step takes, and what passes between its two parts."""

from typing import NamedTuple

from torch import Tensor

from ...layers import Layers


class Nominal(NamedTuple):
    """p_theta: networks from I to 2 D, bounds of its log-variance [D], of observable states [S].

    noise_factor: [D, D], L of the correlated noise L y; None where each number has its own noise.
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
        mean_p, logvar_p, mean_g, logvar_g: [E, B, D]; of the noise y where it is correlated. On the
            reference mean_g and logvar_g carry the gradient to g's networks.
        sample: [E, B, D], drawn from g.
        next_obs: [2, E, B, S], where the sample leads, and g's mean. reward: [2, E, B] of them.
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
