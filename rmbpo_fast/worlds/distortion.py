"""Changes to a task's physics: the worlds in which the robustness experiments test a policy.

EnvPool reads its MuJoCo models from XML files. A distorted task is the task's own XML, rewritten
into a private folder that is handed to EnvPool as `base_path`.
"""

import dataclasses
import hashlib
import math
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

import envpool
import mujoco
import numpy as np

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.tasks import Task, find_task

# name: (what an axis of a figure says, smallest value, whether that value itself is allowed)
_KINDS: dict[str, tuple[str, float, bool]] = {
    "torso_mass": ("torso mass (kg)", 0.0, False),
    "pole_mass": ("pole mass (kg)", 0.0, False),
    "body_mass": ("mass (kg)", 0.0, False),
    "friction": ("relative change of all friction", -1.0, True),
    "joint_stiffness": ("stiffness", 0.0, True),
    "joint_damping": ("damping", 0.0, True),
    "gravity": ("gravity (m/s²)", 0.0, True),
    "action_noise": ("action noise (times the task's)", 0.0, True),
}
_TARGETED = ("body_mass", "joint_stiffness", "joint_damping")
_UNITS = {"joint_stiffness": ("N m/rad", "N/m"), "joint_damping": ("N m s/rad", "N s/m")}
_MODELS = Path("mujoco", "assets_gym")  # below EnvPool's base_path

_TRIAL_STEPS = 200
_RUNAWAY = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)
_folder: tempfile.TemporaryDirectory[str] | None = None  # removed when the interpreter exits


class Physics:
    """A task's MuJoCo model: the distortions it takes, their nominal values, its XML with changes.

    Distortions, by the name that a user types (values are absolute unless said otherwise):

        torso_mass: kg; the torso's inertia stays.
        pole_mass: kg; the pole's inertia grows with it.
        body_mass:BODY: kg; the body's inertia stays.
        friction: relative; every geom's friction times (1 + value).
        joint_stiffness[:JOINT[,JOINT]], joint_damping[:...]: N m/rad and N m s/rad for hinges,
            N/m and N s/m for slides; without a joint's name, every joint that has a motor.
        gravity: m/s^2, downwards.
        action_noise: times the task's own noise scale; not part of the XML.

    Whatever MuJoCo derives from these numbers when it compiles a model is derived anew.

    Raises:
        ConfigError: (all but `action_noise`) the task isn't stepped by EnvPool.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    @cached_property
    def model_file(self) -> Path:
        """The XML that EnvPool loads: `<name>_envpool.xml` where there is one."""
        if self.task.backend != "envpool":
            raise ConfigError(
                f"{self.task.env_id} is stepped by Gymnasium: only action_noise can be changed"
            )
        config = envpool.make_spec(self.task.env_id).config
        plain = Path(config.base_path) / _MODELS / getattr(config, "xml_file", "")
        own = plain.with_name(f"{plain.stem}_envpool.xml")
        for path in (own, plain):
            if path.is_file():
                return path
        raise ConfigError(f"{self.task.env_id}: this EnvPool has no model file at {plain}")

    @cached_property
    def model(self) -> mujoco.MjModel:
        """The nominal model."""
        return _compile(self.model_file.read_text())

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
        """The distortions of this task, for an error message."""
        if self.task.backend != "envpool":
            return "action_noise"
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
                "action_noise",
            ]
        )

    def check(self, name: str, value: float) -> None:
        """Raises ConfigError where the task has no such distortion, or can't take the value."""
        kind, _, targets = name.partition(":")
        known = kind in _KINDS and not (targets and kind not in _TARGETED)
        if known and kind != "action_noise":
            known = all(t in self._choices(kind) for t in self._targets(name))
        if not known or (kind == "body_mass" and not targets):
            raise ConfigError(
                f"{self.task.env_id} has no distortion {name!r}; it has {self.offers()}"
            )
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
                for joint in self._targets(name)
            ]
            hinge, slide = _UNITS[kind]
            text += f" ({slide if all(slides) else hinge})"
        return f"{targets.replace(',', ', ') or 'joint'} {text}" if kind in _TARGETED else text

    def nominal(self, name: str) -> float | None:
        """The value that changes nothing; None where the named joints differ in it."""
        kind = name.partition(":")[0]
        if kind in ("friction", "action_noise"):
            return 0.0 if kind == "friction" else 1.0
        model = self.model
        if kind == "gravity":
            return -float(model.opt.gravity[2])
        targets = self._targets(name)
        if kind == "joint_stiffness":
            values = {float(model.joint(t).stiffness[0]) for t in targets}
        elif kind == "joint_damping":
            values = {float(model.joint(t).damping[0]) for t in targets}
        else:
            values = {float(model.body(t).mass[0]) for t in targets}
        return values.pop() if len(values) == 1 else None

    def xml(self, changes: Mapping[str, float]) -> str:
        """The task's XML with changes made.

        Raises:
            ConfigError: an unknown distortion, two for one and the same thing, or a model that
                MuJoCo refuses or that runs away by itself.
        """
        asked = ", ".join(f"{name}={value:g}" for name, value in changes.items())
        tree = ET.parse(self.model_file)
        root = tree.getroot()
        mass, inertia = self.model.body_mass.copy(), self.model.body_inertia.copy()
        changed: set[tuple[str, str]] = set()
        for name, value in changes.items():
            self.check(name, value)
            kind, targets = name.partition(":")[0], self._targets(name)
            touched = {("mass" if kind.endswith("_mass") else kind, t) for t in targets}
            if changed & touched:
                raise ConfigError(f"{asked}: two values for {sorted(changed & touched)[0][1]}")
            changed |= touched
            if kind.endswith("_mass"):
                for body in (self.model.body(t).id for t in targets):
                    if kind == "pole_mass":
                        inertia[body] *= value / mass[body]
                    mass[body] = value
            elif kind == "friction":
                self._set_friction(root, 1.0 + value)
            elif kind == "gravity":
                _child(root, "option").set("gravity", _numbers([0.0, 0.0, -value]))
            elif kind.startswith("joint_"):
                for joint in root.iter("joint"):
                    if joint.get("name") in targets:
                        joint.set(kind.removeprefix("joint_"), _numbers([value]))
        if (mass != self.model.body_mass).any():
            self._set_inertial(root, mass, inertia)
        text = ET.tostring(root, encoding="unicode")
        try:
            _let_run(_compile(text))
        except ValueError as error:
            raise ConfigError(f"{asked}: the physics can't take it ({error})") from error
        return text

    def _choices(self, kind: str) -> list[str]:
        return self.joints if kind.startswith("joint_") else self.bodies

    def _targets(self, name: str) -> list[str]:
        """The bodies or joints that a distortion changes."""
        kind, _, targets = name.partition(":")
        if targets:
            return targets.split(",")
        if kind in ("torso_mass", "pole_mass"):
            return [kind.removesuffix("_mass")]
        return self.driven_joints if kind.startswith("joint_") else []

    def _elements(self, root: ET.Element) -> list[ET.Element]:
        """The XML's bodies in the order of MuJoCo's ids: depth first, the world first."""
        world = root.find("worldbody")
        assert world is not None
        return [world, *world.iter("body")]

    def _set_friction(self, root: ET.Element, factor: float) -> None:
        for body, element in enumerate(self._elements(root)):
            first = int(self.model.body_geomadr[body])
            for i, geom in enumerate(element.findall("geom")):
                geom.set("friction", _numbers(factor * self.model.geom_friction[first + i]))

    def _set_inertial(self, root: ET.Element, mass: np.ndarray, inertia: np.ndarray) -> None:
        """Every body's mass and inertia in full, so that MuJoCo infers none from the geoms."""
        compiler = _child(root, "compiler")
        compiler.set("inertiafromgeom", "false")
        compiler.attrib.pop("settotalmass", None)
        for body, element in enumerate(self._elements(root)):
            if body == 0:
                continue
            for old in element.findall("inertial"):
                element.remove(old)
            values = {
                "pos": self.model.body_ipos[body],
                "quat": self.model.body_iquat[body],
                "mass": [mass[body]],
                "diaginertia": inertia[body],
            }
            element.insert(0, ET.Element("inertial", {k: _numbers(v) for k, v in values.items()}))


