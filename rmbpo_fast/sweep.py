"""Many runs on Ray: each eta with each seed, resumed where a worker dies, evaluated at the end.

python -m rmbpo_fast.sweep --env hopper --eta 0 1 2 4 8 --seeds 5
"""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console

from rmbpo_fast import evaluate, figures
from rmbpo_fast.errors import ConfigError, run_command
from rmbpo_fast.grids import has_paper_grid, make_experiment
from rmbpo_fast.loop import StopRequest
from rmbpo_fast.report import read_metrics
from rmbpo_fast.robustness import summarise
from rmbpo_fast.storage import write_text_atomically
from rmbpo_fast.sweep_figures import KlCurve, adversary_kl, return_against_eta
from rmbpo_fast.sweep_plan import PlannedRun, check_folders, make_plan
from rmbpo_fast.sweep_table import RunView, SweepTable, between, plan_table, summary
from rmbpo_fast.sweep_workers import (
    Share,
    ray_cluster,
    require_ray,
    time_parts,
    train_all,
)
from rmbpo_fast.tasks import find_task
from rmbpo_fast.trial import estimate


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
    a disk that all nodes share."""
    gpus_per_run: float | None = None
    """Share of a GPU for each run: 0.25 puts four on one, 0 is a CPU; if unset, 1 where Ray has
    GPUs, else 0. How many CPU threads a run has is --threads, 1 if unset."""
    retries: int = 3
    """How often a run is started again whose worker died or whose training failed."""
    dry_run: bool = False
    """Show the plan and how long it will take, and start nothing."""
    distort: tuple[str, ...] = ()
    """What the robustness curves show at the end, as evaluate's --distort; if unset, the paper's
    distortions of the task (--grid paper), where it has any."""
    episodes: int = 10
    """Episodes of each policy at each value of the evaluation."""


def _share(arguments: Arguments, threads: int, device: str, resources: dict[str, float]) -> Share:
    """What a run gets. Raises ConfigError where Ray has less than that."""
    gpus = arguments.gpus_per_run
    if gpus is None:
        gpus = 1.0 if resources.get("GPU", 0) and device != "cpu" else 0.0
    if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
        raise ConfigError(f"--gpus-per-run must be from 0 to 1 or a whole number, not {gpus:g}")
    if device.startswith("cuda:"):
        raise ConfigError(f"--device {device}: which GPU a run has is for Ray to say; use cuda")
    if (device == "cpu" and gpus) or (device == "cuda" and not gpus):
        raise ConfigError(f"--device {device} and --gpus-per-run {gpus:g} don't go together")
    for name, wanted in (("CPU", threads), ("GPU", gpus)):
        if wanted > resources.get(name, 0):
            flag = "--threads" if name == "CPU" else "--gpus-per-run"
            raise ConfigError(f"{flag} {wanted:g}: Ray has {resources.get(name, 0):g} {name}s")
    return Share(threads, gpus)


def _slots(share: Share, resources: dict[str, float]) -> int:
    """How many runs fit side by side, if all of them were on one machine."""
    fits = resources["CPU"] // share.cpus
    return int(min(fits, resources["GPU"] // share.gpus) if share.gpus else fits)


def _show_plan(
    console: Console, views: list[RunView], share: Share, slots: int, folder: Path
) -> None:
    """Times the parts on a worker and prints what the sweep needs."""
    waiting = [view for view in views if view.state != "finished"]
    needs: dict[str, tuple[float, float]] = {}
    if waiting:
        # the largest eta: that one has an adversary, if any has
        longest = max(waiting, key=lambda view: view.run.config.adversary.eta)
        console.print("timing a run's parts, some seconds ...", style="dim")
        pace = time_parts(longest.run.config, share)
        needs = {v.run.name: estimate(pace, v.run.config, v.step) for v in waiting}
    console.print(plan_table(views, needs))
    gpu = f" and {share.gpus:g} GPU" if share.gpus else ""
    threads = f"{share.cpus} CPU thread{'s' * (share.cpus > 1)}{gpu}"
    print(f"{len(waiting)} of {len(views)} runs to train in {folder}, {threads} each")
    if waiting:
        rounds = -(-len(waiting) // slots)
        # no less than the longest run, nor than all of them one after the other in each slot
        low, high = (
            max(max(part), sum(part) / min(slots, len(waiting)))
            for part in zip(*needs.values(), strict=True)
        )
        side = min(slots, len(waiting))
        print(
            f"{side} at a time, in {rounds} round{'s' * (rounds > 1)}: about {between((low, high))}"
            " (evaluations not counted; more where runs share a processor's caches)"
        )


def _results(views: list[RunView], arguments: Arguments, folder: Path, command: str) -> None:
    """The evaluation's figures over all finished runs."""
    runs = [view.run for view in views if view.state == "finished"]
    paths = tuple(str(run.run_dir) for run in runs)
    out = folder / "results"
    env = runs[0].config.task.env
    nominal = evaluate.Arguments(paths, episodes=arguments.episodes, out=out)
    evaluate.run(nominal, command)
    if arguments.distort:
        evaluate.run(
            evaluate.Arguments(paths, arguments.distort, episodes=arguments.episodes, out=out),
            command,
        )
    elif has_paper_grid(env):
        evaluate.run(
            evaluate.Arguments(paths, grid="paper", episodes=arguments.episodes, out=out), command
        )
    else:
        print(f"no robustness curves: the paper has no grid for {env}; --distort takes one")
    if arguments.eta:
        _eta_figures(runs, out)


