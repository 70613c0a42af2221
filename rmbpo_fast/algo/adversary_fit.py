"""A fit of g_psi: gradient steps until a held-out objective stops improving, then eta's own step.

Source: RMBPO (arXiv 2406.09976) has the loss; when a fit ends and how eta adapts are ours.
"""

import math

import torch
from torch import Tensor

from rmbpo_fast.algo.adversary import Adversary
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.errors import DivergedError

MAX_STEPS = {"residual": 300, "full": 1_000}
# a fit ends where KL passes this many times --kl-target-nats (ours)
BALL = 2.0


def fit_adversary(
    adversary: Adversary, real: ReplayBuffer, game: Game, generator: torch.Generator
) -> dict[str, Tensor | float]:
    """Adam steps on real (s, a) until the held-out objective stops improving.

    The held-out objective is KL + eta * (E_g[target] - E_p[target]) under the same noise at
    every look; the best weights seen are kept. `adversary/shift_cosine` is the cosine between
    the mean shift over states of this fit and of the last: -1 is an adversary that flips.

    With a KL target the fit also ends at the edge of a ball of `BALL` times it: past some
    steepness of V the best response to the same eta is to make everything fall at once.

    Reported over all real states, most of which the policy leaves behind as it learns, and for
    its newest ones: KL, and the share of V that g takes there in the long run.

    Raises:
        DivergedError: the objective is not finite.
    """
    config = adversary.config
    if int(adversary.fits) == 0 or not config.adversary_warm_start:
        adversary.start_at_nominal(game.world_model)
    adversary.fits += 1
    order = torch.randperm(len(real), generator=generator, device=real.rows.device)
    held = max(1, min(len(order) // 5, config.adversary_holdout_max_rows))
    members = adversary.net.weights[0].shape[0]
    held_out = adversary.draw(order[:held].expand(members, -1), real, game, generator)
    train = order[held:]
    best, kl_nats = _objective(adversary, game, *held_out)
    # not below where it starts: on new rows, or after p's refit (full), g may be outside
    ball = kl_nats.clamp(min=BALL * (config.kl_target_nats or math.inf))
    best_weights = [p.detach().clone() for p in adversary.net.parameters()]
    stale, steps = 0, 0
    limit = config.adversary_max_steps or MAX_STEPS[config.parametrization]
    while stale < config.adversary_patience_checks and steps < limit and kl_nats <= ball:
        group = min(config.adversary_check_every, limit - steps)
        picks = torch.randint(
            len(train),
            (group, members, config.adversary_batch_size),
            generator=generator,
            device=train.device,
        )
        adversary.train_steps(train[picks], real, game, generator)
        steps += group
        objective, kl_nats = _objective(adversary, game, *held_out)
        if not torch.isfinite(objective):
            raise DivergedError("the adversary's objective is not finite")
        if objective < best and kl_nats <= ball:
            best, stale = objective, 0
            best_weights = [p.detach().clone() for p in adversary.net.parameters()]
        else:
            stale += 1
    with torch.no_grad():
        for now, then in zip(adversary.net.parameters(), best_weights, strict=True):
            now.copy_(then)
    if kl_nats > ball:
        adversary.optimizer.restart()  # its momentum points outside
    effect = adversary.effect(game, *held_out)
    shift = effect.shift.mean(dim=(0, 1))
    cosine = torch.cosine_similarity(shift, adversary.mean_shift, dim=0)
    adversary.mean_shift.copy_(shift)
    report = {
        "adversary/kl_nats": effect.kl_nats,
        "adversary/value_drop": effect.drop.mean(),
        "adversary/value_std": effect.value_std,
        "adversary/value_mean": effect.value.mean(),
        "adversary/eta": adversary.eta.clone(),  # the one that this fit used
        **report_newest(adversary, real, game, generator),
    }
    if config.kl_target_nats is not None:
        found = kl_nats if kl_nats > ball else effect.kl_nats
        _adapt_eta(adversary, found, config.kl_target_nats)
    if config.drop_target is not None:
        _adapt_eta(adversary, report["adversary/newest_drop_share"], config.drop_target)
    return {**report, "adversary/shift_cosine": cosine, "adversary/steps": float(steps)}


def _objective(
    adversary: Adversary, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """KL - eta * drop, the loss's true value up to a constant, and KL. [] each."""
    effect = adversary.effect(game, obs, action, eps, noise)
    return effect.kl_nats - adversary.eta * effect.drop.mean(), effect.kl_nats


def report_newest(
    adversary: Adversary, real: ReplayBuffer, game: Game, generator: torch.Generator
) -> dict[str, Tensor]:
    """KL, and the share of V that is lost in the long run, where the policy has been last."""
    size, device = len(real), real.rows.device
    first = max(0, size - adversary.config.adversary_holdout_max_rows)
    rows = torch.arange(first, size, device=device)  # the buffer of real rows never wraps
    members = adversary.net.weights[0].shape[0]
    effect = adversary.effect(
        game, *adversary.draw(rows.expand(members, -1), real, game, generator)
    )
    return {
        "adversary/newest_kl_nats": effect.kl_nats,
        "adversary/newest_drop_share": effect.long_run_drop_share(game.sac.config.gamma),
    }


@torch.no_grad()
def _adapt_eta(adversary: Adversary, found: Tensor, target: float) -> None:
    """One step of log(eta) towards a target of KL or of the drop of V (ours).

    With KL it is dual ascent on 1 / eta, the multiplier of the constraint KL <= target. In
    logarithms, because KL grows like eta^2 and the drop like eta, whatever the spread of V: a
    step of one half would meet a KL at once if it were exactly that, and go half the way to a
    drop. One fit moves eta up by a factor of 1.6 and down by 2.7 at most (at the default
    step): too much pessimism costs real steps.
    """
    error = (found.clamp(min=0.0) / target).log().clamp(-1.0, 2.0)
    adversary.eta.mul_(torch.exp(-adversary.config.kl_dual_lr * error)).clamp_(1e-6, 1e6)
