"""The training loop: real steps, then model, adversary and rollouts, then policy updates."""

import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmbpo_fast.algo.adversary_fit import fit_adversary
from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.algo.replay import ReplayBuffer, sample_mixed
from rmbpo_fast.algo.rollout import Dynamics, horizon_at, imagine, spread_starts
from rmbpo_fast.algo.sac import SAC, EntropyDraw
from rmbpo_fast.config import Config
from rmbpo_fast.errors import DivergedError
from rmbpo_fast.policy import FILE_NAME, epoch_file, epoch_files, save_policy
from rmbpo_fast.run.agent import Agent, check_finite, imagined_capacity, state_tree
from rmbpo_fast.run.checkpoint import list_checkpoints, save_checkpoint, step_of
from rmbpo_fast.run.display import Display
from rmbpo_fast.run.journal import JournalWriter
from rmbpo_fast.run.metrics import Metrics
from rmbpo_fast.seeding import seed_for
from rmbpo_fast.worlds.episodes import play
from rmbpo_fast.worlds.tasks import find_task


class StopRequest:
    """SIGINT and SIGTERM ask for an orderly stop; a second one stops at once, without saving."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        if not sys.stdout.isatty():  # on a terminal the live table says so
            # a signal may come in the middle of a print, so this goes past Python's buffers
            os.write(2, b"stopping after this step, then saving; once more stops at once\n")


class Steps(NamedTuple):
    """The loop's work on the device as functions that a graph can replay.

    Attributes:
        act: obs [N, S] -> unit action [N, A], drawn from the policy that explores.
        act_deterministic: obs [N, S] -> the policy's mean action [N, A].
        store: real transitions, packed [N, W].
        imagine: horizon -> how many imagined transitions were stored, [].
        update: number of policy updates -> the last one's metrics.
    """

    act: Callable[[Tensor], Tensor]
    act_deterministic: Callable[[Tensor], Tensor]
    store: Callable[[Tensor], None]
    imagine: Callable[[int], Tensor]
    update: Callable[[int], dict[str, Tensor]]


def make_steps(agent: Agent, config: Config) -> Steps:
    """The functions of this agent, on its device."""
    return Steps(
        act=lambda obs: (agent.explorer or agent.sac).act(obs, agent.streams["act"]),
        act_deterministic=agent.sac.act_deterministic,
        store=agent.real.add_,
        imagine=lambda horizon: imagine_all(agent, config, horizon),
        update=lambda updates: update_policy(agent, config, updates),
    )


def fit_and_imagine(agent: Agent, config: Config, steps: Steps, metrics: Metrics) -> None:
    """Steps 1 to 3 of the loop: p_theta on the real data, g_psi around it, rollouts in g_psi."""
    streams, progress = agent.streams, agent.progress
    with metrics.watch.phase("world_model"):
        metrics.add(agent.world_model.fit(agent.real, streams["world_model"]))
        metrics.note("world_model/elites", " ".join(map(str, agent.world_model.elites.tolist())))
        if isinstance(agent.rule, LearnedTermination):
            metrics.add(agent.rule.fit(agent.real, streams["termination"]))
    adversary_phase(agent, config, metrics)
    with metrics.watch.phase("rollout"):
        epoch = progress.env_step // config.task.epoch_steps
        horizon = horizon_at(epoch, config.rollout)
        if horizon != progress.horizon:
            progress.horizon = horizon
            for buffer in (agent.imagined, agent.nominal):
                if buffer is not None:
                    buffer.resize_(imagined_capacity(config, horizon))
        stored = steps.imagine(horizon)
        if not len(agent.imagined):
            raise DivergedError("no imagined transition is finite")
        metrics.add(
            {
                "rollout/horizon_steps": float(horizon),
                "rollout/imagined_steps": stored,
                "rollout/alive_length_mean": stored / config.rollout.rollout_rows,
            }
        )
    progress.fit_step = progress.env_step


def adversary_phase(agent: Agent, config: Config, metrics: Metrics) -> None:
    """Step 2 of the loop; nothing where there is no adversary, g = p until it joins."""
    if agent.adversary is not None:
        with metrics.watch.phase("adversary"):
            epoch = agent.progress.env_step // config.task.epoch_steps
            if epoch < config.adversary.adversary_from_epoch:
                agent.adversary.start_at_nominal(agent.world_model)
            else:
                stream = agent.streams["adversary"]
                metrics.add(fit_adversary(agent.adversary, agent.real, agent.game, stream))


def imagine_all(agent: Agent, config: Config, horizon: int) -> Tensor:
    """Rollouts of the policy, and of the explorer where there is one.

    Returns:
        [] how many of the policy's steps were stored.
    """
    stream = agent.streams["rollout"]
    stored = imagine_for(agent, config, horizon, agent.dynamics, agent.sac, agent.imagined, stream)
    if agent.explorer is not None and agent.nominal is not None:
        p_theta, stream = agent.world_model.dynamics, agent.streams["explorer"]
        imagine_for(agent, config, horizon, p_theta, agent.explorer, agent.nominal, stream)
    return stored


def imagine_for(
    agent: Agent,
    config: Config,
    horizon: int,
    dynamics: Dynamics,
    sac: SAC,
    imagined: ReplayBuffer,
    stream: torch.Generator,
) -> Tensor:
    """Rollouts of one policy from --rollout-rows real states; how many steps were stored, []."""
    stored = torch.zeros((), dtype=torch.int64, device=agent.real.rows.device)
    rows = config.rollout.rollout_rows
    chunk = config.rollout.rollout_chunk_rows
    if chunk is None:
        on_cpu = agent.real.rows.device.type == "cpu"
        chunk = 1_000 * config.model.num_elites if on_cpu else rows
    for first in range(0, rows, chunk):
        starts = agent.real.sample(min(chunk, rows - first), stream).obs
        starts = spread_starts(starts, config.rollout.start_spread, agent.rule, stream)
        stored = stored + imagine(
            starts, horizon, dynamics, agent.world_model, sac, agent.rule, imagined, stream
        )
    return stored


def update_policy(agent: Agent, config: Config, updates: int) -> dict[str, Tensor]:
    """Step 4 of the loop, for the explorer too where there is one: SAC on mixed batches.

    Returns:
        The metrics of the policy's last update.
    """
    stream = agent.streams["sac"]
    report = update_one(agent, config, updates, agent.sac, agent.imagined, stream)
    if agent.explorer is not None and agent.nominal is not None:
        stream = agent.streams["explorer"]
        update_one(agent, config, updates, agent.explorer, agent.nominal, stream)
    return report


def update_one(
    agent: Agent,
    config: Config,
    updates: int,
    sac: SAC,
    imagined: ReplayBuffer,
    stream: torch.Generator,
) -> dict[str, Tensor]:
    """Updates of one policy from the real data and its own rollouts; the last one's metrics."""
    size = config.sac.sac_batch_size
    real_fraction = 1.0 if config.adversary.algo == "sac" else config.sac.real_fraction
    batches = sample_mixed(agent.real, imagined, updates, size, real_fraction, stream)
    noise = sac.draw_noise((updates, 2, size), stream)
    entropy = draw_for_entropy(agent.real, config, updates, sac, stream)
    report: dict[str, Tensor] = {}
    for batch, (critic_noise, actor_noise), where in zip(batches, noise, entropy, strict=True):
        report = sac.update(batch, critic_noise, actor_noise, where)
    return report


