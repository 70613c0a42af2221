"""Every loss of the paper: pure functions of tensors, one equation each.

Letters: B batch, E members, D predicted numbers (state change and reward).
"""

from torch import Tensor

from rmbpo_fast.kernels import gaussian_kl, gaussian_kl_score, gaussian_nll

# what pulls the soft bounds of p_theta's log-variance together, per predicted number (PETS)
BOUND_PULL = 0.01


def nominal_loss(head: Tensor, target: Tensor, min_logvar: Tensor, max_logvar: Tensor) -> Tensor:
    """Loss of p_theta: likelihood summed over members, and a pull on the log-variance bounds.

    Source: MBPO (arXiv 1906.08253) / PETS (arXiv 1805.12114). The L2 term on the weights is the
    optimiser's `weight_decay`, whose gradient is that of half the squared sum.

    Args:
        head: [E, B, 2 D], the network's output: mean, then log-variance before its bounds.
        target: [E, B, D].
        min_logvar, max_logvar: [D].
    Returns:
        [], to be minimised.
    """
    nll = gaussian_nll(head, target, min_logvar, max_logvar).sum()
    return nll + BOUND_PULL * (max_logvar.sum() - min_logvar.sum())


def score_loss(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    sample: Tensor,
    advantage: Tensor,
    eta: Tensor,
) -> Tensor:
    """Loss of g_psi with the score-function estimator of the value term.

    L = mean_b KL(g || p) + eta * mean_b [log g(x) * A(x)], summed over members.
    Source: RMBPO (arXiv 2406.09976), the auxiliary model's objective; algorithm.md section 3.

    Args:
        mean_g, logvar_g: [E, B, D], with gradient.
        mean_p, logvar_p: [E, B, D], detached.
        sample: [E, B, D], x ~ g, detached.
        advantage: [E, B], A(x), detached.
        eta: [], weight of the value term.
    """
    return gaussian_kl_score(mean_g, logvar_g, mean_p, logvar_p, sample, advantage, eta)


def pathwise_loss(
    mean_g: Tensor,
    logvar_g: Tensor,
    mean_p: Tensor,
    logvar_p: Tensor,
    value: Tensor,
    eta: Tensor,
) -> Tensor:
    """As `score_loss`, through the critic: value [E, B] at x = mean + std * eps, with gradient."""
    kl = gaussian_kl(mean_g, logvar_g, mean_p, logvar_p)
    return (kl + eta * value).mean(-1).sum()


def bellman_target(reward: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """r + gamma * (1 - done) * V(s'). All [B]; a time limit is not done."""
    return reward + gamma * (1.0 - terminated) * next_value


def soft_value(q: Tensor, log_prob: Tensor, temperature: Tensor) -> Tensor:
    """V = min_j Q_j - alpha * log pi. q [2, B], log_prob [B]."""
    return q.amin(0) - temperature * log_prob


def critic_loss(q: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared Bellman error, summed over the twins. q [2, B], target [B], detached.

    Source: SAC (arXiv 1812.05905), Eq. (5).
    """
    return 0.5 * (q - target).square().mean(-1).sum()


def actor_loss(value: Tensor) -> Tensor:
    """-E[V] of actions drawn from the policy, value [B]. Source: SAC, Eq. (7)."""
    return -value.mean()


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Moves the policy's entropy to its target; log_prob [B], detached. Source: SAC, Eq. (18)."""
    return -(log_temperature * (log_prob + target_entropy)).mean()
