"""An undistorted evaluation against a plain loop over Gymnasium's own environments."""

import gymnasium
import numpy as np
import pytest
import scipy.stats

from rmbpo_fast.policy import Policy
from rmbpo_fast.presets import preset
from rmbpo_fast.worlds.episodes import play
from untrained import make_run


def gymnasium_returns(policy, env_id, noise, scale, episodes, **kwargs):
    """A plain loop over Gymnasium's own environment, its noise drawn by scipy or numpy."""
    env, rng = gymnasium.make(env_id, **kwargs), np.random.default_rng(1)
    low, high = env.action_space.low, env.action_space.high
    weight = {"Hopper-v4": 1e-3, "Walker2d-v4": 1e-3, "HalfCheetah-v4": 0.1}.get(env_id, 0.0)
    returns = []
    for episode in range(episodes):
        obs, _ = env.reset(seed=episode)
        total, over = 0.0, False
        while not over:
            action = policy(obs).astype(np.float64)
            if noise == "uniform":
                simulated = action + rng.uniform(-scale, scale, size=action.shape)
            else:
                a, b = (low - action) / scale, (high - action) / scale
                simulated = scipy.stats.truncnorm.rvs(a, b, action, scale, size=1, random_state=rng)
            obs, reward, terminated, truncated, _ = env.step(simulated)
            # the control cost belongs to the clean action
            total += reward + weight * (np.sum(simulated**2) - np.sum(action**2))
            over = terminated or truncated
        returns.append(total)
    return np.array(returns)


@pytest.mark.parametrize(
    ("env", "env_id", "episodes", "kwargs"),
    [
        ("inverted_pendulum", "InvertedPendulum-v4", 30, {}),
        ("hopper", "Hopper-v4", 30, {}),
        # never ends: each has a thousand steps
        ("halfcheetah", "HalfCheetah-v4", 10, {"reset_noise_scale": 0.005}),
        ("walker2d", "Walker2d-v4", 30, {}),
    ],
)
def test_nominal_returns_are_those_of_a_plain_gymnasium_loop(
    env, env_id, episodes, kwargs, tmp_path
):
    """Some episodes each way of a policy that no one trained: its returns vary."""
    policy = Policy.load(make_run(tmp_path / "run", env, seed=3))
    config = preset(env).task
    ours = play(policy.unit_action, config, episodes, 5)
    theirs = gymnasium_returns(policy, env_id, *config.noise, episodes, **kwargs)
    difference = scipy.stats.bootstrap(
        (ours, theirs), lambda x, y, axis: x.mean(axis) - y.mean(axis), rng=np.random.default_rng(0)
    ).confidence_interval
    assert difference.low <= 0.0 <= difference.high
    # the bootstrap's interval may be wide: the means must agree within a tenth of the returns too
    assert abs(ours.mean() - theirs.mean()) < 0.1 * np.abs(theirs).mean() + 1.0
