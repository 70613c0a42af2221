"""Which runs a sweep consists of, and how far each of them is: told from their folders alone."""

from dataclasses import dataclass
from pathlib import Path

from rmbpo_fast.config import ETA_TARGETS, Config, flag_of
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run.checkpoint import list_checkpoints, step_of
from rmbpo_fast.run.cli import changed_settings, parse, with_hyphens
from rmbpo_fast.run.config_file import CONFIG_FILE, read_config
from rmbpo_fast.run.journal import reached
from rmbpo_fast.run.validation import validate
from rmbpo_fast.worlds.tasks import find_task

# a sweep decides these itself
_OWN_FLAGS = ("--resume", "--run-dir")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the sweep: an ordinary run folder, there already or not.

    Attributes:
        config: the run's settings, its folder included.
    """

    config: Config

    @property
    def run_dir(self) -> Path:
        assert self.config.run.run_dir is not None
        return self.config.run.run_dir

    @property
    def name(self) -> str:
        """The folder's name, e.g. `eta-4-seed-0`."""
        return self.run_dir.name

    @property
    def log(self) -> Path:
        """What its workers print."""
        return self.run_dir.parent / "logs" / f"{self.name}.txt"

    @property
    def started(self) -> bool:
        return (self.run_dir / CONFIG_FILE).is_file()

    @property
    def total(self) -> int:
        """Real steps of the whole run."""
        return self.config.task.total_env_steps

    @property
    def step(self) -> int:
        """Real steps in the journal so far."""
        return reached(self.run_dir / "journal")

    @property
    def finished(self) -> bool:
        """A run saves at its very end, behind the last row of metrics and the last policy."""
        checkpoints = list_checkpoints(self.run_dir)
        return bool(checkpoints) and step_of(checkpoints[-1]) >= self.total

    def starting_config(self) -> Config:
        """What a worker is to train with now: a new run, or --resume of what is there."""
        if self.started:
            return self.config.replace(resume=self.run_dir)
        # there is nothing damaged to be accepted in a new run
        return self.config.replace(resume_fallback=False)


def make_plan(
    words: list[str], etas: tuple[float, ...], seeds: int, folder: Path | None
) -> list[PlannedRun]:
    """Every run: each eta with each seed, from --seed on. One CPU thread each, or --threads.

    Args:
        words: flags of `train`, which all runs share.
        etas: none leaves eta, or what adapts it, to `words` and the task's preset.
        folder: takes the runs; runs/<task>/sweep if None.
    Raises:
        ConfigError: a setting that can't be served or that a sweep decides itself; a folder with a
            run of other settings.
        StorageError: a run whose config.json can't be read.
    """
    words = with_hyphens(words)
    for flag in _OWN_FLAGS:
        if any(word == flag or word.startswith(f"{flag}=") for word in words):
            raise ConfigError(f"{flag}: a sweep names its runs' folders and resumes them itself")
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, not {seeds}")
    base = parse([*words, "--eta", str(etas[0])] if etas else words)
    base = base.replace(threads=base.run.threads or 1)
    if etas and base.adversary.algo != "rmbpo":
        raise ConfigError(f"--eta: expected --algo rmbpo, found {base.adversary.algo}")
    for name in ETA_TARGETS:
        if etas and base.flat()[name] is not None:
            raise ConfigError(f"--eta and {flag_of(name)}: the target would adapt every eta to one")
    if len({f"{eta:g}" for eta in etas}) < len(etas):
        values = " ".join(f"{eta:g}" for eta in etas)
        raise ConfigError(f"--eta: two values are the same in six digits, the folders': {values}")
    # a worker's current folder may be another
    folder = (folder or Path("runs", find_task(base.task.env).name, "sweep")).resolve()
    runs = []
    for eta in etas or (base.adversary.eta,):
        for seed in range(base.run.seed, base.run.seed + seeds):
            what = f"eta-{eta:g}" if etas else base.adversary.algo
            run_dir = folder / f"{what}-seed-{seed}"
            config = base.replace(eta=eta, seed=seed, run_dir=run_dir)
            validate(config)
            runs.append(PlannedRun(config))
            _check_folder(runs[-1])
    return runs


def _check_folder(run: PlannedRun) -> None:
    if not run.started:
        return
    there = read_config(run.run_dir).replace(run_dir=run.run_dir)
    if changed := changed_settings(there, run.config):
        raise ConfigError(
            f"{run.run_dir}: a run with another {', '.join(changed)}; --out takes another folder"
        )
    if run.step > run.config.task.last_env_step:
        raise ConfigError(
            f"--total-env-steps {run.total}: {run.run_dir} has come to step {run.step}"
        )
