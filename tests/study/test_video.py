"""The film of a nominal and a distorted episode."""

import mujoco
import numpy as np
import pytest

from rmbpo_fast import evaluate
from rmbpo_fast.errors import RmbpoError
from rmbpo_fast.study import video
from rmbpo_fast.study.subjects import load_subject
from rmbpo_fast.worlds.distortion import Physics
from rmbpo_fast.worlds.tasks import find_task
from untrained import make_run

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_run(tmp_path / "run")


@pytest.mark.parametrize("env", ["inverted_pendulum", "hopper", "halfcheetah", "ant"])
def test_recorded_positions_are_the_models(env, tmp_path, monkeypatch):
    """The first position is near the model's start, and later ones near a step's motion."""
    monkeypatch.setattr(video, "_MOST_SECONDS", 1.0)
    subject = load_subject(make_run(tmp_path / "run", env) / "policy.safetensors")
    take = video.record(subject, {}, 0)
    model = Physics(find_task(env)).model
    assert take.positions.shape[1] == model.nq
    assert take.step_s == pytest.approx(
        {"inverted_pendulum": 0.04, "hopper": 0.008, "halfcheetah": 0.05, "ant": 0.05}[env]
    )
    assert np.abs(take.positions[0] - model.qpos0).max() < 0.3
    velocity = np.zeros(model.nv)
    for before, after in zip(take.positions, take.positions[1:], strict=False):
        mujoco.mj_differentiatePos(model, velocity, take.step_s, before, after)
        assert np.abs(velocity).max() < 60.0
    assert len(take.returns) == len(take.positions)


def test_a_film_of_two_worlds(run, monkeypatch, capsys):
    monkeypatch.setattr(video, "_MOST_SECONDS", 0.4)
    status = evaluate.main(
        ["run", "--distort", "pole_mass=200", "gravity=30", "--video", "--episodes", "2"]
    )
    error = capsys.readouterr().err
    if "no renderer works here" in error:
        pytest.skip(error)
    assert status == 0, error
    film = "evaluations/inverted_pendulum/pole_mass=200-gravity=30/video.mp4"
    facts, *frames = imageio_ffmpeg.read_frames(film)
    assert facts["size"] == (960, 360)
    assert facts["fps"] == pytest.approx(25.0)
    images = [np.frombuffer(frame, np.uint8).reshape(360, 960, 3) for frame in frames]
    assert len(images) >= 10
    left, right = images[-1][60:, :480].astype(int), images[-1][60:, 480:].astype(int)
    assert left.max() > 60, "the scene is black"
    assert np.abs(left - right).max() > 60, "both worlds look the same"
    assert images[0][:52].max() > 200, "no caption"


def test_without_a_distortion_the_nominal_world_is_filmed_alone(run, monkeypatch):
    takes = []
    monkeypatch.setattr(video, "_MOST_SECONDS", 0.1)
    monkeypatch.setattr(video, "find_renderer", lambda: "none")
    monkeypatch.setattr(video, "_film_apart", lambda found, path: takes.extend(found))
    assert evaluate.main(["run", "--video", "--episodes", "1"]) == 0
    assert [take.caption for take in takes] == ["nominal"]


def test_without_a_renderer_there_is_one_line(run, monkeypatch, capsys):
    monkeypatch.setenv("MUJOCO_GL", "crayon")
    monkeypatch.setattr(video, "_MOST_SECONDS", 0.1)
    assert evaluate.main(["run", "--distort", "pole_mass=9", "--video"]) == 1
    error = capsys.readouterr().err
    assert "no renderer works here (crayon: RuntimeError: invalid value" in error
    assert [line for line in error.splitlines() if line.startswith("error:")] == [error.strip()]


def test_a_gymnasium_task_is_not_filmed(tmp_path):
    subject = load_subject(make_run(tmp_path / "run", "Pendulum-v1") / "policy.safetensors")
    with pytest.raises(RmbpoError, match="Pendulum-v1 is no MuJoCo task"):
        video.write_video(subject, {"action_noise": 2.0}, 0, tmp_path / "video.mp4")
