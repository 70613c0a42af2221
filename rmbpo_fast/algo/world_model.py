"""The nominal model p_theta: fit the ensemble, choose elites, normalise, predict.

Source: MBPO (arXiv 1906.08253); the ensemble and its loss are PETS's (arXiv 1805.12114).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.correlation import noise_factor
from rmbpo_fast.algo.early_stop import EarlyStop, improves
from rmbpo_fast.algo.nets import EnsembleMLP
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer, take_rows
from rmbpo_fast.config import ModelConfig
from rmbpo_fast.errors import DivergedError
from rmbpo_fast.kernels import Nominal, bound_logvar, gaussian_log_prob, nominal_step_
from rmbpo_fast.worlds.transition import Transition

# Gradient steps that one call of `train_steps` takes: enough to hide a graph's launch.
STEPS_AT_ONCE = 25
# what pulls the soft bounds of p_theta's log-variance together, per predicted number (PETS)
BOUND_PULL = 0.01
LEARNING_RATE = 1e-3
# of the real rows, drawn afresh at each fit
HOLDOUT_SHARE, HOLDOUT_MAX_ROWS = 0.2, 5_000
# A fit looks at the held-out rows after so many gradient steps, and ends after so many looks
# without an improvement, or at the most steps. MBPO looks once an epoch, which grows with the data.
LOOK_EVERY, PATIENCE_LOOKS, MAX_STEPS = 100, 5, 2_500


def weight_decays(layers: int) -> list[float]:
    """L2 factor per layer, output layer last (MBPO): half the squared sum joins the loss."""
    return [*(2.5e-5, 5e-5)[: layers - 1], *[7.5e-5] * (layers - 3), 1e-4]


class WorldModel(nn.Module):
    """E networks from (obs, action) to mean and log-variance of (state change, reward).

    The D = S + 1 predicted numbers are in raw units; inputs are normalised by mean and std of the
    training rows of the last fit.

    Args:
        obs_size, action_size: S, A.
        config: sizes and training settings.
        obs_low, obs_high: [S] bounds of observable states; predictions are clipped to them.
        generator: draws the first weights.
    """

    input_mean: Tensor
    input_std: Tensor
    elites: Tensor
    noise_factor: Tensor

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        config: ModelConfig,
        obs_low: Tensor,
        obs_high: Tensor,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.config = config
        self.obs_size, self.outputs = obs_size, obs_size + 1
        inputs = obs_size + action_size
        sizes = (inputs, *config.model_hidden, 2 * self.outputs)
        self.net = EnsembleMLP(config.num_members, sizes, "swish", generator, device)
        self.max_logvar = nn.Parameter(torch.full((self.outputs,), 0.5, device=device))
        self.min_logvar = nn.Parameter(torch.full((self.outputs,), -10.0, device=device))
        self.register_buffer("input_mean", torch.zeros(inputs, device=device))
        self.register_buffer("input_std", torch.ones(inputs, device=device))
        self.register_buffer("elites", torch.arange(config.num_elites, device=device))
        factor = torch.eye(self.outputs, device=device)
        self.register_buffer("noise_factor", factor, persistent=config.correlated_noise)
        self.obs_low, self.obs_high = obs_low.to(device), obs_high.to(device)
        # inputs and targets of all data of a fit; written in place, for a graph that reads them
        self.table: tuple[Tensor, ...] = (torch.empty(0, inputs), torch.empty(0, self.outputs))
        groups: list[dict[str, Any]] = [
            {"params": [weight], "weight_decay": decay}
            for weight, decay in zip(self.net.weights, weight_decays(len(sizes) - 1), strict=True)
        ]
        unregularised = [*self.net.biases, self.max_logvar, self.min_logvar]
        self.optimizer = Adam([*groups, {"params": unregularised}], LEARNING_RATE, device)

    @property
    def nominal(self) -> Nominal:
        """p_theta as the adversary's gradient step takes it."""
        factor = self.noise_factor if self.config.correlated_noise else None
        bounds = (self.min_logvar, self.max_logvar, self.obs_low, self.obs_high)
        return Nominal(self.net.layers, *bounds, factor)

    def inputs(self, obs: Tensor, action: Tensor) -> Tensor:
        """Normalised network input [..., S + A]."""
        return (torch.cat([obs, action], dim=-1) - self.input_mean) / self.input_std

    def predict(self, inputs: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p_theta, [E, B, D] each.

        Args:
            inputs: [E, B, S + A], normalised.
            members: [E] indices of the networks to use, all if absent.
        """
        mean, raw = self.net(inputs, members).chunk(2, dim=-1)
        return mean, bound_logvar(raw, self.min_logvar, self.max_logvar)

    def dynamics(
        self, inputs: Tensor, members: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a step of the imagined world is drawn from: mean + std * noise.

        Args:
            inputs: [E, B, S + A], normalised. members: [E].
            noise: [E, B, D] standard normal.
        Returns:
            Mean, log-variance and noise, [E, B, D] each.
        """
        return *self.predict(inputs, members), self.correlate(noise)

    def frame(
        self, inputs: Tensor, members: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor], Tensor]]:
        """p_theta in coordinates in which its D numbers are independent, and the map back.

        The coordinates are the predicted numbers; with --correlated-noise they are the independent
        noise y of x = mean + std * L y, which is N(0, 1) under p. KL(g || p) is the same in both.

        Args:
            inputs, members: as `predict`'s.
        Returns:
            p's mean and log-variance in these coordinates, [E, B, D] each; the map from them to
            (state change, reward), [E, B, D] -> [E, B, D].
        """
        mean, logvar = self.predict(inputs, members)
        if not self.config.correlated_noise:
            return (mean, logvar), lambda sample: sample
        std, standard = torch.exp(0.5 * logvar), torch.zeros_like(mean)
        return (standard, standard), lambda noise: mean + std * self.correlate(noise)

    def correlate(self, noise: Tensor) -> Tensor:
        """L y of independent noise y [..., D] with --correlated-noise, else y itself."""
        return noise @ self.noise_factor.T if self.config.correlated_noise else noise

    def correlate_logvar(self, logvar: Tensor) -> Tensor:
        """Log-variance [..., D] of `correlate(noise)`, from that of the independent noise."""
        if not self.config.correlated_noise:
            return logvar
        return torch.log(torch.exp(logvar) @ self.noise_factor.square().T)

    def next_state(self, obs: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """(next_obs [..., S], reward [...]) of a sampled (state change, reward) [..., D]."""
        next_obs = torch.clamp(obs + sample[..., :-1], self.obs_low, self.obs_high)
        return next_obs, sample[..., -1]

    def train_steps(self, batches: Tensor) -> None:
        """A gradient step for each batch. batches [T, E, B]: rows of the data of this fit."""
        for batch in batches:
            self._train_step(batch)

    def _train_step(self, batch: Tensor) -> None:
        inputs, targets = (take_rows(column, batch) for column in self.table)
        bounds = (self.min_logvar, self.max_logvar, BOUND_PULL)
        nominal_step_(inputs, targets, self.net.layers, *bounds, self.optimizer.lists())

    def fit(
        self,
        real: ReplayBuffer,
        generator: torch.Generator,
        train_steps: Callable[[Tensor], None] | None = None,
    ) -> dict[str, Tensor | float]:
        """Trains on all real data until the held-out likelihood stops rising; chooses the elites.

        A fresh holdout split and, per member, one bootstrap of the training rows are drawn for
        the whole fit: batches drawn from all of them would show all members the same data.

        What ends a fit is the members' mean negative log-likelihood of each held-out row, compared
        with that of the last look which improved it (`improves`), because rollouts draw from the
        Gaussian: MBPO's squared error leaves its width out. Each member keeps its own best weights.

        Args:
            train_steps: what trains on some batches, perhaps a graph; `train_steps` if absent.
        Raises:
            DivergedError: the held-out likelihood is not finite.
        """
        config, device = self.config, self.net.weights[0].device
        data = real.all()
        count = len(data.reward)
        holdout = max(1, min(int(count * HOLDOUT_SHARE), HOLDOUT_MAX_ROWS))
        order = torch.randperm(count, generator=generator, device=device)
        self._normalise(data, order[holdout:])
        self._fill_table(data, real.capacity)
        held_inputs, held_targets = (column[order[:holdout]] for column in self.table)
        members, train = config.num_members, count - holdout
        picks = torch.randint(train, (members, train), generator=generator, device=device)
        bootstrap = order[holdout:][picks]  # [E, train]

        best = torch.full((members,), torch.inf, device=device)
        to_beat = None
        early_stop, steps = EarlyStop(self.net.parameters()), 0
        while steps < MAX_STEPS and early_stop.stale < PATIENCE_LOOKS:
            shape = (members, min(LOOK_EVERY, MAX_STEPS - steps) * config.model_batch_size)
            picks = torch.randint(train, shape, generator=generator, device=device)
            rows = bootstrap.gather(1, picks).unflatten(1, (-1, config.model_batch_size))
            for batches in rows.transpose(0, 1).split(STEPS_AT_ONCE):  # [T, E, B]
                (train_steps or self.train_steps)(batches)
                steps += len(batches)
            row_nll = self._row_nll(held_inputs, held_targets)
            nll, score = row_nll.mean(1), row_nll.mean(0)
            if not torch.isfinite(nll).all():
                raise DivergedError(f"the world model's held-out likelihood is {nll.tolist()}")
            goes_on = to_beat is None or improves(score, to_beat)
            if goes_on:
                to_beat = score
            early_stop.look(nll < best, goes_on)
            best = torch.minimum(best, nll)
        early_stop.restore()
        self.elites.copy_(best.argsort()[: config.num_elites])
        if config.correlated_noise:
            self._fit_correlation(held_inputs, held_targets)
        mse = self._holdout_mse(held_inputs, held_targets)
        return {
            "world_model/nll_nats": best.mean(),
            "world_model/steps": float(steps),
            **{f"world_model/nll_nats_{i}": best[i] for i in range(members)},
            **{f"world_model/holdout_mse_{i}": mse[i] for i in range(members)},
        }

    def _fill_table(self, data: Transition, capacity: int) -> None:
        count = len(data.reward)
        if len(self.table[0]) < count:
            widths = (len(self.input_mean), self.outputs)
            self.table = tuple(data.obs.new_empty(capacity, width) for width in widths)
        inputs, targets = self.table
        inputs[:count] = self.inputs(data.obs, data.action)
        targets[:count] = torch.cat([data.next_obs - data.obs, data.reward[:, None]], dim=-1)

    def _normalise(self, data: Transition, rows: Tensor) -> None:
        pairs = torch.cat([data.obs[rows], data.action[rows]], dim=-1)
        std = pairs.std(0, correction=0)
        self.input_mean.copy_(pairs.mean(0))
        self.input_std.copy_(torch.where(std < 1e-5, 1.0, std))

    @torch.no_grad()
    def _row_nll(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood in nats of inputs [B, S + A] and targets [B, D]: [E, B]."""
        mean, logvar = self.predict(inputs.expand(self.config.num_members, -1, -1))
        return -gaussian_log_prob(targets.expand_as(mean), mean, logvar)

    @torch.no_grad()
    def _holdout_mse(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error over (rows, D), [E]."""
        mean, _ = self.predict(inputs.expand(self.config.num_members, -1, -1))
        return (targets - mean).square().mean(dim=(1, 2))

    @torch.no_grad()
    def _fit_correlation(self, inputs: Tensor, targets: Tensor) -> None:
        """From the elites' errors at held-out rows, inputs [B, S + A] and targets [B, D]."""
        mean, logvar = self.predict(inputs.expand(len(self.elites), -1, -1), self.elites)
        errors = (targets - mean) * torch.exp(-0.5 * logvar)
        self.noise_factor.copy_(noise_factor(errors.flatten(0, 1)))
