"""The adversarial auxiliary model g_psi: the most pessimistic Gaussian in a KL ball around p_theta.

Source: RMBPO (arXiv 2406.09976). Loss per member over real (s, a), everything but g detached:

    L = mean_b KL(g || p) + eta * mean_b [log g(x) * A(x)],      x = (state change, reward) ~ g
    A(x) = r' + gamma * (1 - done(s')) * V(s') - b(s, a)
"""

from abc import abstractmethod

import torch
from torch import Tensor

from rmbpo_fast.algo.adversary_fit import FittedAdversary
from rmbpo_fast.algo.effect import Effect, effect_of
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.nets import EnsembleMLP
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer, take_rows
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import AdversaryConfig
from rmbpo_fast.kernels import (
    Draw,
    adversary_draw,
    adversary_step_,
    bound_logvar,
    gaussian_kl_score,
    pathwise_loss,
    residual_gaussian,
    shift_gaussian,
)
from rmbpo_fast.kernels.backend import fused

LEARNING_RATE = 1e-3


class GaussianAdversary(FittedAdversary):
    """An ensemble g_psi whose member i is paired with member i of p_theta.

    With --correlated-noise g is a Gaussian over the independent noise y, which is N(0, 1) under p
    (ours); see `WorldModel.frame`.

    Args:
        obs_size, action_size: S, A; D = S + 1 numbers are predicted.
        config, hidden, members: training settings; layer widths and E as p_theta's.
        generator: draws the first weights.
    """

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        config: AdversaryConfig,
        hidden: tuple[int, ...],
        members: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.config = config
        outputs = obs_size + 1
        sizes = (obs_size + action_size, *hidden, 2 * outputs)
        self.net = EnsembleMLP(members, sizes, "swish", generator, device)
        dims = config.adversary_dims
        mask = torch.ones(outputs, dtype=torch.bool)
        if dims is not None:
            if any(not 0 <= d < outputs for d in dims):
                raise ValueError(f"adversary_dims: expected 0 to {outputs - 1}, found {dims}")
            mask = torch.isin(torch.arange(outputs), torch.tensor(dims, dtype=torch.int64))
        self.mask = mask.to(device)  # [D], where g may differ from p
        self.register_buffer("eta", torch.tensor(float(config.eta), device=device))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("mean_shift", torch.zeros(outputs, device=device))
        self._zero_last_layer()
        self.optimizer = Adam(self.net.parameters(), LEARNING_RATE, device)

    @torch.no_grad()
    def _zero_last_layer(self) -> None:
        self.net.weights[-1].zero_()
        self.net.biases[-1].zero_()

    @abstractmethod
    def around(
        self,
        world_model: WorldModel,
        inputs: Tensor,
        mean_p: Tensor,
        logvar_p: Tensor,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """g's mean and log-variance given p's at the same inputs; masked dimensions copy p's."""

    def train_step(
        self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """A gradient step on `loss`; its arguments, and the loss [] before the step."""
        loss = fused(self.loss)(game, obs, action, eps, noise)
        self.optimizer.minimize(loss)
        return loss.detach()

    def loss(self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        """The module's L by the score function, summed over members, [].

        Args:
            obs, action: [E, B, S] and [E, B, A], real rows.
            eps: [E, B, D] standard normal, draws x ~ g (y ~ g with --correlated-noise).
            noise: [E, B, A] standard normal, draws a' ~ pi, for the baseline too: that takes the
                policy's noise out of A, and the baseline still doesn't depend on x.
        """
        inputs = game.world_model.inputs(obs, action)
        with torch.no_grad():
            p, lead = game.world_model.frame(inputs)
        mean, logvar = self.around(game.world_model, inputs, *p)
        with torch.no_grad():
            sample = mean + torch.exp(0.5 * logvar) * eps
            weight = game.target(obs, lead(sample), noise) - game.target(obs, lead(mean), noise)
        return gaussian_kl_score(mean, logvar, *p, sample, weight, self.eta)

    def predict(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of g_psi, [E, B, D] each; arguments as `WorldModel.predict`'s.

        With --correlated-noise these are not what a step is drawn from; `dynamics` gives that.
        """
        with torch.no_grad():
            mean_p, logvar_p = world_model.predict(inputs, members)
        return self.around(world_model, inputs, mean_p, logvar_p, members)

    def dynamics(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if not world_model.config.correlated_noise:
            return *self.predict(world_model, inputs, members), noise
        mean_p, logvar_p = world_model.predict(inputs, members)
        standard = (torch.zeros_like(mean_p), torch.zeros_like(mean_p))
        mean, logvar = self.around(world_model, inputs, *standard, members)
        return mean_p, logvar_p, world_model.correlate(mean + torch.exp(0.5 * logvar) * noise)

    def train_steps(
        self, batches: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> None:
        for batch in batches:
            self.train_step(game, *self.draw(batch, real, game, generator))

    def draw(
        self, rows: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`train_step`'s obs, action, eps and noise at rows [E, B] of the real buffer."""
        data = real.unpack(take_rows(real.rows, rows))
        eps = torch.randn(
            *rows.shape, self.mean_shift.numel(), generator=generator, device=rows.device
        )
        return data.obs, data.action, eps, game.learner.draw_noise(rows.shape, generator)

    @torch.no_grad()
    def effect(
        self,
        game: Game,
        obs: Tensor,
        action: Tensor,
        eps: Tensor,
        noise: Tensor,
        members: Tensor | None = None,
    ) -> Effect:
        inputs = game.world_model.inputs(obs, action)
        p, lead = game.world_model.frame(inputs, members)
        g = self.around(game.world_model, inputs, *p, members)
        return effect_of(game, obs, p, g, eps, noise, lead)


@torch.no_grad()
def advantage(game: Game, draw: Draw, noise: Tensor) -> Tensor:
    """A(x) [E, B]: the worth of the drawn x minus the baseline b, the worth of g's mean (ours)."""
    at_sample, at_mean = (game.worth(draw.next_obs[k], draw.reward[k], noise) for k in (0, 1))
    return at_sample - at_mean


class ResidualAdversary(GaussianAdversary):
    """The network gives a shift m and a log-variance change l in units of p's own spread (ours).

    mean_g = mean_p + m * std_p, logvar_g = logvar_p + l, l softly bounded to +-2. The last layer
    starts at zero, so g = p exactly before the first step, and g follows p's refits.
    """

    max_steps = 300

    def start_at_nominal(self, world_model: WorldModel) -> None:
        self._zero_last_layer()
        self.optimizer.restart()

    def around(
        self,
        world_model: WorldModel,
        inputs: Tensor,
        mean_p: Tensor,
        logvar_p: Tensor,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        return shift_gaussian(mean_p, logvar_p, self.net(inputs, members), self.mask)

    def predict(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        heads = (world_model.net(inputs, members), self.net(inputs, members))
        bounds = (world_model.min_logvar, world_model.max_logvar)
        return residual_gaussian(*heads, *bounds, self.mask)

    def train_step(
        self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """The same step on the same loss, in two operations that a backend may fuse."""
        inputs, mine = game.world_model.inputs(obs, action), (self.net.layers, self.mask)
        draw = adversary_draw(inputs, obs, eps, game.world_model.nominal, *mine)
        weight = fused(advantage)(game, draw, noise)
        return adversary_step_(inputs, draw, weight, *mine, self.eta, self.optimizer.lists())


class PathwiseAdversary(ResidualAdversary):
    """As residual; the value term's gradient goes through the critic at x = mean + std * eps."""

    train_step = GaussianAdversary.train_step  # ResidualAdversary's is of the score function

    def loss(self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        """mean_b KL(g || p) + eta * mean_b target(x), summed over members."""
        inputs = game.world_model.inputs(obs, action)
        with torch.no_grad():
            p, lead = game.world_model.frame(inputs)
        mean, logvar = self.around(game.world_model, inputs, *p)
        value = game.target(obs, lead(mean + torch.exp(0.5 * logvar) * eps), noise)
        return pathwise_loss(mean, logvar, *p, value, self.eta)


class PaperAdversary(GaussianAdversary):
    """The network gives mean and log-variance itself and starts as a copy of p_theta."""

    max_steps = 1_000

    def start_at_nominal(self, world_model: WorldModel) -> None:
        self.net.load_state_dict(world_model.net.state_dict())
        self.optimizer.restart()

    def around(
        self,
        world_model: WorldModel,
        inputs: Tensor,
        mean_p: Tensor,
        logvar_p: Tensor,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        mean, raw = self.net(inputs, members).chunk(2, dim=-1)
        low, high = world_model.min_logvar.detach(), world_model.max_logvar.detach()
        logvar = bound_logvar(raw, low, high)
        return torch.where(self.mask, mean, mean_p), torch.where(self.mask, logvar, logvar_p)
