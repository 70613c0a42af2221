"""How robust is an agent of another library? Here one of Stable-Baselines3, on Hopper.

pip install stable-baselines3
python examples/distortions_for_sb3.py
"""

from collections.abc import Iterable

import gymnasium
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy

from rmbpo_fast.worlds import Distorted

MASSES = (2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0)  # kg; the nominal torso has 3.67


def main(
    steps: int = 100_000, masses: Iterable[float] = MASSES, episodes: int = 10
) -> dict[float, np.ndarray]:
    agent = SAC("MlpPolicy", "Hopper-v5", seed=0, learning_starts=min(100, steps))
    agent.learn(steps)
    returns = {}
    for mass in masses:
        env = Distorted(gymnasium.make("Hopper-v5"), torso_mass=mass)
        env.reset(seed=0)
        found, _ = evaluate_policy(agent, env, episodes, return_episode_rewards=True, warn=False)
        returns[mass] = np.array(found)
        print(f"torso of {mass:g} kg: {returns[mass].mean():.0f} +- {returns[mass].std():.0f}")
    return returns


if __name__ == "__main__":
    main()
