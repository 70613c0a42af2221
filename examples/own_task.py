"""A task of your own: register it, say when an episode ends, train.

python examples/own_task.py
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from rmbpo_fast import preset, train


class Cart(gymnasium.Env):
    """A cart on a track: the action is a force, and beyond two metres it falls off."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 2)
        return self.state.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        position, velocity = self.state
        velocity += 0.1 * float(action[0]) + self.np_random.normal(0.0, 0.01)
        self.state = np.array([position + 0.1 * velocity, velocity])
        fell = bool(abs(self.state[0]) > 2.0)
        return self.state.copy(), 1.0 - float(self.state[0] ** 2), fell, False, {}


def off_the_track(next_obs: torch.Tensor) -> torch.Tensor:
    """The ending rule for imagined states: [..., 2] -> bool [...]."""
    return next_obs[..., 0].abs() > 2.0


gymnasium.register("Mine/Cart-v0", "own_task:Cart", max_episode_steps=100)


def main(**settings: Any) -> Path:
    config = preset(
        "own_task:Mine/Cart-v0",
        termination="own_task:off_the_track",
        total_env_steps=3_000,
        random_steps=500,
        epoch_steps=250,
        updates_per_step=5,
        drop_target=0.1,
    )
    return train(config.replace(**settings))


if __name__ == "__main__":
    main()
