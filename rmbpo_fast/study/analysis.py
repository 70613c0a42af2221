"""What a trained run believes, held against its policy's own real episodes.

What g_psi does to the world is the paper's third experiment: where it moves the prediction, what
that costs in KL, and how far it brings V down.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmbpo_fast.config import TaskConfig
from rmbpo_fast.run.agent import Agent
from rmbpo_fast.seeding import generator_for, seed_for
from rmbpo_fast.worlds.episodes import Act, evaluation_envs

_MOST_ROWS = 2_000  # states on which V's drop is estimated
# Returns-to-go of an episode cut by the time limit miss their tail; below this share it's let go.
_TAIL = 0.01


@dataclass(frozen=True)
class Played:
    """Real episodes one after the other, T steps in all.

    Attributes:
        obs, next_obs: [T, S]. action: [T, A], in [-1, 1]. reward: [T].
        return_to_go: [T] discounted sum of the rewards from this step on; NaN where the time
            limit cut off too much of it.
        returns: [episodes] undiscounted.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    return_to_go: Tensor
    returns: np.ndarray


def play_episodes(act: Act, config: TaskConfig, episodes: int, seed: int, gamma: float) -> Played:
    """The first episode of each of `episodes` environments, action noise included."""
    envs = evaluation_envs(config, episodes, seed)
    if len(envs.obs) < episodes:  # a task of which there is one instance
        envs.close()
        seeds = [seed_for(seed, "episode", i) for i in range(episodes)]
        parts = [play_episodes(act, config, 1, each, gamma) for each in seeds]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(part, name) for part in parts])

        tensors = [joined(name) for name in ("obs", "action", "reward", "next_obs", "return_to_go")]
        obs, action, reward, next_obs, to_go = tensors
        returns = np.concatenate([part.returns for part in parts])
        return Played(obs, action, reward, next_obs, to_go, returns)
    steps, playing = [], torch.ones(episodes, dtype=torch.bool)
    lengths, cut = torch.zeros(episodes, dtype=torch.int64), torch.zeros(episodes).bool()
    try:
        while playing.any():
            step = envs.step(act(envs.obs))
            steps.append(step)
            lengths += playing
            for episode in envs.episodes:
                if playing[episode.env]:
                    playing[episode.env] = False
                    cut[episode.env] = not step.terminated[episode.env]
            envs.episodes.clear()
    finally:
        envs.close()

    def by_episode(name: str) -> Tensor:
        return torch.stack([getattr(step, name) for step in steps], dim=1)  # [episodes, longest, .]

    left = lengths[:, None] - torch.arange(len(steps))  # steps left, this one included
    inside = left > 0
    reward = torch.where(inside, by_episode("reward").double(), 0.0)
    to_go = torch.zeros_like(reward)
    after = torch.zeros(episodes, dtype=torch.float64)
    for t in reversed(range(len(steps))):
        after = reward[:, t] + gamma * after
        to_go[:, t] = after
    to_go[cut[:, None] & (gamma**left > _TAIL)] = torch.nan
    return Played(
        by_episode("obs")[inside],
        by_episode("action")[inside],
        by_episode("reward")[inside],
        by_episode("next_obs")[inside],
        to_go[inside].float(),
        reward.sum(1).numpy(),
    )


@torch.no_grad()
def model_error(agent: Agent, played: Played) -> dict[str, np.ndarray]:
    """How p_theta's elites predict real steps, per dimension [D].

    Returns:
        rmse: in the dimension's unit.
        rmse_share: the same in units of the real change's std.
        z_rms: error in units of p's own std; 1 is a calibrated model, above 1 an overconfident.
    """
    targets = torch.cat([played.next_obs - played.obs, played.reward[:, None]], dim=-1)
    elites = agent.world_model.elites
    inputs = agent.world_model.inputs(played.obs, played.action).expand(len(elites), -1, -1)
    mean, logvar = agent.world_model.predict(inputs, elites)
    error = mean - targets
    rmse = error.square().mean(dim=(0, 1)).sqrt()
    # a reward that is always 1 has no spread to measure an error by
    spread = targets.std(dim=0)
    share = torch.where(spread > 1e-8, rmse / spread, torch.nan)
    z = (error * torch.exp(-0.5 * logvar)).square().mean(dim=(0, 1)).sqrt()
    return {"rmse": rmse.numpy(), "rmse_share": share.numpy(), "z_rms": z.numpy()}


