"""The hot operations of RMBPO, installed as `rmbpo_fast.kernels`. Imports torch only.

One folder is one operation: `reference.py` is the readable truth, `op.py` the public function.
"""

from .adam.op import AdamState, adam_
from .adversary_step.op import (
    Critic,
    Draw,
    Nominal,
    adversary_draw,
    adversary_step_,
    residual_gaussian,
)
from .ensemble_mlp.op import ensemble_mlp
from .gaussian_kl.op import gaussian_kl, gaussian_kl_score, gaussian_log_prob
from .gaussian_nll.op import bound_logvar, gaussian_nll
from .layers import Layers
from .nominal_step.op import nominal_step_
from .sac_step.op import SacBatch, SacNetworks, SacOptimizers, SacSettings, sac_step_
from .sample_transition.op import sample_transition
from .squashed_gaussian.op import squashed_gaussian

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
