"""The hot operations of RMBPO, installed as `rmbpo_fast.kernels`. Imports torch only.

One folder is one operation: `reference.py` is the readable truth, `op.py` the public function.
"""

from .adam.op import adam_
from .ensemble_mlp.op import ensemble_mlp
from .gaussian_kl.op import gaussian_kl, gaussian_kl_score, gaussian_log_prob
from .gaussian_nll.op import bound_logvar, gaussian_nll
from .sac_gradients.op import CriticBatch, Layers, sac_actor_gradients, sac_critic_gradients
from .sample_transition.op import sample_transition
from .squashed_gaussian.op import squashed_gaussian

__all__ = [
    "CriticBatch",
    "Layers",
    "adam_",
    "bound_logvar",
    "ensemble_mlp",
    "gaussian_kl",
    "gaussian_kl_score",
    "gaussian_log_prob",
    "gaussian_nll",
    "sac_actor_gradients",
    "sac_critic_gradients",
    "sample_transition",
    "squashed_gaussian",
]
