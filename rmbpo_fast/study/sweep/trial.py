"""How long a run will take: its parts, timed for some seconds, times how often each is due.

What can't be known beforehand is how many epochs the model's later fits take. The estimate is a
range: from none that improves the model to five times as many epochs, or the first fit's gradient
steps if more (ours: on average Hopper's fits took 3.9 to 4.6 times as many, the pendulum's 2.6 to
5.3 times).
"""

import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from rmbpo_fast.algo.rollout import horizon_at
from rmbpo_fast.algo.world_model import HOLDOUT_MAX_ROWS, HOLDOUT_SHARE, PATIENCE_EPOCHS
from rmbpo_fast.config import Config
from rmbpo_fast.run.accelerate import accelerate
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.loop import fit_and_imagine, make_steps
from rmbpo_fast.run.metrics import Metrics
from rmbpo_fast.worlds.tasks import find_task

_TRIAL_ROWS = 1_000
_TRIAL_UPDATES = 40
_MOST_EPOCHS = 5  # times the fewest


@dataclass(frozen=True)
class Pace:
    """Seconds of each part, alone on its machine.

    Attributes:
        env_s: a real step, the policy's action included.
        update_s: a policy update.
        model_batch_s: a gradient step of p_theta.
        model_batches: gradient steps of its first fit.
        adversary_s: a fit of g_psi, 0 without one.
        rollout_s: rollouts one step long.
    """

    env_s: float
    update_s: float
    model_batch_s: float = 0.0
    model_batches: float = 0.0
    adversary_s: float = 0.0
    rollout_s: float = 0.0


def _model_batches(config: Config, rows: int) -> int:
    """Gradient steps of an epoch of p_theta on so many real rows."""
    held_out = min(int(HOLDOUT_SHARE * rows), HOLDOUT_MAX_ROWS)
    return max(1, math.ceil((rows - held_out) / config.model.model_batch_size))


def measure(config: Config, device: torch.device) -> Pace:
    """Times the parts on a few random steps' data; leaves nothing behind.

    Raises:
        ConfigError: the task can't be served.
    """
    rows = min(_TRIAL_ROWS, config.task.random_steps)
    config = config.replace(total_env_steps=rows)
    agent = build(config, find_task(config.task.env), device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    steps = make_steps(agent)
    if config.run.compile:
        steps, _ = accelerate(agent, device)
    try:
        start = time.perf_counter()
        stepped = 0
        while stepped < rows:
            action = steps.act(agent.envs.obs.to(device)).cpu()
            packed = agent.real.pack(agent.envs.step(action))
            steps.store(packed.to(device))
            stepped += len(packed)
        env_s = (time.perf_counter() - start) / stepped
    finally:
        agent.envs.close()
    agent.progress.env_step = stepped
    parts: dict[str, float] = {}
    if config.adversary.algo != "sac":
        with tempfile.TemporaryDirectory() as folder:
            metrics = Metrics(Path(folder), agent.metrics_header(), wait)
            fit_and_imagine(agent, steps, metrics)  # also warms up, and captures graphs
            first_epochs = metrics.averages()["world_model/epochs"]
            metrics.flush(stepped, 0)
            fit_and_imagine(agent, steps, metrics)
            epochs = metrics.averages()["world_model/epochs"]
            seconds = dict(metrics.watch.seconds)
            metrics.close()
        batches = _model_batches(config, stepped)
        parts = {
            "model_batch_s": seconds["world_model"] / (epochs * batches),
            "model_batches": first_epochs * batches,
            "adversary_s": seconds["adversary"],
            "rollout_s": seconds["rollout"] / agent.progress.horizon,
        }
    count = config.sac.updates_per_step
    steps.update(count)
    wait()
    start, updated = time.perf_counter(), 0
    while updated < _TRIAL_UPDATES:
        steps.update(count)
        updated += count
    wait()
    return Pace(env_s, (time.perf_counter() - start) / updated, **parts)


def estimate(pace: Pace, config: Config, done: int) -> tuple[float, float]:
    """Seconds that a run still takes after `done` real steps, at least and at most; evaluations
    and checkpoints aren't counted."""
    total, first = config.task.total_env_steps, config.task.random_steps
    learning = max(0, total - max(done, first))
    low = high = (
        pace.env_s * max(0, total - done) + pace.update_s * config.sac.updates_per_step * learning
    )
    if config.adversary.algo == "sac":
        return low, high
    adversary_s = pace.adversary_s if config.adversary.adversarial else 0.0
    for step in range(max(done, first), total, config.model.fit_every_steps):
        fewest = (PATIENCE_EPOCHS + 1) * _model_batches(config, step)
        horizon = horizon_at(step // config.task.epoch_steps, config.rollout)
        rest = adversary_s + pace.rollout_s * horizon
        low += pace.model_batch_s * fewest + rest
        high += pace.model_batch_s * max(_MOST_EPOCHS * fewest, pace.model_batches) + rest
    return low, high
