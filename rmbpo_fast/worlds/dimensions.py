"""What each predicted number is called and measured in, for tables and pictures."""

from typing import NamedTuple

import mujoco

from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.tasks import Task


class Dimension(NamedTuple):
    """A physical name and its unit ("" for the reward)."""

    name: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


# joint: (name of its position, name of its velocity); any other is "<joint> joint angle / velocity"
_JOINTS = {
    "rootx": ("x position", "x velocity"),
    "rootz": ("height", "vertical velocity"),
    "rooty": ("torso angle", "torso angular velocity"),
    "slider": ("cart position", "cart velocity"),
    "hinge": ("pole angle", "pole angular velocity"),
}
_FREE = (
    ["x position", "y position", "height", *(f"torso quaternion {i}" for i in "wxyz")],
    [f"{i} velocity" for i in "xy"]
    + ["vertical velocity", *(f"torso angular velocity {i}" for i in "xyz")],
)
_FREE_UNITS = (["m"] * 3 + [""] * 4, ["m/s"] * 3 + ["rad/s"] * 3)


def dimensions(task: Task, obs_size: int) -> list[Dimension]:
    """Names of the D = S + 1 predicted numbers, the reward last.

    Of a MuJoCo task that EnvPool steps they follow from its model: the observation holds the
    joints' positions, but for those along the ground, and then their velocities. Any other task
    has numbered ones.
    """
    names = _of_model(Physics(task).model) if task.backend == "envpool" else []
    names += [Dimension(f"observation {i}", "") for i in range(len(names), obs_size)]
    return [*names[:obs_size], Dimension("reward", "")]


def _of_model(model: mujoco.MjModel) -> list[Dimension]:
    positions: list[Dimension] = []
    velocities: list[Dimension] = []
    hidden = 0
    for i in range(model.njnt):
        joint = model.joint(i)
        if joint.type[0] == mujoco.mjtJoint.mjJNT_FREE:
            positions += map(Dimension, _FREE[0], _FREE_UNITS[0])
            velocities += map(Dimension, _FREE[1], _FREE_UNITS[1])
            hidden = 2
            continue
        slide = joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE
        names = _JOINTS.get(joint.name)
        if names is None:
            plain = _readable(joint.name)
            names = (f"{plain} joint angle", f"{plain} joint velocity")
        hidden = 1 if joint.name == "rootx" else hidden
        positions.append(Dimension(names[0], "m" if slide else "rad"))
        velocities.append(Dimension(names[1], "m/s" if slide else "rad/s"))
    return positions[hidden:] + velocities


def _readable(joint: str) -> str:
    """`thigh_left_joint` -> `left thigh`; the cheetah's `bthigh` -> `back thigh`."""
    words = joint.removesuffix("_joint").split("_")
    if words[-1] == "left":
        words = ["left", *words[:-1]]
    for letter, side in (("b", "back"), ("f", "front")):
        if words[0] in (f"{letter}thigh", f"{letter}shin", f"{letter}foot"):
            words = [side, words[0][1:], *words[1:]]
    return " ".join(words)