@torch.no_grad()
def q_gap(agent: Agent, played: Played) -> dict[str, float]:
    """Q at the real steps against the discounted return that followed.

    Q holds SAC's entropy bonus, which a return doesn't; `entropy_bonus` is what the bonus would
    add in the long run, alpha * H / (1 - gamma).
    """
    learner = agent.learner
    usable = torch.isfinite(played.return_to_go)
    obs, action = played.obs[usable], played.action[usable]
    truth = played.return_to_go[usable]
    q = learner.q_value(obs, action)
    noise = learner.draw_noise(obs.shape[:-1], generator_for(0, "analysis entropy"))
    bonus = learner.bonus(obs, noise).mean()
    gap, mean = float((q - truth).mean()), float(truth.mean())
    return {
        "states": float(len(truth)),
        "q_mean": float(q.mean()),
        "return_mean": mean,
        "gap": gap,
        "gap_share": gap / abs(mean) if mean else float("nan"),
        "entropy_bonus": float(bonus / (1.0 - learner.gamma)),
    }


@torch.no_grad()
def adversary_effect(agent: Agent, played: Played, seed: int, ablate: bool) -> dict[str, Any]:
    """What g_psi changes against p_theta on the policy's own real states.

    Args:
        ablate: also V's drop with g in one dimension only, and with g in all but one.
    Returns:
        Per dimension [D]: shift_mean, shift_p10, shift_p90 (mean shift m in units of p's std,
        over states and elites), logvar_change, kl_per_dimension (given the dimensions before it
        where they are correlated); with `ablate` drop_only and drop_without.
        Scalars: kl_nats in all, value_drop with its standard error over states, value_std under
        p and value_mean.
    Raises:
        ValueError: the run has no adversary.
    """
    adversary = agent.adversary
    if adversary is None:
        raise ValueError("expected a run with an adversary, found plain MBPO")
    stream = generator_for(seed, "analysis")
    rows = torch.randperm(len(played.obs), generator=stream)[:_MOST_ROWS]
    elites = agent.world_model.elites
    obs, action = (x[rows].expand(len(elites), -1, -1) for x in (played.obs, played.action))
    eps = torch.randn(*obs.shape[:-1], obs.shape[-1] + 1, generator=stream)
    noise = agent.learner.draw_noise(obs.shape[:-1], stream)
    effect = adversary.effect(agent.game, obs, action, eps, noise, elites)
    drop = effect.drop.mean(dim=0)  # [B]
    low, high = np.quantile(effect.shift.flatten(0, 1).numpy(), [0.1, 0.9], axis=0)
    found: dict[str, Any] = {
        "shift_mean": effect.shift.mean(dim=(0, 1)).numpy(),
        "shift_p10": low,
        "shift_p90": high,
        "logvar_change": effect.logvar_change.mean(dim=(0, 1)).numpy(),
        "kl_per_dimension": effect.kl.mean(dim=(0, 1)).numpy(),
        "kl_nats": float(effect.kl_nats),
        "value_drop": float(drop.mean()),
        "value_drop_error": float(drop.std() / len(drop) ** 0.5),
        "value_std": float(effect.value_std),
        "value_mean": float(effect.value.mean()),
    }
    if ablate:
        only: list[float] = []
        without: list[float] = []
        for d in range(eps.shape[-1]):
            this = torch.arange(eps.shape[-1]) == d
            for drops, sample in (
                (only, torch.where(this, effect.sample_g, effect.sample_p)),
                (without, torch.where(this, effect.sample_p, effect.sample_g)),
            ):
                value = agent.game.target(obs, sample, noise)
                drops.append(float((effect.value - value).mean()))
        found.update(drop_only=np.array(only), drop_without=np.array(without))
    return found
