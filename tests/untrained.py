"""A run that nothing has trained.

Not in conftest.py: it loads EnvPool, whose own libraries end tests/sanitize.sh's process.
"""

import torch

from rmbpo_fast.policy import FILE_NAME, save_policy
from rmbpo_fast.presets import preset
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.files import write_config
from rmbpo_fast.worlds.tasks import find_task


def make_run(folder, env="inverted_pendulum", **settings):
    """A run's folder with a freshly drawn policy: enough for everything that plays it."""
    config = preset(env).replace(device="cpu", rollout_rows=50, **settings)
    task = find_task(env)
    agent = build(config, task, torch.device("cpu"))
    folder.mkdir(parents=True)
    write_config(folder, config, {"backend": "reference", "threads": 1, "device": "cpu"}, task)
    layers, envs = agent.learner.policy_layers, agent.envs
    save_policy(folder / FILE_NAME, layers, task.env_id, envs.low, envs.high, envs.action_dtype)
    agent.envs.close()
    return folder
