"""A fit of g_psi: gradient steps until a held-out objective stops improving, then eta's own step.

Source: RMBPO (arXiv 2406.09976) has the loss; when a fit ends and how eta adapts are ours.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from rmbpo_fast.algo.adversary import Adversary
from rmbpo_fast.algo.early_stop import EarlyStop
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.nets import EnsembleMLP
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.config import AdversaryConfig
from rmbpo_fast.errors import DivergedError

BATCH_SIZE = 256  # rows per member and gradient step
CHECK_EVERY = 25  # gradient steps between two checks of the held-out objective (ours)
PATIENCE_CHECKS = 3  # a fit ends after so many checks without an improvement (ours)
HOLDOUT_MAX_ROWS = 1_000  # of the held-out fifth of the real rows (ours)
# a fit ends where KL passes this many times --kl-target-nats (ours)
BALL = 2.0
# step of log(eta) per fit and unit of log(found / target) (ours)
DUAL_LR = 0.5


class FittedAdversary(Adversary):
    """An adversary with an ensemble of networks that is fitted to the real data.

    Attributes:
        max_steps: gradient steps of a fit at most (ours).
        fits: [] so far.
        mean_shift: [D] of the last fit, over the held-out states.
    """

    config: AdversaryConfig
    net: EnsembleMLP
    max_steps: int
    fits: Tensor
    mean_shift: Tensor

    @abstractmethod
    def draw(
        self, rows: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`effect`'s obs, action, eps and noise at rows [E, B] of the real buffer."""

    def fit(
        self,
        real: ReplayBuffer,
        game: Game,
        generator: torch.Generator,
        train_steps: Callable[[Tensor], None],
    ) -> dict[str, Tensor | float]:
        """Adam steps on real (s, a) until the held-out objective stops improving.

        The objective is KL + eta * (E_g[target] - E_p[target]), under the same noise at every
        check, and the best weights are kept. `adversary/shift_cosine` compares the mean shift over
        states with the last fit's: at -1 the adversary flips.

        With a KL target a fit also ends where KL passes `BALL` times the target: where V is steep,
        the best response to the same eta is to make everything fail at once.

        KL and the share of V that g takes are reported over all real states and, apart, over the
        newest ones, because the policy has left most of the others behind.

        Raises:
            DivergedError: the objective is not finite.
        """
        config, device = self.config, real.rows.device
        if int(self.fits) == 0:
            self.start_at_nominal(game.world_model)
        self.fits += 1
        order = torch.randperm(len(real), generator=generator, device=device)
        held = max(1, min(len(order) // 5, HOLDOUT_MAX_ROWS))
        members = self.net.weights[0].shape[0]
        held_out = self.draw(order[:held].expand(members, -1), real, game, generator)
        train = order[held:]
        best, kl_nats = self._objective(game, *held_out)
        edge = None
        if config.kl_target_nats is not None:
            # not below where it starts: on new rows, or after p's refit, g may be outside
            edge = kl_nats.clamp(min=BALL * config.kl_target_nats)
        early_stop, steps, outside = EarlyStop(self.net.parameters()), 0, False
        while steps < self.max_steps and not outside and early_stop.stale < PATIENCE_CHECKS:
            group = min(CHECK_EVERY, self.max_steps - steps)
            shape = (group, members, BATCH_SIZE)
            picks = torch.randint(len(train), shape, generator=generator, device=device)
            train_steps(train[picks])
            steps += group
            objective, kl_nats = self._objective(game, *held_out)
            if not torch.isfinite(objective):
                raise DivergedError("the adversary's objective is not finite")
            outside = edge is not None and bool(kl_nats > edge)
            better = (objective < best) & (not outside)
            best = torch.where(better, objective, best)
            early_stop.look(better)
        early_stop.restore()
        if outside:
            self.optimizer.restart()  # its momentum points outside
        effect = self.effect(game, *held_out)
        shift = effect.shift.mean(dim=(0, 1))
        cosine = torch.cosine_similarity(shift, self.mean_shift, dim=0)
        self.mean_shift.copy_(shift)
        report = {
            "adversary/kl_nats": effect.kl_nats,
            "adversary/value_drop": effect.drop.mean(),
            "adversary/value_std": effect.value_std,
            "adversary/value_mean": effect.value.mean(),
            "adversary/eta": self.eta.clone(),  # the one that this fit used
            **self.report_newest(real, game, generator),
        }
        if config.kl_target_nats is not None:
            self._adapt_eta(kl_nats if outside else effect.kl_nats, config.kl_target_nats)
        if config.drop_target is not None:
            self._adapt_eta(report["adversary/newest_drop_share"], config.drop_target)
        return {**report, "adversary/shift_cosine": cosine, "adversary/steps": float(steps)}

    def _objective(
        self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """KL - eta * drop, the loss's true value up to a constant, and KL. [] each."""
        effect = self.effect(game, obs, action, eps, noise)
        return effect.kl_nats - self.eta * effect.drop.mean(), effect.kl_nats

    def report_newest(
        self, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """KL, and the share of V that is lost in the long run, where the policy has been last."""
        size, device = len(real), real.rows.device
        # the buffer of real rows never wraps
        rows = torch.arange(max(0, size - HOLDOUT_MAX_ROWS), size, device=device)
        members = self.net.weights[0].shape[0]
        effect = self.effect(game, *self.draw(rows.expand(members, -1), real, game, generator))
        return {
            "adversary/newest_kl_nats": effect.kl_nats,
            "adversary/newest_drop_share": effect.long_run_drop_share(game.learner.gamma),
        }

    @torch.no_grad()
    def _adapt_eta(self, found: Tensor, target: float) -> None:
        """One step of log(eta) towards a target of KL or of the drop of V (ours).

        For a KL this is dual ascent on 1 / eta, the multiplier of the constraint KL <= target. The
        step is in logarithms because KL grows like eta^2 and the drop like eta, whatever the spread
        of V. If that were exact, a step of one half would meet a KL at once and go half the way to
        a drop. One fit raises eta by a factor of 1.6 at most and lowers it by 2.7, because too much
        pessimism costs real steps.
        """
        error = (found.clamp(min=0.0) / target).log().clamp(-1.0, 2.0)
        self.eta.mul_(torch.exp(-DUAL_LR * error)).clamp_(1e-6, 1e6)
