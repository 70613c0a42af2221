"""The training loop: real steps, then model, adversary and rollouts, then policy updates."""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.algo.replay import sample_mixed
from rmbpo_fast.algo.rollout import horizon_at, imagine, spread_starts
from rmbpo_fast.errors import DivergedError, NoInstance
from rmbpo_fast.policy import FILE_NAME, epoch_file, epoch_files, save_policy
from rmbpo_fast.run.agent import Agent, Player, imagined_capacity
from rmbpo_fast.run.checkpoint import list_checkpoints, save_checkpoint, step_of
from rmbpo_fast.run.display import Display
from rmbpo_fast.run.journal import JournalWriter
from rmbpo_fast.run.metrics import Metrics
from rmbpo_fast.run.state import check_finite, state_tree, undo_of_fit
from rmbpo_fast.run.stop import Stopped, StopRequest
from rmbpo_fast.seeding import seed_for
from rmbpo_fast.worlds.envs import Episode
from rmbpo_fast.worlds.episodes import play

# rows imagined at a time on a CPU, per elite: they fit its cache
CHUNK_ROWS_PER_ELITE = 1_000
# older ones go once a newer one has been read back
KEPT_CHECKPOINTS = 2

# takes an epoch's row of metrics.csv; true stops the run
Callback = Callable[[dict[str, Any]], object]


class Steps(NamedTuple):
    """The loop's work on the device as functions that a graph can replay.

    Attributes:
        act: obs [N, S] -> unit action [N, A], drawn from the policy that explores.
        act_deterministic: obs [N, S] -> the policy's mean action [N, A].
        store: real transitions, packed [N, W].
        fit_model: gradient steps of p_theta. [T, E, B] rows of its data.
        fit_adversary: gradient steps of g_psi. [T, E, B] rows of the real data.
        imagine: horizon, whether g_psi has joined, number of start states -> how many imagined
            transitions of the first player were stored, [].
        update: number of policy updates -> the first player's last metrics.
    """

    act: Callable[[Tensor], Tensor]
    act_deterministic: Callable[[Tensor], Tensor]
    store: Callable[[Tensor], None]
    fit_model: Callable[[Tensor], None]
    fit_adversary: Callable[[Tensor], None]
    imagine: Callable[[int, bool, int], Tensor]
    update: Callable[[int], dict[str, Tensor]]

    def checked(self, check: Callable[[], None]) -> "Steps":
        """The same with a check before each piece of a phase that may take minutes."""

        def first(function: Callable[..., Any]) -> Callable[..., Any]:
            def checked(*arguments: Any) -> Any:
                check()
                return function(*arguments)

            return checked

        long = ("act_deterministic", "fit_model", "fit_adversary", "imagine")
        return self._replace(**{name: first(getattr(self, name)) for name in long})


def make_steps(agent: Agent) -> Steps:
    """The functions of this agent, on its device."""

    def act(obs: Tensor) -> Tensor:
        noise = agent.explorer.draw_noise(obs.shape[:-1], agent.streams["act"])
        return agent.explorer.act(obs, noise)

    def fit_adversary(batches: Tensor) -> None:
        assert agent.adversary is not None
        agent.adversary.train_steps(batches, agent.real, agent.game, agent.streams["adversary"])

    return Steps(
        act=act,
        act_deterministic=agent.learner.act_deterministic,
        store=agent.real.add_,
        fit_model=agent.world_model.train_steps,
        fit_adversary=fit_adversary,
        imagine=lambda horizon, joined, rows: imagine_for_all(agent, horizon, joined, rows),
        update=lambda updates: update_policies(agent, updates),
    )


def fit_and_imagine(agent: Agent, steps: Steps, metrics: Metrics) -> None:
    """Steps 1 to 3 of the loop: p_theta on the real data, g_psi around it, rollouts in g_psi.

    Raises:
        Stopped: a stop was asked for. Everything is then as before, to begin again on --resume.
    """
    progress, horizon = agent.progress, horizon_at(agent.epoch, agent.config.rollout)
    if horizon != progress.horizon:
        progress.horizon = horizon
        for player in agent.players:
            player.imagined.resize_(imagined_capacity(agent.config, horizon))
    undo, metrics_before = undo_of_fit(agent), metrics.state_dict()
    try:
        _fit_and_imagine(agent, steps, metrics)
    except Exception:  # a stop, or a failure before which the networks were sound
        undo()
        metrics.resume({**metrics_before, "env_step": progress.env_step})
        raise
    progress.fit_step = progress.env_step


