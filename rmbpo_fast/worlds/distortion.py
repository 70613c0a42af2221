"""Changes to a task's physics: the worlds in which the robustness experiments test a policy.

Gymnasium's MuJoCo tasks are changed in their models (see `distorted`). EnvPool reads its models
from XML files: a distorted task is the task's own XML, rewritten into a private folder that is
handed to EnvPool as `base_path`.
"""

import dataclasses
import hashlib
import math
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import envpool
import gymnasium
import mujoco
import numpy as np

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.physics import ModelPhysics, as_text, let_run
from rmbpo_fast.worlds.tasks import Task, find_task

_MODELS = Path("mujoco", "assets_gym")  # below EnvPool's base_path

_folder: tempfile.TemporaryDirectory[str] | None = None  # removed when the interpreter exits


class Physics(ModelPhysics):
    """A task's MuJoCo model, what can be changed in it, and its XML with changes.

    `action_noise`, in times the task's own noise scale, is a distortion here too; it isn't part of
    the model.

    Raises:
        ConfigError: (all but `action_noise`) nobody knows the task's MuJoCo model.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.env_id = task, task.env_id

    @cached_property
    def model_file(self) -> Path:
        """The XML that EnvPool loads: `<name>_envpool.xml` where there is one."""
        if self.task.backend != "envpool":
            raise ConfigError(f"{self.env_id} is stepped by Gymnasium: its XML isn't known")
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
        if self.task.backend == "envpool":
            return _compile(self.model_file.read_text())
        made: Any = gymnasium.make(
            self.env_id, disable_env_checker=True, **self.task.make_kwargs
        ).unwrapped
        model = getattr(made, "model", None)
        made.close()
        if not isinstance(model, mujoco.MjModel):
            raise ConfigError(f"{self.env_id} is no MuJoCo task: only action_noise can be changed")
        return model

    def offers(self) -> str:
        return f"{super().offers()}, action_noise"

    def check(self, name: str, value: float) -> None:
        if name != "action_noise":
            super().check(name, value)
        elif not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"action_noise must be at least 0, not {value:g}")

    def label(self, name: str) -> str:
        return "action noise (times the task's)" if name == "action_noise" else super().label(name)

    def nominal(self, name: str) -> float | None:
        return 1.0 if name == "action_noise" else super().nominal(name)

    def xml(self, changes: Mapping[str, float]) -> str:
        """The task's XML with changes made.

        Raises:
            ConfigError: an unknown distortion, two for one and the same thing, or a model that
                MuJoCo refuses or that runs away by itself.
        """
        changed = copy(self.model)
        self.apply(changed, changes, "paper")
        tree = ET.parse(self.model_file)
        root = tree.getroot()
        kinds = {name.partition(":")[0] for name in changes}
        if (changed.body_mass != self.model.body_mass).any():
            self._set_inertial(root, changed)
        if "friction" in kinds:
            self._set_friction(root, changed)
        if "gravity" in kinds:
            _child(root, "option").set("gravity", _numbers(changed.opt.gravity))
        for name in (name for name in changes if name.startswith("joint_")):
            kind, targets = name.partition(":")[0], self.targets(name)
            for joint in root.iter("joint"):
                if joint.get("name") in targets:
                    joint.set(kind.removeprefix("joint_"), _numbers([changes[name]]))
        text = ET.tostring(root, encoding="unicode")
        try:
            let_run(_compile(text))
        except ValueError as error:
            raise ConfigError(f"{as_text(changes)}: the physics can't take it ({error})") from error
        return text

    def _elements(self, root: ET.Element) -> list[ET.Element]:
        """The XML's bodies in the order of MuJoCo's ids: depth first, the world first."""
        world = root.find("worldbody")
        assert world is not None
        return [world, *world.iter("body")]

    def _set_friction(self, root: ET.Element, changed: mujoco.MjModel) -> None:
        for body, element in enumerate(self._elements(root)):
            first = int(self.model.body_geomadr[body])
            for i, geom in enumerate(element.findall("geom")):
                geom.set("friction", _numbers(changed.geom_friction[first + i]))

    def _set_inertial(self, root: ET.Element, changed: mujoco.MjModel) -> None:
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
                "mass": [changed.body_mass[body]],
                "diaginertia": changed.body_inertia[body],
            }
            element.insert(0, ET.Element("inertial", {k: _numbers(v) for k, v in values.items()}))


def _compile(text: str) -> mujoco.MjModel:
    # MuJoCo warns of the cheetah's `settotalmass`, on the terminal and in a file of its own
    mujoco.set_mju_user_warning(lambda warning: None)
    try:
        return mujoco.MjModel.from_xml_string(text)
    finally:
        mujoco.set_mju_user_warning(None)


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
    physical = {k: v for k, v in changes.items() if k != "action_noise"}
    if not physical:
        return task
    if task.backend == "gymnasium":
        _try(task.env_id, tuple(physical.items()))
        return dataclasses.replace(task, changes=physical)
    base = _write_models(task.env_id, tuple(physical.items()))
    return dataclasses.replace(task, make_kwargs={**task.make_kwargs, "base_path": base})


@cache
def _physics(env_id: str) -> Physics:
    return Physics(find_task(env_id))  # its nominal model is compiled once


@cache
def _try(env_id: str, changes: tuple[tuple[str, float], ...]) -> None:
    physics = _physics(env_id)
    physics.apply(copy(physics.model), dict(changes), "paper")


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
