"""--save-dataset: Minari's own loader reads what the run met, episode by episode."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from conftest import SMALL, flags
from rmbpo_fast import __version__, train
from rmbpo_fast.run import dataset
from rmbpo_fast.run.dataset import split_episodes
from rmbpo_fast.run.journal import read_journal
from rmbpo_fast.worlds.envs import BEGINS, TRUNCATED

needs_minari = pytest.mark.skipif(
    find_spec("minari") is None or find_spec("h5py") is None,
    reason="Minari is not installed: .[dataset]",
)


def test_two_environments_rows_in_turn_are_split_where_episodes_begin():
    """By hand: A ends after three rows, B is cut after one; both begin again."""
    places = [BEGINS, BEGINS | TRUNCATED, 0, BEGINS, 0, 0, BEGINS]
    # the last step was half journalled when the process died
    found = split_episodes(np.array(places, np.uint8), 2)
    assert [rows.tolist() for rows in found] == [[0, 2, 4], [1], [3, 5], [6]]
    assert split_episodes(np.zeros(0, np.uint8), 2) == []


class Bandit(gymnasium.Env):
    """Each episode begins as the last one ended."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(action[0]), False, False, {}


@needs_minari
def test_episodes_that_look_like_one_are_told_apart(tmp_path):
    import minari

    gymnasium.register("Bandit-v0", Bandit, max_episode_steps=5)
    try:
        run = tmp_path / "run"
        settings = {**SMALL, "total_env_steps": 60, "termination": "learned"}
        words = flags(env="Bandit-v0", **settings, run_dir=run, save_dataset=True)
        assert train.main(words) == 0
        loaded = minari.MinariDataset(run / "dataset")
        assert [len(episode) for episode in loaded.iterate_episodes()] == [5] * 12
        assert loaded.env_spec.id == "Bandit-v0"
        assert isinstance(loaded.recover_environment().unwrapped, Bandit)
    finally:
        gymnasium.registry.pop("Bandit-v0")


@needs_minari
@pytest.mark.parametrize("num_envs", [1, 3])
def test_minari_reads_what_the_run_met(tmp_path, monkeypatch, capsys, num_envs):
    import minari

    monkeypatch.chdir(tmp_path)
    run = Path("run")  # relative, as people type it
    settings = {**SMALL, "total_env_steps": 120, "num_envs": num_envs, "seed": 4}
    words = flags(env="inverted_pendulum", **settings, run_dir=run, save_dataset=True)
    assert train.main(words) == 0
    rows = read_journal(run / "journal", 4 + 1 + 1 + 4 + 1)
    loaded = minari.MinariDataset(run / "dataset")
    assert loaded.total_steps == len(rows) == 120
    printed = f"{run / 'dataset'}: 120 transitions, {loaded.total_episodes} episodes"
    assert printed in capsys.readouterr().out
    assert loaded.action_space.low == pytest.approx([-3.0])
    assert loaded.recover_environment().spec.id == "InvertedPendulum-v4"  # the same physics
    seen = []
    for episode in loaded.iterate_episodes():
        length = len(episode)
        assert episode.observations.shape == (length + 1, 4)
        assert not episode.terminations[:-1].any()
        assert not episode.truncations[:-1].any()
        assert episode.terminations[-1] != episode.truncations[-1]
        assert all(loaded.action_space.contains(action) for action in episode.actions)
        unit = episode.actions / 3.0
        columns = (episode.observations[:-1], unit, episode.rewards, episode.observations[1:])
        seen.append(np.column_stack([*columns, episode.terminations]))
    # a fallen pole ends an episode, and so many episodes can't be one
    assert sum(int(part[-1, -1]) for part in seen) == rows[:, -1].sum() > 3
    # every row is there once, whatever the order of the episodes
    ordered = [part[np.lexsort(part[:, :5].T)] for part in (np.concatenate(seen), rows)]
    np.testing.assert_allclose(*ordered, atol=1e-6)
    metadata = loaded.storage.metadata
    assert metadata["dataset_id"] == "inverted_pendulum/rmbpo-seed-4-v0"
    assert metadata["algorithm_name"] == "rmbpo"
    assert metadata["env_id"] == "InvertedPendulum-v2"
    assert metadata["seed"] == 4
    assert metadata["rmbpo_fast_version"] == __version__
    assert "truncated_normal noise of scale 0.2" in metadata["description"]
    assert json.loads(metadata["rmbpo_fast_config"])["task"]["num_envs"] == num_envs


@needs_minari
def test_a_finished_runs_dataset_comes_later_and_anew(small_flags, tmp_path):
    import minari

    run = tmp_path / "run"
    assert train.main([*small_flags, *flags(run_dir=run, total_env_steps=60)]) == 0
    assert not (run / "dataset").exists()
    policy = (run / "policy.safetensors").read_bytes()
    assert train.main(flags(resume=run, save_dataset=True)) == 0
    first = minari.MinariDataset(run / "dataset")
    assert (first.total_steps, (run / "policy.safetensors").read_bytes()) == (60, policy)
    assert train.main(flags(resume=run, total_env_steps=80)) == 0  # the flag is remembered
    second = minari.MinariDataset(run / "dataset")
    assert second.total_steps == 80
    assert second.total_episodes > first.total_episodes  # the process that went on began anew
    assert not list(run.glob(".dataset*"))


@needs_minari
def test_minaris_load_dataset_takes_it_from_its_own_folder(small_flags, tmp_path, monkeypatch):
    import minari

    run = tmp_path / "run"
    assert (
        train.main([*small_flags, *flags(run_dir=run, total_env_steps=60, save_dataset=True)]) == 0
    )
    name = minari.MinariDataset(run / "dataset").spec.dataset_id
    (tmp_path / "minari" / name).mkdir(parents=True)
    (run / "dataset").rename(tmp_path / "minari" / name / "data")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    assert minari.load_dataset(name).total_steps == 60
    assert name in minari.list_local_datasets()


def test_without_minari_one_line_says_how_to_get_it(small_flags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dataset, "find_spec", lambda name: None)
    words = [*small_flags, *flags(run_dir=tmp_path / "run", save_dataset=True)]
    assert train.main(words) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r'error: --save-dataset needs Minari: .*"\.\[dataset\]"\n', error)
    assert not (tmp_path / "run").exists()