def _compile(text: str) -> mujoco.MjModel:
    # MuJoCo warns of the cheetah's `settotalmass`, on the terminal and in a file of its own
    mujoco.set_mju_user_warning(lambda warning: None)
    try:
        return mujoco.MjModel.from_xml_string(text)
    finally:
        mujoco.set_mju_user_warning(None)


def _let_run(model: mujoco.MjModel) -> None:
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


def _child(root: ET.Element, tag: str) -> ET.Element:
    found = root.find(tag)
    return ET.SubElement(root, tag) if found is None else found


def _numbers(values: "np.ndarray | list[float]") -> str:
    """In full precision."""
    return " ".join(repr(float(v)) for v in values)


def distorted_task(task: Task, changes: Mapping[str, float]) -> Task:
    """The task with changed physics. `action_noise` is checked, and left to who adds the noise.

    Raises:
        ConfigError: an unknown distortion, or a value that the physics can't take.
    """
    if "action_noise" in changes:
        Physics(task).check("action_noise", changes["action_noise"])
    physical = tuple((k, v) for k, v in changes.items() if k != "action_noise")
    if not physical:
        return task
    base = _write_models(task.env_id, physical)
    return dataclasses.replace(task, make_kwargs={**task.make_kwargs, "base_path": base})


@cache
def _physics(env_id: str) -> Physics:
    return Physics(find_task(env_id))  # its nominal model is compiled once


@cache
def _write_models(env_id: str, changes: tuple[tuple[str, float], ...]) -> str:
    """A folder for EnvPool's `base_path`, named by its content."""
    global _folder
    physics = _physics(env_id)
    text = physics.xml(dict(changes))
    if _folder is None:
        _folder = tempfile.TemporaryDirectory(prefix="rmbpo_fast-")
    base = Path(_folder.name) / hashlib.sha256(text.encode()).hexdigest()[:16]
    models = base / _MODELS
    models.mkdir(parents=True, exist_ok=True)
    stem = physics.model_file.stem.removesuffix("_envpool")
    for name in (f"{stem}.xml", f"{stem}_envpool.xml"):  # whichever EnvPool looks for
        (models / name).write_text(text)
    return str(base)
