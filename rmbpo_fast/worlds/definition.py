"""What a task is made of: results of other physics, other code or other versions aren't its own."""

import dataclasses
import hashlib
import inspect
import os
import sys
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

from rmbpo_fast import __version__
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.tasks import Task, find_task, maker_of


def gymnasium_spec(task: Task) -> EnvSpec | None:
    """The spec with which `gymnasium.make` makes the same task, None where there is none.

    EnvPool's v2 and v3 are Gymnasium's v4 (tests/worlds/test_distortion.py).
    """
    env_id = task.env_id
    if task.backend == "envpool":
        name, _, version = env_id.rpartition("-v")
        env_id = f"{name}-v{max(4, int(version))}"
    if env_id not in gymnasium.registry:
        return None
    spec = gymnasium.spec(env_id)
    where: Any = spec.entry_point
    if where is not None and not isinstance(where, str):
        where = f"{where.__module__}:{where.__qualname__}"  # which a file can hold
    return dataclasses.replace(
        spec,
        entry_point=where,
        kwargs={**spec.kwargs, **task.make_kwargs},
        max_episode_steps=task.max_episode_steps or spec.max_episode_steps,
    )


@cache
def definition(env: str) -> dict[str, str]:
    """Versions of all that simulates a task and, of a task of a user's own, what it is made of."""
    task = find_task(env)
    found = {name: metadata.version(name) for name in ("gymnasium", "mujoco", "envpool")}
    found["rmbpo_fast"] = __version__
    if task.backend == "gymnasium":
        found["task_sha256"] = _digest(task)
    return found


def _digest(task: Task) -> str:
    """Of the spec, the files that its settings name, the code of its module, its MuJoCo model."""
    spec = gymnasium_spec(task)
    assert spec is not None
    content = hashlib.sha256(repr((spec.entry_point, spec.kwargs)).encode())
    content.update(str(task.max_episode_steps).encode())
    made_by = maker_of(task.env_id)
    kinds = inspect.getmro(made_by) if inspect.isclass(made_by) else (made_by,)
    for file in sorted({*_files_of(spec.kwargs), *_code_of(kinds)}):
        content.update(file.read_bytes())
    if any(kind.__name__ == "MujocoEnv" for kind in kinds):
        content.update(_model_of(task))
    return content.hexdigest()


def _model_of(task: Task) -> bytes:
    """The compiled model: whatever files it comes from."""
    model = Physics(task).model
    buffer = np.zeros(mujoco.mj_sizeModel(model), dtype=np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


def _files_of(settings: dict[str, Any]) -> list[Path]:
    texts = [value for value in settings.values() if isinstance(value, (str, Path))]
    # a text of another kind, such as a whole XML, is no name that a system could look up
    short = [text for text in texts if text and len(str(text)) < 4_096 and "\n" not in str(text)]
    return [Path(text).resolve() for text in short if os.path.isfile(text)]


def _code_of(kinds: Iterable[Any]) -> list[Path]:
    """The files of the modules of classes or functions, and of what was imported beside them.

    Gymnasium's own have a version instead.
    """
    found = []
    for kind in kinds:
        package, _, inside = kind.__module__.partition(".")
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if file is None or package in ("gymnasium", "builtins", "typing", "abc"):
            continue
        found.append(Path(file).resolve())
        folder = found[-1].parent
        if inside or "site-packages" not in folder.parts:
            modules = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
            beside = (Path(name).resolve() for name in modules if name is not None)
            found += [path for path in beside if path.parent == folder and path.is_file()]
    return found
