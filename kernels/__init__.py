"""The hot operations of RMBPO, installed as `rmbpo_fast.kernels`.

A folder of `ops` is an operation, one of `steps` a whole gradient step: `reference.py` is the
readable truth, `op.py` the public function. `native` is what the C++ bodies share.
"""

from .layers import Layers
from .ops.adam.op import AdamState, adam_, minimize_
from .ops.ensemble_mlp.op import ensemble_mlp
from .ops.gaussian_kl.op import gaussian_kl, gaussian_kl_score, gaussian_log_prob
from .ops.gaussian_nll.op import bound_logvar, gaussian_nll
from .ops.sample_transition.op import sample_transition
from .ops.squashed_gaussian.op import squashed_gaussian
from .steps.adversary_step.arguments import Draw, Nominal
from .steps.adversary_step.op import adversary_draw, adversary_step_, residual_gaussian
from .steps.adversary_step.reference import pathwise_loss, shift_gaussian
from .steps.nominal_step.op import nominal_step_
from .steps.sac_step.arguments import (
    SacBatch,
    SacMetrics,
    SacNetworks,
    SacOptimizers,
    SacSettings,
)
from .steps.sac_step.op import sac_step_
from .steps.sac_step.reference import bellman_target, soft_value

__all__ = [
    "AdamState",
    "Draw",
    "Layers",
    "Nominal",
    "SacBatch",
    "SacMetrics",
    "SacNetworks",
    "SacOptimizers",
    "SacSettings",
    "adam_",
    "adversary_draw",
    "adversary_step_",
    "bellman_target",
    "bound_logvar",
    "ensemble_mlp",
    "gaussian_kl",
    "gaussian_kl_score",
    "gaussian_log_prob",
    "gaussian_nll",
    "minimize_",
    "nominal_step_",
    "pathwise_loss",
    "residual_gaussian",
    "sac_step_",
    "sample_transition",
    "shift_gaussian",
    "soft_value",
    "squashed_gaussian",
]