def draw_for_entropy(
    real: ReplayBuffer, config: Config, updates: int, sac: SAC, stream: torch.Generator
) -> list[EntropyDraw] | list[None]:
    """For each update a draw from the newest --entropy-rows real states; None for the batch's."""
    if config.sac.entropy_rows is None:
        return [None] * updates
    shape = (updates, config.sac.sac_batch_size)
    rows = real.sample_rows(math.prod(shape), stream, newest=config.sac.entropy_rows)
    obs = real.unpack(rows.unflatten(0, shape)).obs
    return list(map(EntropyDraw, obs, sac.draw_noise(shape, stream)))


def act_and_store(agent: Agent, config: Config, steps: Steps, journal: JournalWriter) -> None:
    """One step of every real environment; its transitions go to the journal first."""
    envs, stream, device = agent.envs, agent.streams["act"], agent.real.rows.device
    if agent.progress.env_step < config.task.random_steps:
        shape = (len(envs.obs), envs.action_size)
        action = 2.0 * torch.rand(shape, generator=stream, device=device) - 1.0
    else:
        action = steps.act(envs.obs.to(device))
    action = action.cpu()
    if not torch.isfinite(action).all():
        raise DivergedError("the policy's action is not finite")
    rows = agent.real.pack(envs.step(action))
    journal.append(rows.numpy())
    steps.store(rows.to(device))
    agent.progress.env_step += len(rows)


