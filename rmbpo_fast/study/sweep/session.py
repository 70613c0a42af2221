"""A sweep from its arguments to its end: plan, training on Ray, evaluation over all runs."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run.stop import StopRequest
from rmbpo_fast.study.sweep.plan import PlannedRun, make_plan
from rmbpo_fast.study.sweep.results import compare_etas, evaluate_all
from rmbpo_fast.study.sweep.table import RunView, SweepTable, between, plan_table
from rmbpo_fast.study.sweep.trial import estimate
from rmbpo_fast.study.sweep.workers import Share, ray_cluster, time_parts, train_all
from rmbpo_fast.worlds.grids import make_experiment


@dataclass(frozen=True)
class Arguments:
    """Train each eta with each seed, on this machine or on a Ray cluster, and compare them.

    Any flag of `python -m rmbpo_fast.train` may follow and holds for every run (--env, --algo,
    --total-env-steps, --compile, ...). The same command goes on with a sweep that was stopped.
    """

    eta: tuple[float, ...] = ()
    """Weights of the value term; 0 is MBPO. None: one setting, with several seeds."""
    seeds: int = 1
    """Runs of each eta, with the seeds from --seed (0 if not given) on."""
    out: Path | None = None
    """Folder of the runs, of their logs and results; runs/<task>/sweep if unset."""
    address: str | None = None
    """A Ray cluster (`auto`, or host:port); Ray on this machine alone if unset. --out must be on
    a disk that all nodes share, under the same path."""
    gpus_per_run: float | None = None
    """Share of a GPU for each run: 0.25 puts four on one, 0 is a CPU; if unset, 1 where Ray has
    GPUs, else 0. How many CPU threads a run has is --threads, 1 if unset."""
    retries: int = 3
    """How often a run is started again whose worker died or whose training failed."""
    dry_run: bool = False
    """Show the plan and how long it will take, and train nothing."""
    distort: tuple[str, ...] = ()
    """What the robustness curves show at the end, as evaluate's --distort; if unset, the paper's
    distortions of the task, where it has any."""
    episodes: int = 10
    """Episodes of each policy at each value of the evaluation."""


def _share(arguments: Arguments, run: PlannedRun, resources: dict[str, float]) -> Share:
    """What a run gets. Raises ConfigError where Ray has less: it would wait for more for ever."""
    gpus, device = arguments.gpus_per_run, run.config.run.device
    if gpus is None:
        gpus = 1.0 if resources.get("GPU", 0) and device != "cpu" else 0.0
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(f"--gpus-per-run must be from 0 to 1 or a whole number, not {gpus:g}")
    if device.startswith("cuda:"):
        raise ConfigError(f"--device {device}: which GPU a run has is for Ray to say; use cuda")
    if (device == "cpu" and gpus) or (device == "cuda" and not gpus):
        raise ConfigError(f"--device {device} and --gpus-per-run {gpus:g} don't go together")
    threads = run.config.run.threads or 1
    for flag, wanted, name in (("threads", threads, "CPU"), ("gpus-per-run", gpus, "GPU")):
        if wanted > resources.get(name, 0):
            raise ConfigError(f"--{flag} {wanted:g}: Ray has {resources.get(name, 0):g} {name}s")
    return Share(threads, gpus)


def _show_plan(
    console: Console, views: Sequence[RunView], share: Share, resources: dict[str, float]
) -> None:
    """Times a run's parts on a worker and prints what the sweep needs."""
    waiting = [view for view in views if view.state != "finished"]
    console.print("timing a run's parts, some seconds ...", style="dim")
    # the largest eta: that one has an adversary, if any has
    longest = max(waiting, key=lambda view: view.run.config.adversary.eta)
    pace = time_parts(longest.run.config, share)
    needs = {view.run.name: estimate(pace, view.run.config, view.step) for view in waiting}
    console.print(plan_table(views, needs))
    side = resources["CPU"] // share.cpus
    if share.gpus:
        side = min(side, resources["GPU"] // share.gpus)
    side = int(min(side, len(waiting)))
    # no less than the longest run, nor than all of them one after the other in each place
    low, high = (max(max(part), sum(part) / side) for part in zip(*needs.values(), strict=True))
    gpu = f" and {share.gpus:g} GPU" if share.gpus else ""
    console.print(
        f"{len(waiting)} of {len(views)} runs to train in {longest.run.run_dir.parent}, {side} at "
        f"a time with {share.cpus} CPU thread{'s' * (share.cpus > 1)}{gpu} each: "
        f"about {between((low, high))} (evaluations not counted; more where runs share a "
        "processor's caches)",
        highlight=False,
        soft_wrap=True,
    )


def _train(arguments: Arguments, views: Sequence[RunView]) -> int | None:
    """Shows the plan and, but for --dry-run, trains. Returns the signal that stopped it, if any."""
    console = Console()
    waiting = [view for view in views if view.state != "finished"]
    with ray_cluster(arguments.address) as resources:
        share = _share(arguments, waiting[0].run, resources)
        for view in waiting:
            config = view.run.config.replace(device="cuda" if share.gpus else "cpu")
            view.run = PlannedRun(config)
        _show_plan(console, views, share, resources)
        if arguments.dry_run:
            return None
        folder = waiting[0].run.run_dir.parent
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        with StopRequest() as stop, SweepTable(console, f"sweep in {folder}", views) as table:
            train_all(
                [view.run for view in waiting],
                share,
                arguments.retries,
                stop,
                lambda ended: table.update(ended, stop.signal is not None),
            )
    return stop.signal


def run(arguments: Arguments, words: list[str], command: str) -> int:
    """The whole command. Returns the exit status. Raises RmbpoError where it can't be done.

    Args:
        words: flags of `train` for every run.
        command: as it was typed.
    """
    if arguments.episodes < 1 or arguments.retries < 0:
        raise ConfigError("--episodes must be at least 1, --retries at least 0")
    make_experiment(arguments.distort, None)  # refuses now what it would refuse after hours
    runs = make_plan(words, arguments.eta, arguments.seeds, arguments.out)
    views = [RunView(planned) for planned in runs]
    if all(view.state == "finished" for view in views):
        print(f"all {len(views)} runs in {runs[0].run_dir.parent} are finished")
    elif stopped_by := _train(arguments, views):
        print("stopped; the same command goes on")
        return 128 + stopped_by
    if arguments.dry_run:
        return 0
    failed = [view for view in views if view.state == "failed"]
    for view in failed:
        output = f"its output: {view.run.log}"
        print(f"failed: {view.run.name}: {view.reason}; {output}", file=sys.stderr)
    finished = [view.run for view in views if view.state == "finished"]
    if finished:
        out = finished[0].run_dir.parent / "results"
        evaluate_all(finished, arguments.distort, arguments.episodes, command, out)
        if arguments.eta:
            compare_etas(finished, out)
    return 1 if failed else 0
