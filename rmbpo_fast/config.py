"""Every setting of a run: frozen dataclasses. Knows nothing of torch.

The groups keep `--help` readable and let each part receive its own settings only; flags carry no
group prefix (`--eta`, not `--adversary.eta`), so field names are unique across groups.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rmbpo_fast.errors import ConfigError


@dataclass(frozen=True)
class TaskConfig:
    """The real environment."""

    env: str = "hopper"
    """inverted_pendulum, hopper, halfcheetah, walker2d, ant, humanoid, their EnvPool ids such as
    Hopper-v4, or any registered Gymnasium id with box observations and actions."""
    num_envs: int = 1
    """Environments stepped together (the paper uses 1)."""
    action_noise: str = "none"
    """Noise on the simulated action: none, uniform:HALF_WIDTH or truncated_normal:STD, in the
    environment's own action units. `uniform` leaves an EnvPool task's control cost at the clean
    action; `truncated_normal` wraps the whole environment and stays in the action box."""
    termination: str = "auto"
    """Ending rule for imagined states: auto (the task's own, else learned), learned, never, or
    module:function from next_obs [B, S] to bool [B]."""
    randomize: tuple[str, ...] = ()
    """Domain randomisation: ranges such as pole_mass=2:20, one world for each real episode.
    Evaluations stay nominal."""
    random_steps: int = 5_000
    """Real steps of uniformly random actions before anything is learned."""
    total_env_steps: int = 125_000
    """Real steps of the run, the random ones included."""
    epoch_steps: int = 1_000
    """Real steps per epoch: one evaluation and one row of metrics.csv."""

    @property
    def last_env_step(self) -> int:
        """Where a run ends: --total-env-steps, up to whole steps of all environments."""
        return -(-self.total_env_steps // self.num_envs) * self.num_envs

    @property
    def noise(self) -> tuple[str, float]:
        """Kind and scale of --action-noise; ("none", 0.0) where there is none.

        Raises:
            ConfigError: it is neither of its forms.
        """
        kind, colon, scale = self.action_noise.partition(":")
        if (kind, colon) == ("none", ""):
            return "none", 0.0
        try:
            found = float(scale) if kind in ("uniform", "truncated_normal") else math.nan
        except ValueError:
            found = math.nan
        if not 0.0 <= found < math.inf:
            raise ConfigError(
                "--action-noise must be none, uniform:HALF_WIDTH or truncated_normal:STD, "
                f"not {self.action_noise!r}"
            )
        return kind, found


@dataclass(frozen=True)
class ModelConfig:
    """The nominal model p_theta: a probabilistic ensemble."""

    num_members: int = 7
    """Ensemble members E. The five sevenths with the lowest holdout error are the elites; only they
    imagine."""
    model_hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the hidden layers (swish)."""
    model_batch_size: int = 256
    """Rows per member and gradient step."""
    fit_every_steps: int = 250
    """Real steps between two fits of the model, of the adversary, and rollouts."""
    correlated_noise: bool = False
    """Draw the predicted numbers with the correlation of the model's held-out errors (ours); if
    not, they are independent, as in MBPO and the paper. One force moves several of them at once,
    so with independent noise the imagined world wanders where the real one can't
    (bench/DIARY.md)."""

    @property
    def num_elites(self) -> int:
        """MBPO's five of seven."""
        return max(1, 5 * self.num_members // 7)


@dataclass(frozen=True)
class AdversaryConfig:
    """The adversarial auxiliary model g_psi."""

    algo: Literal["rmbpo", "mbpo", "sac"] = "rmbpo"
    """rmbpo imagines in g_psi, mbpo in p_theta; sac learns from real data only."""
    explore: Literal["robust", "nominal"] = "robust"
    """Who collects the real data: the robust policy, or a second SAC that learns in p_theta's
    rollouts, as MBPO's policy does (ours; an open question of the paper)."""
    eta: float = 0.05
    """Weight of the value term: larger is more pessimistic, 0 is MBPO. Given alone, it stays
    fixed; with --kl-target-nats or --drop-target it is where eta starts."""
    kl_target_nats: float | None = 0.005
    """Adapt eta by dual ascent until KL(g || p) per step has this value (ours); None: fixed eta.
    A fit ends at twice it."""
    drop_target: float | None = None
    """Adapt eta until g takes this share of V from the newest real states in the long run, i.e.
    drop of V per step / (1 - gamma) / V (ours). The released policies': 0.06 on Hopper."""
    adversary_from_epoch: int = 0
    """Epoch in which the adversary joins (ours): until then g = p, i.e. plain MBPO."""
    adversary: Literal["residual", "pathwise", "paper"] = "residual"
    """residual: shift and log-variance change in units of p's spread, learned by the score function
    (ours); pathwise: the same, the gradient going through the critic; paper: g's own mean and
    log-variance, started as a copy of p, by the score function."""
    adversary_dims: tuple[int, ...] | None = None
    """Mask: indices of the predicted numbers that the adversary may change (the reward is the
    last); all if unset."""

    @property
    def adversarial(self) -> bool:
        """Whether there is a g_psi. At eta = 0 the optimum g* = p is known: that is MBPO."""
        return self.algo == "rmbpo" and self.eta > 0


@dataclass(frozen=True)
class RolloutConfig:
    """Imagined rollouts."""

    rollout_rows: int = 100_000
    """Start states per fit, drawn from the real buffer."""
    rollout_schedule: tuple[int, ...] = (1,)
    """Rollout length k: one number, or MBPO's four: FIRST_EPOCH LAST_EPOCH FIRST_K LAST_K, between
    which k grows linearly (truncated to an integer)."""
    start_spread: tuple[float, ...] = ()
    """Half-widths, one per observation in its units, of uniform noise on the start states (ours).
    It shows the critics states that a policy which balances never visits (bench/DIARY.md). If
    empty, rollouts start from real states, as in MBPO and the paper."""


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic."""

    updates_per_step: int = 20
    """Gradient updates G per real step."""
    sac_hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of actor and critics (ReLU)."""
    sac_batch_size: int = 256
    """Rows per update."""
    real_fraction: float = 0.05
    """Share of real rows in a batch."""
    gamma: float = 0.99
    """Discount per step."""
    sac_lr: float = 3e-4
    """Adam step size of actor, critics and temperature."""
    target_entropy: float | None = None
    """Entropy that the temperature is tuned to, nats, for actions in [-1, 1]; minus the number of
    action dimensions if unset."""
    entropy_rows: int | None = None
    """Tune the temperature on this many of the newest real states, those of the exploring policy
    (ours). If unset, on the batch, as in MBPO. On the pendulum a batch also holds states in which
    every action leads to a fall. The policy has little entropy there, so the temperature gives it
    too much where it balances (bench/DIARY.md)."""


@dataclass(frozen=True)
class RunConfig:
    """This run: seed, machine, files. All but the seed and the folder may change on --resume."""

    seed: int = 0
    """Seed of everything random."""
    run_dir: Path | None = None
    """Folder of the run; runs/<task>/<algo>/<seed>-<time> if unset."""
    resume: Path | None = None
    """Go on with the run in this folder."""
    resume_fallback: bool = False
    """With --resume: accept the checkpoint before a damaged one, and a journal's valid part."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    compile: bool = False
    """Run fast: compiled kernels, and on a GPU CUDA graphs. Without it runs are plain PyTorch."""
    kernels: Literal["auto", "reference", "native", "triton"] = "auto"
    """Backend of the hot operations; with --compile auto takes triton on a GPU, native on a CPU."""
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    """Operands of matrix products: as exact as float32 (fp32), 11 bits (tf32) or 8 bits (bf16);
    sums, weights and optimiser stay float32. auto is tf32 for Triton's kernels, the faster of bf16
    and fp32 for native kernels (measured at the start; --resume keeps it), fp32 otherwise. For
    PyTorch's kernels on a CPU it is PyTorch's matmul precision, which takes effect only where there
    is such a product."""
    threads: int | None = None
    """CPU threads of PyTorch; PyTorch's own choice if unset."""
    eval_episodes: int = 10
    """Episodes of the deterministic policy at the end of each epoch."""
    checkpoint_every_steps: int = 5_000
    """Real steps between checkpoints; the last two are kept. SIGINT and SIGTERM save too."""
    keep_policies: int = 10
    """Policies of the last epochs kept in policies/, to see how steady their robustness is."""
    save_dataset: bool = False
    """When training ends or is stopped, write all real transitions to <run>/dataset for Minari."""


@dataclass(frozen=True)
class Config:
    """Train RMBPO. Defaults shown are those of the --env given."""

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def replace(self, **values: Any) -> "Config":
        """A copy with fields changed by their flag names, e.g. `replace(eta=0.0, seed=1)`."""
        groups = {}
        for group in dataclasses.fields(self):
            part = getattr(self, group.name)
            names = {f.name for f in dataclasses.fields(part)}
            groups[group.name] = dataclasses.replace(
                part, **{name: values.pop(name) for name in names & values.keys()}
            )
        if values:
            raise ConfigError(f"no such setting: {', '.join(sorted(values))}")
        return Config(**groups)

    def flat(self) -> dict[str, Any]:
        """Flag name -> value over all groups."""
        return {
            f.name: getattr(getattr(self, group.name), f.name)
            for group in dataclasses.fields(self)
            for f in dataclasses.fields(getattr(self, group.name))
        }


# what eta is adapted to, one of them at most
ETA_TARGETS = ("kl_target_nats", "drop_target")


def flag_of(name: str) -> str:
    """`--kl-target-nats` for `kl_target_nats`."""
    return "--" + name.replace("_", "-")
