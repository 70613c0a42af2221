"""An analysis from its arguments to its files: the newest checkpoint, numbers, tables, picture."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from rmbpo_fast import __version__
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run.files import load_run
from rmbpo_fast.storage import write_csv_atomically, write_text_atomically
from rmbpo_fast.study import figures
from rmbpo_fast.study.analysis import adversary_effect, model_error, play_episodes, q_gap
from rmbpo_fast.study.groups import group_of
from rmbpo_fast.worlds.dimensions import Dimension, dimensions

# column of dimensions.csv, heading on the terminal ("" is not shown there), format
_ADVERSARY = [
    ("shift_mean", "shift (std of p)", "{:+.3f}"),
    ("shift_p10", "", ""),
    ("shift_p90", "", ""),
    ("logvar_change", "", ""),
    ("kl_per_dimension", "KL (nats)", "{:.5f}"),
    ("drop_only", "drop, only it", "{:+.3f}"),
    ("drop_without", "without it", "{:+.3f}"),
]
_MODEL = [
    ("rmse", "RMSE of p", "{:.2g}"),
    ("rmse_share", "in std of the data", "{:.3f}"),
    ("z_rms", "in std of p", "{:.2f}"),
]
_Columns = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Arguments:
    """What g_psi changes against p_theta, where Q and the model are off, on real episodes."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of the run; its newest checkpoint is looked at."""
    episodes: int = 10
    """Real episodes of the deterministic policy, whose states are used."""
    seed: int = 0
    """Seed of resets, action noise and draws."""
    ablate: bool = False
    """Also V's drop with the adversary in one dimension only, and in all but one. Nothing is
    retrained; training with a mask is train's --adversary-dims. Not with --correlated-noise."""


def _write_csv(path: Path, names: list[Dimension], found: dict[str, Any]) -> None:
    columns = [name for name, _, _ in (*_ADVERSARY, *_MODEL) if name in found]
    rows = [[*names[d], *(found[name][d] for name in columns)] for d in range(len(names))]
    write_csv_atomically(path, [["dimension", "unit", *columns], *rows])


def _print_table(names: list[Dimension], found: dict[str, Any], columns: _Columns) -> None:
    table = Table(box=None, padding=(0, 1))
    table.add_column("per step", no_wrap=True)
    shown = [(name, head, form) for name, head, form in columns if name in found and head]
    for _, head, _ in shown:
        table.add_column(head, justify="right")
    for d, dimension in enumerate(names):
        cells = [(found[name][d], form) for name, _, form in shown]
        table.add_row(str(dimension), *("-" if v is None else f.format(v) for v, f in cells))
    Console().print(table, markup=False)


def _print(names: list[Dimension], found: dict[str, Any]) -> None:
    gap = found["q_gap"]
    _print_table(names, found, _MODEL)
    if "kl_nats" in found:
        _print_table(names, found, _ADVERSARY)
        if found["kl_nats"] < 1e-7:
            print("the adversary equals p here: it hasn't learned anything yet")
        print(
            f"adversary: KL {found['kl_nats']:.4f} nats a step, drop of V "
            f"{found['value_drop']:.3f} +- {found['value_drop_error']:.3f}; V has mean "
            f"{found['value_mean']:.1f} and std {found['value_std']:.2f} under p"
        )
    if gap["gap"] is None:
        print("Q against returns: the time limit cuts every episode too early to tell")
    else:
        print(
            f"Q {gap['q_mean']:.1f} against a discounted return of {gap['return_mean']:.1f}: gap "
            f"{gap['gap']:+.1f} ({100 * gap['gap_share']:+.0f} %); SAC's entropy bonus would be "
            f"{gap['entropy_bonus']:+.1f} of it in the long run"
        )


def _plain(value: Any) -> Any:
    """For JSON, which knows no NaN."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def run(arguments: Arguments) -> None:
    """The whole command. Raises RmbpoError where it can't be done."""
    if arguments.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, not {arguments.episodes}")
    agent, step = load_run(arguments.run_dir)
    config, task = agent.config, agent.task
    if arguments.ablate and config.model.correlated_noise:
        raise ConfigError("--ablate takes numbers apart that --correlated-noise draws together")
    played = play_episodes(
        agent.learner.act_deterministic,
        config.task,
        arguments.episodes,
        arguments.seed,
        agent.learner.gamma,
    )
    names = dimensions(task, played.obs.shape[1])
    found: dict[str, Any] = model_error(agent, played)
    if agent.adversary is not None:
        effect = adversary_effect(agent, played, arguments.seed, arguments.ablate)
        found = {**effect, **found}
    results = {
        "version": __version__,
        "env_id": task.env_id,
        "group": group_of(config),
        "step": step,
        "episodes": arguments.episodes,
        "seed": arguments.seed,
        "return_mean": float(played.returns.mean()),
        "dimensions": [dimension._asdict() for dimension in names],
        "q_gap": q_gap(agent, played),
        **found,
    }
    results = _plain(results)
    folder = arguments.run_dir / "analysis"
    folder.mkdir(exist_ok=True)
    write_text_atomically(folder / "analysis.json", json.dumps(results, indent=1) + "\n")
    _write_csv(folder / "dimensions.csv", names, results)
    pictures = ""
    if agent.adversary is not None:
        figures.save(figures.adversary_picture(results), folder / "adversary")
        pictures = ", adversary.png, adversary.pdf"
    print(f"{task.env_id}, {group_of(config)}, step {step}: return {played.returns.mean():.1f}")
    _print(names, results)
    if agent.adversary is None:
        print(f"{group_of(config)}: there is no adversary to show")
    print(f"{folder}: dimensions.csv, analysis.json{pictures}")
