"""The adversarial auxiliary model g_psi: the most pessimistic world in a KL ball around p_theta.

Source: RMBPO (arXiv 2406.09976). Loss per member over real (s, a), everything but g detached:

    L = mean_b KL(g || p) + eta * mean_b [log g(x) * A(x)],      x = (state change, reward) ~ g
    A(x) = r' + gamma * (1 - done(s')) * V(s') - b(s, a)
"""

import torch
from torch import Tensor, nn

from rmbpo_fast.algo.effect import Effect, effect_of
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.losses import pathwise_loss, score_loss
from rmbpo_fast.algo.nets import EnsembleMLP
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer, take_rows
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import AdversaryConfig
from rmbpo_fast.kernels import (
    Critic,
    Nominal,
    adversary_draw,
    adversary_step_,
    bound_logvar,
    residual_gaussian,
)
from rmbpo_fast.kernels.backend import active


class Adversary(nn.Module):
    """g_psi, member i paired with member i of p_theta, in one of two parametrisations.

    residual (ours): the network gives a shift m and a log-variance change l in units of p's own
    spread: mean_g = mean_p + m * std_p, logvar_g = logvar_p + l, l softly bounded to +-2. Its last
    layer starts at zero, so g = p exactly before the first step, and g follows p's refits.

    With --correlated-noise p = N(0, 1) is the law of the noise that the D numbers are made of, and
    g shifts that (ours); see `WorldModel.frame`.

    full: the network gives mean and log-variance itself and starts as a copy of p_theta.

    Args:
        obs_size, action_size: S, A; D = S + 1 numbers are predicted.
        config, hidden, members: training settings; layer widths and E as p_theta's.
        generator: draws the first weights.
    """

    eta: Tensor
    fits: Tensor
    mean_shift: Tensor

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
        self._touchable = mask.to(device)  # [D]
        self.register_buffer("eta", torch.tensor(float(config.eta), device=device))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64, device=device))
        self.register_buffer("mean_shift", torch.zeros(outputs, device=device))
        self._zero_last_layer()
        self.optimizer = Adam(self.net.parameters(), config.adversary_lr, device)

    @torch.no_grad()
    def _zero_last_layer(self) -> None:
        self.net.weights[-1].zero_()
        self.net.biases[-1].zero_()

    def start_at_nominal(self, world_model: WorldModel) -> None:
        """g = p, exactly, and an optimiser that hasn't stepped yet."""
        if self.config.parametrization == "residual":
            self._zero_last_layer()
        else:
            self.net.load_state_dict(world_model.net.state_dict())
        self.optimizer.restart()

    def predict(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of g_psi, [E, B, D] each; arguments as `WorldModel.predict`'s.

        Number by number: with --correlated-noise a step is drawn as `dynamics` says.
        """
        residual = self.config.parametrization == "residual"
        if residual and active().name == "native" and not torch.is_grad_enabled():
            heads = (world_model.net(inputs, members), self.net(inputs, members))
            bounds = (world_model.min_logvar, world_model.max_logvar)
            return residual_gaussian(*heads, *bounds, self._touchable.to(torch.float32))
        with torch.no_grad():
            mean_p, logvar_p = world_model.predict(inputs, members)
        return self.around(world_model, inputs, mean_p, logvar_p, members)

    def dynamics(
        self, world_model: WorldModel, inputs: Tensor, members: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a step of g_psi's world is drawn from; as `WorldModel.dynamics`."""
        if not world_model.config.correlated_noise:
            return *self.predict(world_model, inputs, members), noise
        mean_p, logvar_p = world_model.predict(inputs, members)
        standard = (torch.zeros_like(mean_p), torch.zeros_like(mean_p))
        mean, logvar = self.around(world_model, inputs, *standard, members)
        return mean_p, logvar_p, world_model.correlate(mean + torch.exp(0.5 * logvar) * noise)

    def around(
        self,
        world_model: WorldModel,
        inputs: Tensor,
        mean_p: Tensor,
        logvar_p: Tensor,
        members: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """g's mean and log-variance given p's at the same inputs; masked dimensions copy p's."""
        first, second = self.net(inputs, members).chunk(2, dim=-1)
        if self.config.parametrization == "residual":
            mean = mean_p + first * torch.exp(0.5 * logvar_p)
            logvar = logvar_p + 2.0 * torch.tanh(0.5 * second)
        else:
            low, high = world_model.min_logvar.detach(), world_model.max_logvar.detach()
            mean, logvar = first, bound_logvar(second, low, high)
        touch = self._touchable
        return torch.where(touch, mean, mean_p), torch.where(touch, logvar, logvar_p)

    def loss(self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor) -> Tensor:
        """The loss of one gradient step.

        Args:
            obs, action: [E, B, S] and [E, B, A], real rows.
            eps: [E, B, D] standard normal, draws x ~ g, or g's noise with --correlated-noise.
            noise: [E, B, A] standard normal, draws a' ~ pi; the baseline shares it, which
                leaves it independent of x and takes the policy's noise out of A.
        """
        model = game.world_model
        inputs = model.inputs(obs, action)
        with torch.no_grad():
            (mean_p, logvar_p), place = model.frame(inputs)
        mean, logvar = self.around(model, inputs, mean_p, logvar_p)
        sample = mean + torch.exp(0.5 * logvar) * eps
        if self.config.estimator == "pathwise":
            value = game.target(obs, place(sample), noise)
            return pathwise_loss(mean, logvar, mean_p, logvar_p, value, self.eta)
        with torch.no_grad():
            sample = sample.detach()
            advantage = game.target(obs, place(sample), noise)
            if self.config.baseline == "mean":
                advantage = advantage - game.target(obs, place(mean), noise)
        return score_loss(mean, logvar, mean_p, logvar_p, sample, advantage, self.eta)

    def train_steps(
        self, batches: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> None:
        """A gradient step for each batch. batches [T, E, B]: rows of the real buffer."""
        residual = self.config.parametrization == "residual" and self.config.estimator == "score"
        for batch in batches:
            drawn = self.draw(batch, real, game, generator)
            if residual and active().name == "native":
                self._native_step(game, *drawn)
            else:
                self.optimizer.minimize(self.loss(game, *drawn))

    def _native_step(
        self, game: Game, obs: Tensor, action: Tensor, eps: Tensor, noise: Tensor
    ) -> Tensor:
        """A step down `loss`'s gradient; its arguments, and its value before the step."""
        model, sac = game.world_model, game.sac
        inputs = model.inputs(obs, action)
        bounds = (model.min_logvar, model.max_logvar, model.obs_low, model.obs_high)
        factor = model.noise_factor if model.config.correlated_noise else None
        nominal = Nominal(model.net.layers, *bounds, factor)
        mine = (self.net.layers, self._touchable.to(torch.float32))
        draw = adversary_draw(inputs, obs, eps, nominal, *mine)
        critic = Critic(
            sac.actor.net.layers,
            sac.critic.net.layers,
            sac.log_temperature,
            sac.actor.log_std_min,
            sac.actor.log_std_max,
            sac.config.gamma,
        )
        return adversary_step_(
            inputs,
            draw,
            game.rule(draw.next_obs),
            noise,
            *mine,
            critic,
            self.eta,
            self.config.baseline == "mean",
            self.optimizer.lists(),
        )

    def draw(
        self, rows: Tensor, real: ReplayBuffer, game: Game, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`loss`'s obs, action, eps and noise at rows [E, B] of the real buffer."""
        data = real.unpack(take_rows(real.rows, rows))
        eps = torch.randn(
            *rows.shape, self.mean_shift.numel(), generator=generator, device=rows.device
        )
        return data.obs, data.action, eps, game.sac.draw_noise(rows.shape, generator)

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
        """What g does to the world. Arguments as `loss`'s; [E, B, .] of `members`, or all."""
        inputs = game.world_model.inputs(obs, action)
        p, place = game.world_model.frame(inputs, members)
        g = self.around(game.world_model, inputs, *p, members)
        return effect_of(game, obs, p, g, eps, noise, place)
