"""A film of one episode in the nominal and one in a distorted world, side by side, headless."""

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import envpool
import numpy as np
from rich.console import Console

from rmbpo_fast.errors import ConfigError, RmbpoError
from rmbpo_fast.study.subjects import Subject
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.episodes import evaluation_envs
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.vector_env import EnvPoolVector

_WIDTH, _HEIGHT, _FRAMES_PER_S = 480, 360, 30
_MOST_SECONDS = 15.0  # rendering on a CPU takes some 0.1 s a frame


@dataclass(frozen=True)
class Take:
    """An episode to be drawn.

    Attributes:
        caption: what is special about its world.
        xml: its MuJoCo model.
        positions: [T, nq] qpos before each step.
        returns: [T] return so far; the last one is the episode's.
        step_s: seconds per step.
        ended: the policy failed at the last step.
    """

    caption: str
    xml: str
    positions: np.ndarray
    returns: np.ndarray
    step_s: float
    ended: bool


def record(subject: Subject, changes: Mapping[str, float], seed: int) -> Take:
    """Plays one episode and keeps the positions of everything.

    Raises:
        ConfigError: the task isn't stepped by EnvPool, so its states aren't known.
    """
    config = subject.config.task
    task = find_task(config.env)
    physics = Physics(task)
    model = physics.model
    frame_skip = envpool.make_spec(task.env_id).config.frame_skip
    step_s = model.opt.timestep * frame_skip
    envs = evaluation_envs(config, 1, seed, changes)
    assert isinstance(envs.vector, EnvPoolVector)  # else Physics has refused
    positions, returns, ended = [], [0.0], False
    try:
        while True:
            positions.append(_position(envs.vector, model.nq))
            if len(positions) * step_s >= _MOST_SECONDS:
                break
            step = envs.step(subject.policy.unit_action(envs.obs))
            if envs.episodes:
                ended = bool(step.terminated[0])
                returns[-1] += float(step.reward[0])
                break
            returns.append(returns[-1] + float(step.reward[0]))
    finally:
        envs.close()
    caption = ", ".join(f"{name} = {value:g}" for name, value in changes.items()) or "nominal"
    physical = {k: v for k, v in changes.items() if k != "action_noise"}
    xml = physics.xml(physical)
    return Take(caption, xml, np.array(positions), np.array(returns), step_s, ended)


def _position(vector: EnvPoolVector, size: int) -> np.ndarray:
    """qpos: the coordinates along the ground, which observations leave out, then the rest."""
    obs, info = vector.shown
    hidden = [float(info[name][0]) for name in ("x_position", "y_position") if name in info]
    return np.array([*hidden, *obs[0]])[:size]


_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco/>")
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
"""


def find_renderer() -> str:
    """The MUJOCO_GL under which MuJoCo draws here: the user's own, else EGL, else OSMesa.

    Tried in a process of its own: MuJoCo takes its renderer when it is imported, and one that
    doesn't work can end the process.

    Raises:
        RmbpoError: none works (with each one's reason).
    """
    asked = os.environ.get("MUJOCO_GL")
    failures = []
    for name in (asked,) if asked else ("egl", "osmesa"):
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": name},
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return name
        *_, reason = ["it gave no reason", *done.stderr.strip().splitlines()]
        failures.append(f"{name}: {reason}")
    raise RmbpoError(f"--video: no renderer works here ({'; '.join(failures)})")


def write_video(subject: Subject, changes: Mapping[str, float], seed: int, path: Path) -> None:
    """Writes an MP4: the nominal world, right of it the distorted one if any, the same seed.

    Raises:
        ConfigError: the task's states aren't known, or no encoder is installed.
        RmbpoError: no renderer works here.
    """
    if find_spec("imageio_ffmpeg") is None:
        raise ConfigError('--video needs an encoder: python -m pip install ".[video]"')
    worlds = ({}, changes) if changes else ({},)
    takes = [record(subject, world, seed) for world in worlds]
    path.parent.mkdir(parents=True, exist_ok=True)
    _film_apart(takes, path)


def _film_apart(takes: list[Take], path: Path) -> None:
    """In a process of its own: MuJoCo takes its renderer when it is imported."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = find_renderer()
    try:
        with (
            Console(stderr=True).status("filming"),
            ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process,
        ):
            process.submit(_film, takes, path).result()
    except BrokenProcessPool as error:
        raise RmbpoError("--video: the process that draws was killed") from error
    finally:
        if before is None:
            del os.environ["MUJOCO_GL"]


def _film(takes: list[Take], path: Path) -> None:
    """Draws all frames. Runs in a process of its own."""
    import imageio_ffmpeg
    import mujoco
    from PIL import Image, ImageDraw, ImageFont

    stride = max(1, round(1.0 / (_FRAMES_PER_S * takes[0].step_s)))
    length = max(len(take.positions) for take in takes)
    font = ImageFont.load_default(size=18)
    scenes = []
    for take in takes:
        model = mujoco.MjModel.from_xml_string(take.xml)
        model.mat_reflectance[:] = 0.0  # as mirrors, the floors cost half the time
        model.vis.headlight.ambient[:] = 0.4  # the pendulum has no light of its own
        scenes.append((model, mujoco.MjData(model), mujoco.Renderer(model, _HEIGHT, _WIDTH)))
    temporary = path.with_name(f".unfinished-{path.name}")
    rate = 1.0 / (stride * takes[0].step_s)
    size = (_WIDTH * len(takes), _HEIGHT)
    writer = imageio_ffmpeg.write_frames(str(temporary), size, fps=rate, macro_block_size=8)
    writer.send(None)
    try:
        for moment in range(0, length + int(1.0 / takes[0].step_s), stride):  # a second to look
            panels = []
            for take, (model, data, renderer) in zip(takes, scenes, strict=True):
                now = min(moment, len(take.positions) - 1)
                data.qpos[:] = take.positions[now]
                mujoco.mj_forward(model, data)
                renderer.update_scene(data, camera=0 if model.ncam else -1)
                image = Image.fromarray(renderer.render())
                state = f"{now * take.step_s:.1f} s, return {take.returns[now]:.0f}"
                if take.ended and moment >= len(take.positions) - 1:
                    state += ", fell"
                draw = ImageDraw.Draw(image)
                draw.rectangle((0, 0, _WIDTH, 52), fill=(0, 0, 0))
                draw.text((8, 4), take.caption, font=font, fill=(255, 255, 255))
                draw.text((8, 27), state, font=font, fill=(255, 255, 255))
                panels.append(np.asarray(image))
            writer.send(np.ascontiguousarray(np.concatenate(panels, axis=1)))
    finally:
        writer.close()
    os.replace(temporary, path)