def _fit_and_imagine(agent: Agent, steps: Steps, metrics: Metrics) -> None:
    streams, horizon = agent.streams, agent.progress.horizon
    with metrics.watch.phase("world_model"):
        metrics.add(agent.world_model.fit(agent.real, streams["world_model"], steps.fit_model))
        metrics.note("world_model/elites", " ".join(map(str, agent.world_model.elites.tolist())))
        if isinstance(agent.rule, LearnedTermination):
            metrics.add(agent.rule.fit(agent.real, streams["termination"]))
    joined = adversary_phase(agent, steps, metrics)
    with metrics.watch.phase("rollout"):
        stored = imagine_all(agent, steps, horizon, joined)
        if not len(agent.players[0].imagined):
            raise DivergedError("no imagined transition is finite")
        metrics.add(
            {
                "rollout/horizon_steps": float(horizon),
                "rollout/imagined_steps": stored,
                "rollout/alive_length_mean": stored / agent.config.rollout.rollout_rows,
            }
        )


def adversary_phase(agent: Agent, steps: Steps, metrics: Metrics) -> bool:
    """Step 2 of the loop; whether there is an adversary that has joined. Until then it is p."""
    if agent.adversary is None:
        return False
    with metrics.watch.phase("adversary"):
        if agent.epoch < agent.config.adversary.adversary_from_epoch:
            agent.adversary.start_at_nominal(agent.world_model)
            return False
        stream = agent.streams["adversary"]
        metrics.add(agent.adversary.fit(agent.real, agent.game, stream, steps.fit_adversary))
    return True


def imagine_all(agent: Agent, steps: Steps, horizon: int, joined: bool) -> Tensor:
    """Rollouts of every player from --rollout-rows real states; [] how many steps of the first
    one's were stored.

    Args:
        joined: g_psi has. Until then the world is p_theta's, so a run is MBPO to the last bit.
    """
    config, device = agent.config, agent.real.rows.device
    rows = config.rollout.rollout_rows
    chunk = CHUNK_ROWS_PER_ELITE * config.model.num_elites if device.type == "cpu" else rows
    stored = torch.zeros((), dtype=torch.int64, device=device)
    for first in range(0, rows, chunk):
        stored += steps.imagine(horizon, joined, min(chunk, rows - first))
    return stored


def imagine_for_all(agent: Agent, horizon: int, joined: bool, rows: int) -> Tensor:
    """Rollouts of every player from so many real states; how many of the first were stored, []."""
    stored = [imagine_for(agent, player, horizon, joined, rows) for player in agent.players]
    return stored[0]


def imagine_for(agent: Agent, player: Player, horizon: int, joined: bool, rows: int) -> Tensor:
    """Rollouts of one policy from so many real states; how many steps were stored, []."""
    drawn = agent.streams[player.rollout_stream]
    starts = agent.real.sample(rows, drawn).obs
    starts = spread_starts(starts, agent.config.rollout.start_spread, agent.rule, drawn)
    world = agent.world_of(player, joined)
    return imagine(starts, horizon, world, player.learner, player.imagined, drawn)


def update_policies(agent: Agent, updates: int) -> dict[str, Tensor]:
    """Step 4 of the loop: each player's learner on mixed batches; the first one's metrics."""
    reports = [update_for(agent, player, updates) for player in agent.players]
    return reports[0]


def update_for(agent: Agent, player: Player, updates: int) -> dict[str, Tensor]:
    """Updates of one policy from the real data and its own rollouts; the last one's metrics."""
    sac, stream = agent.config.sac, agent.streams[player.update_stream]
    real_fraction = 1.0 if agent.config.adversary.algo == "sac" else sac.real_fraction
    sizes = (updates, sac.sac_batch_size, real_fraction)
    batches = sample_mixed(agent.real, player.imagined, *sizes, stream)
    return player.learner.update(batches, agent.real, stream)


def act_and_store(agent: Agent, steps: Steps, journal: JournalWriter) -> None:
    """One step of every real environment; its transitions go to the journal first."""
    envs, stream, device = agent.envs, agent.streams["act"], agent.real.rows.device
    if agent.progress.env_step < agent.config.task.random_steps:
        shape = (len(envs.obs), envs.action_size)
        action = 2.0 * torch.rand(shape, generator=stream, device=device) - 1.0
    else:
        action = steps.act(envs.obs.to(device))
    action = action.cpu()
    if not torch.isfinite(action).all():
        raise DivergedError("the policy's action is not finite")
    rows = agent.real.pack(envs.step(action))
    journal.append(rows.numpy(), envs.places)
    steps.store(rows.to(device))
    agent.progress.env_step += len(rows)


def count_episodes(episodes: list[Episode], metrics: Metrics) -> None:
    """Takes the finished episodes into the epoch's metrics."""
    for episode in episodes:
        metrics.add({"train/return_mean": episode.episode_return})
    metrics.count("train/episodes", len(episodes))
    episodes.clear()


