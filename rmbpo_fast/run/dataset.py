"""A run's real transitions as a Minari dataset (https://minari.farama.org), for --save-dataset.

`minari.MinariDataset(run_dir / "dataset")` reads it, and any library that takes Minari's datasets.
"""

import json
import os
import shutil
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from rmbpo_fast import __version__
from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run.agent import Agent
from rmbpo_fast.run.config_file import to_json
from rmbpo_fast.run.journal import read_records
from rmbpo_fast.worlds.definition import gymnasium_spec
from rmbpo_fast.worlds.envs import BEGINS
from rmbpo_fast.worlds.tasks import Task

FOLDER = "dataset"


def require_minari() -> None:
    """Raises ConfigError where Minari, or what it writes files with, isn't installed."""
    if find_spec("minari") is None or find_spec("h5py") is None:
        raise ConfigError('--save-dataset needs Minari: python -m pip install ".[dataset]"')


def split_episodes(places: np.ndarray, num_envs: int) -> list[np.ndarray]:
    """Which rows make up each episode, in the order in which the episodes began.

    Args:
        places: [n], the journal's: the environments' rows in turn, num_envs to a step.
    """
    episodes: list[list[int]] = []
    episode_of: list[int] = []
    for row, place in enumerate(places.tolist()):
        if place & BEGINS:
            episode_of.append(len(episodes))
            episodes.append([])
        else:
            episode_of.append(episode_of[row - num_envs])
        episodes[episode_of[row]].append(row)
    return [np.array(rows) for rows in episodes]


def save_dataset(agent: Agent, run_dir: Path) -> str:
    """Writes all real transitions to run_dir/dataset, in the place of what is there.

    Actions are the policy's own, in the environment's units: with action noise (see the metadata)
    other ones were simulated. An episode that was cut, by its time limit or by the end of a
    process, is truncated at its last row.

    Returns:
        What was written, in a line.
    Raises:
        ConfigError: Minari isn't installed.
        OSError: it can't be written; an older dataset stays as it was.
    """
    require_minari()
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    records = read_records(run_dir / "journal", agent.real.width)
    packed = agent.real.unpack(torch.from_numpy(np.ascontiguousarray(records["row"])))
    obs, reward, next_obs = (part.numpy() for part in (packed.obs, packed.reward, packed.next_obs))
    terminated = packed.terminated.numpy() > 0
    low, high = (edge.numpy().astype(np.float32) for edge in (agent.envs.low, agent.envs.high))
    # float32 may round a bound outwards
    action = agent.envs.to_env_units(packed.action).numpy().astype(np.float32).clip(low, high)
    buffers = []
    for rows in split_episodes(records["place"], agent.config.task.num_envs):
        last = np.arange(len(rows)) == len(rows) - 1
        buffers.append(
            EpisodeBuffer(
                observations=[*obs[rows], next_obs[rows[-1]]],
                actions=list(action[rows]),
                rewards=reward[rows].tolist(),
                terminations=terminated[rows].tolist(),
                truncations=(last & ~terminated[rows]).tolist(),
            )
        )
    folder = run_dir / FOLDER
    # absolute: Minari would look for a relative one below itself
    temporary = folder.resolve().with_name(f".{FOLDER}.{uuid.uuid4().hex}")
    try:
        storage = MinariStorage.new(
            temporary,
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, obs.shape[1:], np.float32),
            action_space=gymnasium.spaces.Box(low, high, dtype=np.float32),
            env_spec=gymnasium_spec(agent.task),
        )
        storage.update_metadata(_metadata(agent.config, agent.task))
        storage.update_episodes(buffers)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return f"{folder}: {len(obs)} transitions, {len(buffers)} episodes"


def _metadata(config: Config, task: Task) -> dict[str, Any]:
    from minari import __version__ as minari_version

    algo, seed = config.adversary.algo, config.run.seed
    noise, scale = config.task.noise
    actions = "the policy's own"
    if noise != "none" and scale > 0:
        actions += f"; the environment added {noise} noise of scale {scale:g} to them"
    return {
        # Minari's ids end with a version
        "dataset_id": f"{task.name}/{algo}-seed-{seed}-v0",
        "minari_version": minari_version,
        "algorithm_name": algo,
        "description": f"Every real transition of one {algo} training run on {task.env_id}, from "
        f"the first random ones on. Actions are {actions}.",
        "env_id": task.env_id,
        "seed": seed,
        "action_noise": noise,
        "action_noise_scale": scale,
        "rmbpo_fast_version": __version__,
        "rmbpo_fast_config": json.dumps(to_json(config)),
    }
