"""What can be changed in a MuJoCo model: names, nominal values, checks, the change itself."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import mujoco

from rmbpo_fast.errors import ConfigError

Masses = Literal["paper", "physical"]

# name: (what an axis of a figure says, smallest value, whether that value itself is allowed)
_KINDS: dict[str, tuple[str, float, bool]] = {
    "torso_mass": ("torso mass (kg)", 0.0, False),
    "pole_mass": ("pole mass (kg)", 0.0, False),
    "body_mass": ("mass (kg)", 0.0, False),
    "friction": ("relative change of all friction", -1.0, True),
    "joint_stiffness": ("stiffness", 0.0, True),
    "joint_damping": ("damping", 0.0, True),
    "gravity": ("gravity (m/s²)", 0.0, True),
}
_TARGETED = ("body_mass", "joint_stiffness", "joint_damping")
_UNITS = {"joint_stiffness": ("N m/rad", "N/m"), "joint_damping": ("N m s/rad", "N s/m")}
_TRIAL_STEPS = 200
_RUNAWAY = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


class ModelPhysics:
    """The distortions that a MuJoCo model takes, by the name that a user types.

    Values are absolute unless said otherwise:

        torso_mass: kg; the torso's inertia stays.
        pole_mass: kg; the pole's inertia grows with it.
        body_mass:BODY: kg; the body's inertia stays.
        friction: relative; every geom's friction times (1 + value).
        joint_stiffness[:JOINT[,JOINT]], joint_damping[:...]: N m/rad and N m s/rad for hinges,
            N/m and N s/m for slides; without a joint's name, every joint that has a motor.
        gravity: m/s^2, downwards.

    Whatever MuJoCo derives from these numbers when it compiles a model is derived anew.

    Args:
        env_id: names the task in messages.
        model: the nominal one.
    """

    def __init__(self, env_id: str, model: mujoco.MjModel) -> None:
        self.env_id, self._model = env_id, model

    @property
    def model(self) -> mujoco.MjModel:
        """The nominal model."""
        return self._model

    @cached_property
    def bodies(self) -> list[str]:
        """Names of the bodies that have one, the world left out."""
        names = [self.model.body(i).name for i in range(1, self.model.nbody)]
        return [name for name in names if name]

    @cached_property
    def joints(self) -> list[str]:
        """Names of the joints."""
        return [self.model.joint(i).name for i in range(self.model.njnt)]

    @cached_property
    def driven_joints(self) -> list[str]:
        """Names of the joints that have a motor."""
        return [self.joints[i] for i in sorted(set(self.model.actuator_trnid[:, 0].tolist()))]

    def offers(self) -> str:
        """The distortions of this model, for an error message."""
        own = [f"{b}_mass" for b in ("torso", "pole") if b in self.bodies]
        bodies, joints = "|".join(self.bodies), "|".join(self.joints)
        return ", ".join(
            [
                *own,
                f"body_mass:{bodies}",
                "friction",
                f"joint_stiffness[:{joints}]",
                "joint_damping[:...]",
                "gravity",
            ]
        )

    def check(self, name: str, value: float) -> None:
        """Raises ConfigError where the task has no such distortion, or can't take the value."""
        kind, _, targets = name.partition(":")
        known = kind in _KINDS and not (targets and kind not in _TARGETED)
        if known:
            known = all(t in self._choices(kind) for t in self.targets(name))
        if not known or (kind == "body_mass" and not targets):
            raise ConfigError(f"{self.env_id} has no distortion {name!r}; it has {self.offers()}")
        _, least, inclusive = _KINDS[kind]
        if not math.isfinite(value) or value < least or (value == least and not inclusive):
            expected = "at least" if inclusive else "greater than"
            raise ConfigError(f"{name} must be {expected} {least:g}, not {value:g}")

    def label(self, name: str) -> str:
        """What an axis says: `joint_stiffness:leg_joint` -> `leg_joint stiffness (N m/rad)`."""
        kind, _, targets = name.partition(":")
        text = _KINDS[kind][0]
        if kind in _UNITS:
            slides = [
                self.model.joint(joint).type[0] == mujoco.mjtJoint.mjJNT_SLIDE
                for joint in self.targets(name)
            ]
            hinge, slide = _UNITS[kind]
            text += f" ({slide if all(slides) else hinge})"
        return f"{targets.replace(',', ', ') or 'joint'} {text}" if kind in _TARGETED else text

    def nominal(self, name: str) -> float | None:
        """The value that changes nothing; None where the named joints differ in it."""
        kind = name.partition(":")[0]
        if kind == "friction":
            return 0.0
        model = self.model
        if kind == "gravity":
            return -float(model.opt.gravity[2])
        targets = self.targets(name)
        if kind == "joint_stiffness":
            values = {float(model.joint(t).stiffness[0]) for t in targets}
        elif kind == "joint_damping":
            values = {float(model.joint(t).damping[0]) for t in targets}
        else:
            values = {float(model.body(t).mass[0]) for t in targets}
        return values.pop() if len(values) == 1 else None

    def check_together(self, changes: Mapping[str, float]) -> None:
        """Raises ConfigError for an unknown distortion, or two for one and the same thing."""
        changed: set[tuple[str, str]] = set()
        for name, value in changes.items():
            self.check(name, value)
            kind = name.partition(":")[0]
            targets = self.targets(name)
            touched = {("mass" if kind.endswith("_mass") else kind, t) for t in targets}
            if changed & touched:
                asked = as_text(changes)
                raise ConfigError(f"{asked}: two values for {sorted(changed & touched)[0][1]}")
            changed |= touched

    def apply(self, model: mujoco.MjModel, changes: Mapping[str, float], masses: Masses) -> None:
        """Makes the changes in a model.

        Args:
            masses: "paper" leaves the inertias as the table above says; "physical" scales each
                with its body's mass.
        Raises:
            ConfigError: see `check_together`; or the model runs away by itself.
        """
        self.check_together(changes)
        for name, value in changes.items():
            kind = name.partition(":")[0]
            if kind.endswith("_mass"):
                for body in (model.body(target) for target in self.targets(name)):
                    if masses == "physical" or kind == "pole_mass":
                        body.inertia[:] *= value / body.mass[0]
                    body.mass[0] = value
            elif kind == "friction":
                model.geom_friction[:] *= 1.0 + value
            elif kind == "gravity":
                model.opt.gravity[:] = (0.0, 0.0, -value)
            for joint in self.targets(name) if kind.startswith("joint_") else ():
                if kind == "joint_stiffness":
                    model.joint(joint).stiffness[0] = value
                else:
                    model.joint(joint).damping[:] = value
        mujoco.mj_setConst(model, mujoco.MjData(model))
        try:
            let_run(model)
        except ValueError as error:
            raise ConfigError(f"{as_text(changes)}: the physics can't take it ({error})") from error

    def _choices(self, kind: str) -> list[str]:
        return self.joints if kind.startswith("joint_") else self.bodies

    def targets(self, name: str) -> list[str]:
        """The bodies or joints that a distortion changes."""
        kind, _, targets = name.partition(":")
        if targets:
            return targets.split(",")
        if kind in ("torso_mass", "pole_mass"):
            return [kind.removesuffix("_mass")]
        return self.driven_joints if kind.startswith("joint_") else []


def as_text(changes: Mapping[str, float]) -> str:
    """`torso_mass=6, friction=0.3`."""
    return ", ".join(f"{name}={value:g}" for name, value in changes.items())


def let_run(model: mujoco.MjModel) -> None:
    """Raises ValueError where a simulation without any action doesn't stay finite."""
    data = mujoco.MjData(model)
    data.qpos[:] += 0.01  # at its very rest a joint feels no spring
    mujoco.set_mju_user_warning(lambda warning: None)
    try:
        mujoco.mj_step(model, data, _TRIAL_STEPS)
    finally:
        mujoco.set_mju_user_warning(None)
    for warning in _RUNAWAY:
        if data.warning[warning].number:
            raise ValueError("the simulation runs away")
