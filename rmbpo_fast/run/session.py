"""One run from its settings to its end: machine, parts, files, loop; how it ended is printed."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError, RmbpoError, RunFailed
from rmbpo_fast.kernels.backend import choose_backend
from rmbpo_fast.run.accelerate import accelerate
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.checkpoint import list_checkpoints, step_of
from rmbpo_fast.run.config_file import read_machine
from rmbpo_fast.run.dataset import require_minari, save_dataset
from rmbpo_fast.run.display import Display, Screen
from rmbpo_fast.run.files import begin_run, restore, resume_command, write_config
from rmbpo_fast.run.journal import JournalWriter
from rmbpo_fast.run.loop import Callback, make_steps, train
from rmbpo_fast.run.metrics import Metrics
from rmbpo_fast.run.stop import StopRequest
from rmbpo_fast.seeding import seed_everything
from rmbpo_fast.worlds.tasks import find_task


def choose_device(name: str) -> torch.device:
    """The torch device of --device. Raises ConfigError where it isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: PyTorch sees {torch.cuda.device_count()} CUDA devices")
    return device


def set_up_machine(config: Config) -> tuple[torch.device, dict[str, Any]]:
    """Device, threads and kernels of this process, as the settings ask for them.

    Returns:
        The device, and what config.json says of the machine.
    Raises:
        ConfigError: what isn't there.
    """
    device = choose_device(config.run.device)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # Triton launches on the current one
    if config.run.threads is not None:
        torch.set_num_threads(config.run.threads)
    try:
        before = None if config.run.resume is None else read_machine(config.run.resume)
        machine = choose_backend(
            config.run.kernels, device, config.run.precision, config.run.compile, before
        )
    except ValueError as error:
        reason = str(error).removeprefix("kernels: ")
        raise ConfigError(f"--kernels {config.run.kernels}: {reason}") from error
    return device, machine


def what_failed(error: Exception, step: int, run_dir: Path) -> RmbpoError:
    """The failure with its step, what is saved, and the command to go on."""
    checkpoints = list_checkpoints(run_dir)
    saved = f"saved at step {step_of(checkpoints[-1])}" if checkpoints else "not saved yet"
    kind = ConfigError if isinstance(error, ConfigError) else RunFailed
    what = str(error) or type(error).__name__
    return kind(
        f"at step {step}: {what}; networks are {saved}, the journal has every real step; to go on: "
        f"{resume_command(run_dir)}"
    )


class Ended(NamedTuple):
    """A run that has ended: its folder, and the signal that stopped it."""

    run_dir: Path
    signal: int | None


def run(config: Config, callback: Callback | None = None) -> Ended:
    """Builds or restores everything, trains, and says how it ended.

    Raises:
        RmbpoError: it failed; its cause is an exception of the task's code or of ours.
    """
    task = find_task(config.task.env)
    if config.run.save_dataset:
        require_minari()  # not after hours
    device, machine = set_up_machine(config)
    seed_everything(config.run.seed)
    agent = build(config, task, device)
    with ExitStack() as cleanup:
        cleanup.callback(agent.envs.close)
        epoch_in_progress = None
        if config.run.resume is not None:
            run_dir = config.run.resume
            journal, epoch_in_progress, found = restore(agent, run_dir)
            cleanup.callback(journal.close)
            write_config(run_dir, config, machine, task)
            seed_everything(config.run.seed, agent.progress.env_step)
        else:
            run_dir, found = begin_run(config, task, machine), "new"
            journal = JournalWriter(run_dir / "journal", 0, agent.real.width)
            cleanup.callback(journal.close)
        synchronize = torch.cuda.synchronize if device.type == "cuda" else None
        metrics = Metrics(run_dir, agent.metrics_header(), synchronize)
        cleanup.callback(metrics.close)
        if epoch_in_progress is not None:
            metrics.resume(epoch_in_progress)
        title = f"{config.adversary.algo} on {task.env_id}, seed {config.run.seed}, {run_dir}"
        stop = cleanup.enter_context(StopRequest())
        display = cleanup.enter_context(
            Display(
                Screen(),
                title,
                agent.progress.env_step,
                config.task.total_env_steps,
                metrics.watch,
                lambda: stop.asked,
                config.task.random_steps,
            )
        )
        display.print(f"{title} ({found})")
        display.print("kernels: " + ", ".join(f"{k} {v}" for k, v in machine.items()))
        if task.limit_is_ours:
            display.print(
                f"{task.env_id} has no time limit: its episodes end after "
                f"{task.max_episode_steps} steps (register it with max_episode_steps for another)"
            )
        joins = config.adversary.adversary_from_epoch * config.task.epoch_steps
        if agent.adversary is not None and agent.progress.env_step < joins:
            display.print(f"adversary: joins at step {joins}, plain MBPO until then")
        steps = make_steps(agent)
        if config.run.compile:
            steps, done = accelerate(agent, device)
            display.print(done)
        raised: list[Exception] = []

        def watched(row: dict[str, Any]) -> object:
            try:
                return callback is not None and callback(row)
            except Exception as error:
                raised.append(error)
                raise

        try:
            train(agent, steps, metrics, journal, run_dir, display, stop, watched)
            step = agent.progress.env_step
            display.print(f"saved at step {step}; {metrics.elapsed_s():.1f} s of training in all")
            if config.run.save_dataset:
                display.print(save_dataset(agent, run_dir))
        except Exception as error:
            if error in raised:  # a program's own, such as Optuna's TrialPruned; the run is saved
                raise
            raise what_failed(error, agent.progress.env_step, run_dir) from error
        except KeyboardInterrupt:
            display.print("stopped at once, without saving; the journal has every real step")
    if stop.asked:
        print(f"stopped; to go on: {resume_command(run_dir)}")
    return Ended(run_dir, stop.signal)
