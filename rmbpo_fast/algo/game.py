"""What the adversary plays against."""

from typing import NamedTuple

from torch import Tensor

from rmbpo_fast.algo.losses import bellman_target
from rmbpo_fast.algo.sac import SAC
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.worlds.termination import Rule


class Game(NamedTuple):
    """The other players, as the adversary sees them; all of them are constants to it."""

    world_model: WorldModel
    sac: SAC
    rule: Rule

    def target(self, obs: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        """r' + gamma * (1 - done(s')) * V(s').

        Args:
            obs: [E, B, S].
            sample: [E, B, D], x = (state change, reward).
            noise: [E, B, A], draws a' ~ pi(.|s').
        Returns:
            [E, B].
        """
        next_obs, reward = self.world_model.next_state(obs, sample)
        value = self.sac.value(next_obs.flatten(0, 1), noise.flatten(0, 1)).view(reward.shape)
        terminated = self.rule(next_obs).to(reward.dtype)
        return bellman_target(reward, terminated, value, self.sac.config.gamma)
