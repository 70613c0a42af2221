"""The dynamics ensemble's loss, and its gradient step by autograd on the other operations.

Source: MBPO (arXiv 1906.08253) / PETS (arXiv 1805.12114).
"""

from torch import Tensor

from ...layers import Layers
from ...ops.adam.op import AdamState, minimize_
from ...ops.ensemble_mlp.op import ensemble_mlp
from ...ops.gaussian_nll.op import gaussian_nll


def nominal_loss(
    head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor, bound_pull: float
) -> Tensor:
    """Likelihood summed over members, and a pull on the log-variance bounds.

    Args:
        head: [E, B, 2 D], the network's output: mean, then log-variance before its bounds.
        target: [E, B, D].
        min_logvar, max_logvar: [D].
    Returns:
        [], to be minimised.
    """
    nll = gaussian_nll(head, target, min_logvar, max_logvar).sum()
    return nll + bound_pull * (max_logvar.sum() - min_logvar.sum())


def nominal_step_reference_(
    inputs: Tensor,
    targets: Tensor,
    layers: Layers,
    min_logvar: Tensor,
    max_logvar: Tensor,
    bound_pull: float,
    optimizer: AdamState,
) -> Tensor:
    """See `nominal_step_`."""
    head = ensemble_mlp(inputs, layers.weights, layers.biases, "swish")
    loss = nominal_loss(head, targets, min_logvar, max_logvar, bound_pull)
    minimize_(loss, optimizer)
    return loss.detach()
