"""How long a run will take: its parts, timed for some seconds, times how often each is due.

What can't be known beforehand is how many gradient steps the model's fits take. The estimate is a
range: from fits that improve nothing to fits that take the most steps.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from rmbpo_fast.algo.rollout import horizon_at
from rmbpo_fast.algo.world_model import LOOK_EVERY, MAX_STEPS, PATIENCE_LOOKS
from rmbpo_fast.config import Config
from rmbpo_fast.run.accelerate import accelerate
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.loop import fit_and_imagine, make_steps
from rmbpo_fast.run.metrics import Metrics
from rmbpo_fast.worlds.tasks import find_task

_TRIAL_ROWS = 1_000
_TRIAL_UPDATES = 40
# gradient steps of a fit of p_theta that improves nothing after its first look
_FEWEST_MODEL_STEPS = LOOK_EVERY * (PATIENCE_LOOKS + 1)


@dataclass(frozen=True)
class Pace:
    """Seconds of each part, alone on its machine.

    Attributes:
        env_s: a real step, the policy's action included.
        update_s: a policy update.
        model_step_s: a gradient step of p_theta.
        adversary_s: a fit of g_psi, 0 without one.
        rollout_s: rollouts one step long.
    """

    env_s: float
    update_s: float
    model_step_s: float = 0.0
    adversary_s: float = 0.0
    rollout_s: float = 0.0


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
            metrics.flush(stepped, 0)
            fit_and_imagine(agent, steps, metrics)
            model_steps = metrics.averages()["world_model/steps"]
            seconds = dict(metrics.watch.seconds)
            metrics.close()
        parts = {
            "model_step_s": seconds["world_model"] / model_steps,
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
        horizon = horizon_at(step // config.task.epoch_steps, config.rollout)
        rest = adversary_s + pace.rollout_s * horizon
        low += pace.model_step_s * _FEWEST_MODEL_STEPS + rest
        high += pace.model_step_s * MAX_STEPS + rest
    return low, high
