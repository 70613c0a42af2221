"""A point on a line that an action pushes: small enough to know what every part must do."""

import gymnasium
import numpy as np
import torch

from rmbpo_fast.algo.adversary import Adversary
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.sac import SAC
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import AdversaryConfig, ModelConfig, SACConfig
from rmbpo_fast.worlds.transition import Transition

CPU = torch.device("cpu")
MODEL = ModelConfig(num_members=3, model_hidden=(16, 16))
ADVERSARY = AdversaryConfig(eta=0.3, kl_target_nats=None)


def transitions(obs: torch.Tensor, action: torch.Tensor, noise: torch.Tensor) -> Transition:
    """Position += 0.3 * action + noise; reward minus its square; beyond +-2 the episode ends."""
    next_obs = obs + 0.3 * action + noise
    reward = -next_obs[:, 0].square()
    return Transition(obs, action, reward, next_obs, (next_obs[:, 0].abs() > 2).float())


def real_data(count: int, generator: torch.Generator, noise: float = 0.05) -> ReplayBuffer:
    obs = torch.rand(count, 1, generator=generator) * 3 - 1.5
    action = torch.rand(count, 1, generator=generator) * 2 - 1
    buffer = ReplayBuffer(1, 1, count)
    drawn = noise * torch.randn(count, 1, generator=generator)
    buffer.add_(buffer.pack(transitions(obs, action, drawn)))
    return buffer


def rule(obs: torch.Tensor) -> torch.Tensor:
    return obs[..., 0].abs() > 2


def world_model(generator: torch.Generator) -> WorldModel:
    free = torch.full((1,), torch.inf)
    return WorldModel(1, 1, MODEL, -free, free, generator, CPU)


def sac(generator: torch.Generator, **settings: object) -> SAC:
    config = SACConfig(sac_hidden=(32, 32), sac_batch_size=128, **settings)  # type: ignore[arg-type]
    return SAC(1, 1, config, generator, CPU)


def train_sac(agent: SAC, data: ReplayBuffer, updates: int, generator: torch.Generator) -> dict:
    report = {}
    for _ in range(updates):
        noise = agent.draw_noise((2, 128), generator)
        report = agent.step(data.sample(128, generator), noise[0], noise[1])
    return report


def fit(adversary: Adversary, data: ReplayBuffer, game: Game, generator: torch.Generator) -> dict:
    """A fit without graphs."""
    return adversary.fit(
        data,
        game,
        generator,
        lambda batches: adversary.train_steps(batches, data, game, generator),
    )


class Point(gymnasium.Env):
    """The same as a Gymnasium task, with a velocity; wind blows in its steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.1, 0.1, 2)
        return self.state.copy(), {}

    def step(self, action):
        change = np.array([0.1 * self.state[1], 0.1 * float(action[0])])
        self.state = self.state + change + self.np_random.normal(0, 0.02, 2)
        return self.state.copy(), 1.0 - abs(float(self.state[0])), False, False, {}