def write_policy(agent: Agent, config: Config, file: Path) -> None:
    """The policy as it is now."""
    task = find_task(config.task.env)
    save_policy(file, agent.sac.actor, task.env_id, agent.envs.low, agent.envs.high)


def keep_epoch_policy(agent: Agent, config: Config, run_dir: Path) -> None:
    """Robustness swings from epoch to epoch, so the last epochs' policies stay for comparison."""
    if config.run.keep_policies:
        file = epoch_file(run_dir, agent.progress.env_step)
        file.parent.mkdir(exist_ok=True)
        write_policy(agent, config, file)
        kept = epoch_files(run_dir)
        # those behind this one are of a process that was killed: this run goes another way
        newest = kept.index(file)
        for other in [*kept[: max(0, newest + 1 - config.run.keep_policies)], *kept[newest + 1 :]]:
            other.unlink()


def end_epoch(
    agent: Agent, config: Config, steps: Steps, metrics: Metrics, run_dir: Path
) -> dict[str, Any]:
    """Evaluates the deterministic policy, writes policy.safetensors and the epoch's row."""
    step = agent.progress.env_step
    device = agent.real.rows.device
    check_finite(agent)
    if bad := [n for n, v in metrics.averages().items() if not math.isfinite(v)]:
        raise DivergedError(f"not finite at step {step}: {', '.join(bad)}")
    with metrics.watch.phase("eval"):
        returns = play(
            lambda obs: steps.act_deterministic(obs.to(device)).cpu(),
            config.task,
            config.run.eval_episodes,
            seed_for(config.run.seed, "eval", step),
        )
        metrics.add({"eval/return_mean": returns.mean(), "eval/return_std": returns.std()})
        write_policy(agent, config, run_dir / FILE_NAME)
        keep_epoch_policy(agent, config, run_dir)
    return metrics.flush(step, step // config.task.epoch_steps)


def train(
    agent: Agent,
    config: Config,
    steps: Steps,
    metrics: Metrics,
    journal: JournalWriter,
    run_dir: Path,
    display: Display,
    stop: StopRequest,
) -> None:
    """Runs until --total-env-steps or a stop is asked for, and saves."""
    progress, episodes = agent.progress, agent.envs.episodes
    checkpoints = list_checkpoints(run_dir)
    saved_step = step_of(checkpoints[-1]) if checkpoints else 0

    def save() -> None:
        with metrics.watch.phase("checkpoint"):
            journal.sync()
            # first: it refuses a diverged state, which must not become the policy either
            tree = {**state_tree(agent), "metrics": metrics.state_dict()}
            write_policy(agent, config, run_dir / FILE_NAME)
            save_checkpoint(run_dir, progress.env_step, tree, config.run.keep_checkpoints)

    while progress.env_step < config.task.total_env_steps and stop.signal is None:
        before = progress.env_step
        with metrics.watch.phase("env"):
            act_and_store(agent, config, steps, journal)
        stepped = progress.env_step - before
        for episode in episodes:
            metrics.add({"train/return_mean": episode.episode_return})
        metrics.count("train/episodes", len(episodes))
        episodes.clear()
        if progress.env_step >= config.task.random_steps:
            due = progress.fit_step is None or (
                progress.env_step - progress.fit_step >= config.model.fit_every_steps
            )
            if due and config.adversary.algo != "sac":
                fit_and_imagine(agent, config, steps, metrics)
            with metrics.watch.phase("sac"):
                updates = config.sac.updates_per_step * stepped
                metrics.add(steps.update(updates))
                metrics.count("sac/updates", updates)
        metrics.count("env/steps", stepped)
        display.step(progress.env_step)
        epoch_steps = config.task.epoch_steps
        # by the last row, not the last step: a killed process may have left an epoch without one
        if progress.env_step // epoch_steps > metrics.last_step // epoch_steps:
            display.epoch(end_epoch(agent, config, steps, metrics, run_dir))
        if progress.env_step - saved_step >= config.run.checkpoint_every_steps:
            save()
            saved_step = progress.env_step
    if progress.env_step > saved_step:
        save()