def _eta_figures(runs: list[PlannedRun], out: Path) -> None:
    env_id = find_task(runs[0].config.task.env).env_id
    nominal = json.loads((out / make_experiment((), None).slug() / "results.json").read_text())
    returns = nominal["worlds"][0]["returns"]
    of_eta: dict[float, list[tuple[PlannedRun, float]]] = {}
    for run, r in zip(runs, returns, strict=True):
        of_eta.setdefault(run.config.adversary.eta, []).append((run, float(np.mean(r))))
    etas = sorted(of_eta)
    means = [np.array([mean for _, mean in of_eta[eta]]) for eta in etas]
    results = [summarise(f"eta {e:g}", m, "mean") for e, m in zip(etas, means, strict=True)]
    files = figures.save(return_against_eta(env_id, etas, results, means), out / "eta")
    curves = []
    for eta in etas:
        measured = [_kl_over_training(run) for run, _ in of_eta[eta]]
        measured = [(steps, kl) for steps, kl in measured if len(steps)]
        if measured:
            curves.append(KlCurve(eta, measured))
    if curves:
        files += figures.save(adversary_kl(env_id, curves), out / "adversary_kl")
    rows = [
        {
            "eta": eta,
            "return": result.value,
            "return_low": result.low,
            "return_high": result.high,
            "runs": {run.name: mean for run, mean in of_eta[eta]},
            "last_kl_nats": next(
                (float(np.mean([kl[-1] for _, kl in c.runs])) for c in curves if c.eta == eta), None
            ),
        }
        for eta, result in zip(etas, results, strict=True)
    ]
    write_text_atomically(out / "eta.json", json.dumps(rows, indent=1) + "\n")
    print(f"{out}: eta.json, {', '.join(file.name for file in files)}")


def _kl_over_training(run: PlannedRun) -> tuple[np.ndarray, np.ndarray]:
    """Real steps [n] and KL [n] of the epochs in which the adversary was fitted."""
    metrics = read_metrics(run.run_dir / "metrics.csv")
    steps, kl = np.array(metrics["env_step"]), np.array(metrics["adversary/kl_nats"])
    fitted = np.array(metrics["adversary/steps"]) > 0
    return steps[fitted], kl[fitted]


def run(arguments: Arguments, words: list[str], command: str) -> int:
    """The whole command. Returns the exit status. Raises RmbpoError where it can't be done.

    Args:
        words: flags of `train` for every run.
        command: as it was typed.
    """
    require_ray()
    if arguments.episodes < 1 or arguments.retries < 0:
        raise ConfigError("--episodes must be at least 1, --retries at least 0")
    make_experiment(arguments.distort, None)  # refuses now what it would refuse after hours
    base = make_plan(words, arguments.eta, 1, Path("unused"))[0]
    folder = arguments.out or Path("runs", find_task(base.task.env).name, "sweep")
    threads = base.run.threads or 1
    with ray_cluster(arguments.address) as resources:
        share = _share(arguments, threads, base.run.device, resources)
        configs = [
            config.replace(threads=threads, device="cuda" if share.gpus else "cpu")
            for config in make_plan(words, arguments.eta, arguments.seeds, folder)
        ]
        runs = check_folders(configs)
        logs = {planned.name: folder / "logs" / f"{planned.name}.txt" for planned in runs}
        views = [RunView(planned, logs[planned.name]) for planned in runs]
        console = Console()
        _show_plan(console, views, share, _slots(share, resources), folder)
        if arguments.dry_run:
            return 0
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        (folder / "results").mkdir(exist_ok=True)
        to_train = {view.run.name: view.run for view in views if view.state != "finished"}
        title = f"sweep in {folder}"
        with StopRequest() as stop, SweepTable(console, title, views) as table:
            train_all(
                to_train,
                logs,
                share,
                arguments.retries,
                stop,
                lambda ended: table.update(ended, stop.signal is not None),
            )
    plan: dict[str, Any] = {"command": command, "runs": summary(views)}
    write_text_atomically(folder / "results" / "sweep.json", json.dumps(plan, indent=1) + "\n")
    failed = [view for view in views if view.state == "failed"]
    for view in failed:
        print(f"failed: {view.run.name}: {view.reason}; its output: {view.log}", file=sys.stderr)
    if stop.signal is not None:
        print("stopped; the same command goes on")
        return 128 + stop.signal
    if any(view.state == "finished" for view in views):
        _results(views, arguments, folder, command)
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command. Returns the exit status: 0, 1 for a failed run, 2 for bad settings."""
    words = sys.argv[1:] if argv is None else argv
    prog = "python -m rmbpo_fast.sweep"
    arguments, of_train = tyro.cli(Arguments, args=words, prog=prog, return_unknown_args=True)
    torch.set_num_threads(1)  # the evaluation's batches are small
    command = shlex.join([*prog.split(), *words])
    return run_command(
        lambda: run(arguments, of_train, command),
        "stopped without saving; the journals have every real step, the same command goes on",
    )


if __name__ == "__main__":
    sys.exit(main())
