"""The hot operations of RMBPO, installed as `rmbpo_fast.kernels`. Imports torch only.

One folder is one operation: `reference.py` is the readable truth, `op.py` the public function.
"""

from .layers import Layers
from .ops.adam.op import AdamState, adam_
from .ops.ensemble_mlp.op import ensemble_mlp
from .ops.gaussian_kl.op import gaussian_kl, gaussian_kl_score, gaussian_log_prob
from .ops.gaussian_nll.op import bound_logvar, gaussian_nll
from .ops.sample_transition.op import sample_transition
from .ops.squashed_gaussian.op import squashed_gaussian
from .steps.adversary_step.op import (
    Critic,
    Draw,
    Nominal,
    adversary_draw,
    adversary_step_,
    residual_gaussian,
)
from .steps.nominal_step.op import nominal_step_
from .steps.sac_step.op import SacBatch, SacNetworks, SacOptimizers, SacSettings, sac_step_

__all__ = [
    "AdamState",
    "Critic",
    "Draw",
    "Layers",
    "Nominal",
    "SacBatch",
    "SacNetworks",
    "SacOptimizers",
    "SacSettings",
    "adam_",
    "adversary_draw",
    "adversary_step_",
    "bound_logvar",
    "ensemble_mlp",
    "gaussian_kl",
    "gaussian_kl_score",
    "gaussian_log_prob",
    "gaussian_nll",
    "nominal_step_",
    "residual_gaussian",
    "sac_step_",
    "sample_transition",
    "squashed_gaussian",
]
