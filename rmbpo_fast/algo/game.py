"""What the adversary plays against: the model, the policy's values and the ending rule."""

from typing import NamedTuple

from torch import Tensor

from rmbpo_fast.algo.learner import Learner
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.kernels import bellman_target
from rmbpo_fast.worlds.termination import Rule


class Game(NamedTuple):
    """The other players, as the adversary sees them; all of them are constants to it."""

    world_model: WorldModel
    learner: Learner
    rule: Rule

    def worth(self, next_obs: Tensor, reward: Tensor, noise: Tensor) -> Tensor:
        """r' + gamma * (1 - done(s')) * V(s').

        Args:
            next_obs: [E, B, S]. reward: [E, B].
            noise: [E, B, A], draws a' ~ pi(.|s').
        Returns:
            [E, B].
        """
        value = self.learner.value(next_obs.flatten(0, 1), noise.flatten(0, 1)).view(reward.shape)
        terminated = self.rule(next_obs).to(reward.dtype)
        return bellman_target(reward, terminated, value, self.learner.gamma)

    def target(self, obs: Tensor, sample: Tensor, noise: Tensor) -> Tensor:
        """`worth` of where x = (state change, reward) leads. obs [E, B, S], sample [E, B, D]."""
        return self.worth(*self.world_model.next_state(obs, sample), noise)
