"""Which runs a sweep consists of, and how far each of them is: told from their folders alone."""

from dataclasses import dataclass
from pathlib import Path

from rmbpo_fast.checkpoint import list_checkpoints, step_of
from rmbpo_fast.cli import changed_settings, parse
from rmbpo_fast.config import CONFIG_FILE, Config, read_config, validate
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.journal import reached

# a sweep decides these itself
_OWN_FLAGS = ("--resume", "--run-dir")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the sweep: an ordinary run folder, there already or not.

    Attributes:
        name: the folder's name, e.g. `eta-4-seed-0`.
        config: the run's settings, its folder (as the user named it) included.
    """

    name: str
    config: Config

    @property
    def run_dir(self) -> Path:
        assert self.config.run.run_dir is not None
        return self.config.run.run_dir

    @property
    def started(self) -> bool:
        return (self.run_dir / CONFIG_FILE).is_file()

    @property
    def total(self) -> int:
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
        folder = self.run_dir.resolve()  # a worker's current folder may be another
        if self.started:
            return self.config.replace(run_dir=folder, resume=folder)
        # there is nothing damaged to be accepted in a new run
        return self.config.replace(run_dir=folder, resume_fallback=False)


def make_plan(words: list[str], etas: tuple[float, ...], seeds: int, folder: Path) -> list[Config]:
    """The settings of every run: each eta with each seed, from --seed on.

    Args:
        words: flags of `train`, which all runs share.
        etas: none leaves eta, or what adapts it, to `words` and the task's preset.
        folder: takes the runs.
    Raises:
        ConfigError: a setting that can't be served, or that a sweep decides itself.
    """
    for flag in _OWN_FLAGS:
        if any(word == flag or word.startswith(f"{flag}=") for word in words):
            raise ConfigError(f"{flag}: a sweep names its runs' folders and resumes them itself")
    if len(set(etas)) < len(etas):
        raise ConfigError(f"--eta: a value is given twice in {' '.join(f'{e:g}' for e in etas)}")
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, not {seeds}")
    base = parse([*words, "--eta", str(etas[0])] if etas else words)
    if etas and base.adversary.algo != "rmbpo":
        raise ConfigError(f"--eta: expected --algo rmbpo, found {base.adversary.algo}")
    if etas and base.adversary.kl_target_nats is not None:
        raise ConfigError("--eta and --kl-target-nats: the target would adapt every eta to one")
    configs = []
    for eta in etas or (base.adversary.eta,):
        for seed in range(base.run.seed, base.run.seed + seeds):
            what = f"eta-{eta:g}" if etas else base.adversary.algo
            run_dir = folder / f"{what}-seed-{seed}"
            config = base.replace(eta=eta, seed=seed, run_dir=run_dir)
            validate(config)
            configs.append(config)
    if len({config.run.run_dir for config in configs}) < len(configs):
        raise ConfigError("--eta: two values are the same in six digits, the folders' names")
    return configs


def check_folders(configs: list[Config]) -> list[PlannedRun]:
    """The runs, where their folders don't hold other ones.

    Raises:
        ConfigError: a folder with a run of other settings, or with something else.
        StorageError: a run whose config.json can't be read.
    """
    runs = []
    for config in configs:
        assert config.run.run_dir is not None
        run = PlannedRun(config.run.run_dir.name, config)
        if run.started:
            there = read_config(run.run_dir).replace(run_dir=run.run_dir)
            if changed := changed_settings(there, config):
                raise ConfigError(
                    f"{run.run_dir}: a run with another {', '.join(changed)}; "
                    "--out takes another folder"
                )
            if run.step > run.total:
                raise ConfigError(
                    f"--total-env-steps {run.total}: {run.run_dir} has come to step {run.step}"
                )
        runs.append(run)
    return runs