def learn(agent: Agent, steps: Steps, metrics: Metrics) -> None:
    """After real steps: a fit and rollouts where they are due, then the policy updates."""
    config, progress = agent.config, agent.progress
    stepped = progress.env_step - progress.learned_step
    if progress.env_step >= config.task.random_steps:
        due = progress.fit_step is None or (
            progress.env_step - progress.fit_step >= config.model.fit_every_steps
        )
        if due and config.adversary.algo != "sac":
            fit_and_imagine(agent, steps, metrics)
        with metrics.watch.phase("sac"):
            updates = config.sac.updates_per_step * stepped
            metrics.add(steps.update(updates))
            metrics.count("sac/updates", updates)
    metrics.count("env/steps", stepped)
    progress.learned_step = progress.env_step


def write_policy(agent: Agent, file: Path) -> None:
    """The policy as it is now."""
    layers, envs = agent.learner.policy_layers, agent.envs
    save_policy(file, layers, agent.task.env_id, envs.low, envs.high, envs.action_dtype)


def keep_epoch_policy(agent: Agent, run_dir: Path) -> None:
    """Robustness swings from epoch to epoch, so the last epochs' policies stay for comparison."""
    keep = agent.config.run.keep_policies
    if keep:
        file = epoch_file(run_dir, agent.progress.env_step)
        file.parent.mkdir(exist_ok=True)
        write_policy(agent, file)
        kept = epoch_files(run_dir)
        # those behind this one are of a process that was killed: this run goes another way
        newest = kept.index(file)
        for other in [*kept[: max(0, newest + 1 - keep)], *kept[newest + 1 :]]:
            other.unlink()


def end_epoch(agent: Agent, steps: Steps, metrics: Metrics, run_dir: Path) -> dict[str, Any]:
    """Evaluates the deterministic policy, writes policy.safetensors and the epoch's row."""
    config, step, device = agent.config, agent.progress.env_step, agent.real.rows.device
    check_finite(agent)
    if bad := [n for n, v in metrics.averages().items() if not math.isfinite(v)]:
        raise DivergedError(f"not finite at step {step}: {', '.join(bad)}")
    with metrics.watch.phase("eval"):
        evaluate = partial(
            play,
            lambda obs: steps.act_deterministic(obs.to(device)).cpu(),
            config.task,
            config.run.eval_episodes,
            seed_for(config.run.seed, "eval", step),
        )
        try:
            returns = evaluate()
        except NoInstance:  # beside the one that is training: they take turns
            with agent.envs.lent():
                returns = evaluate()
        metrics.add({"eval/return_mean": returns.mean(), "eval/return_std": returns.std()})
        write_policy(agent, run_dir / FILE_NAME)
        keep_epoch_policy(agent, run_dir)
    return metrics.flush(step, agent.epoch)


def train(
    agent: Agent,
    steps: Steps,
    metrics: Metrics,
    journal: JournalWriter,
    run_dir: Path,
    display: Display,
    stop: StopRequest,
    callback: Callback,
) -> None:
    """Runs until --total-env-steps or a stop is asked for, and saves; also where something fails.

    A stop ends a fit, rollouts and an evaluation at once; they begin again when the run goes on.
    """

    def check() -> None:
        display.beat()
        stop.check()

    config, progress, steps = agent.config, agent.progress, steps.checked(check)
    checkpoints = list_checkpoints(run_dir)
    saved_step = step_of(checkpoints[-1]) if checkpoints else 0

    def save() -> None:
        with metrics.watch.phase("checkpoint"):
            journal.sync()
            # first: it refuses a diverged state, which must not become the policy either
            tree = {**state_tree(agent), "metrics": metrics.state_dict()}
            write_policy(agent, run_dir / FILE_NAME)
            save_checkpoint(run_dir, progress.env_step, tree, KEPT_CHECKPOINTS)

    epoch_steps = config.task.epoch_steps
    try:
        while True:
            # what a stop has left undone comes first when a run goes on
            if progress.learned_step < progress.env_step:
                learn(agent, steps, metrics)
                display.step(progress.env_step)
            if progress.env_step // epoch_steps > metrics.last_step // epoch_steps:
                row = end_epoch(agent, steps, metrics, run_dir)
                display.epoch(row)
                if callback(row):
                    stop.ask()
            if progress.env_step - saved_step >= config.run.checkpoint_every_steps:
                save()
                saved_step = progress.env_step
            if progress.env_step >= config.task.total_env_steps:
                break
            stop.check()
            with metrics.watch.phase("env"):
                act_and_store(agent, steps, journal)
            count_episodes(agent.envs.episodes, metrics)
    except Stopped:
        pass
    except Exception:
        if progress.env_step > saved_step:
            with suppress(DivergedError, OSError):  # not finite, or no room: what came says more
                save()
        raise
    if progress.env_step > saved_step:
        save()
