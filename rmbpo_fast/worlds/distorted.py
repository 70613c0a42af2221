"""A distortion as a Gymnasium wrapper, for any MuJoCo task and for agents of any library."""

from typing import Any

import gymnasium
import mujoco
from gymnasium.utils import RecordConstructorArgs

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.physics import Masses, ModelPhysics


class Distorted(gymnasium.Wrapper, RecordConstructorArgs):
    """A MuJoCo task with its physics changed:

        env = Distorted(gymnasium.make("Hopper-v5"), torso_mass=6.0, friction=0.3)
        env = Distorted(gymnasium.make("Hopper-v5"), **{"body_mass:foot": 2.0})

    The model is changed in place, once: a wrapper around this one begins from its numbers.

    Args:
        env: a task whose `unwrapped.model` is a MuJoCo model, as Gymnasium's are.
        masses: "paper" leaves a body's inertia when its mass changes, but for the pole's;
            "physical" scales it with the mass.
        changes: see `ModelPhysics`.
    Raises:
        ConfigError: no MuJoCo task, or a change that the model can't take.
    """

    def __init__(self, env: gymnasium.Env, masses: Masses = "paper", **changes: float) -> None:
        recorded: dict[str, Any] = {"masses": masses, **changes}
        RecordConstructorArgs.__init__(self, **recorded)
        super().__init__(env)
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        model: Any = getattr(env.unwrapped, "model", None)
        if not isinstance(model, mujoco.MjModel):
            raise ConfigError(f"{name}: expected a task with a MuJoCo model")
        if masses not in ("paper", "physical"):
            raise ConfigError(f"masses: expected paper or physical, found {masses!r}")
        ModelPhysics(name, model).apply(model, changes, masses)


def make(
    env: str, masses: Masses = "paper", render_mode: str | None = None, **changes: float
) -> gymnasium.Env:
    """What `gymnasium.make("rmbpo_fast.worlds:Distorted-v0", env="Hopper-v5", torso_mass=6.0)`
    makes, and `gymnasium.make_vec` with it."""
    return Distorted(gymnasium.make(env, render_mode=render_mode), masses, **changes)
