"""Every setting of a run: frozen dataclasses. Knows nothing of torch.

The groups keep `--help` readable and let each part receive its own settings only; flags carry no
group prefix (`--eta`, not `--adversary.eta`), so field names are unique across groups.
"""

import dataclasses
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
    action_noise: Literal["none", "uniform", "truncated_normal"] = "none"
    """Noise on the simulated action. `uniform` leaves an EnvPool task's control cost at the clean
    action; `truncated_normal` wraps the whole environment and stays in the action box."""
    action_noise_scale: float = 0.0
    """Half width of the uniform, std of the normal, in the environment's own action units."""
    termination: str = "auto"
    """Ending rule for imagined states: auto (the task's own, else learned), learned, never, or
    module:function from next_obs [B, S] to bool [B]."""
    randomize: tuple[str, ...] = ()
    """With --algo dr: ranges such as pole_mass=2:20, one world for each real episode. Evaluations
    stay nominal."""
    random_steps: int = 5_000
    """Real steps of uniformly random actions before anything is learned."""
    total_env_steps: int = 125_000
    """Real steps of the run, the random ones included."""
    epoch_steps: int = 1_000
    """Real steps per epoch: one evaluation and one row of metrics.csv."""


@dataclass(frozen=True)
class ModelConfig:
    """The nominal model p_theta: a probabilistic ensemble."""

    num_members: int = 7
    """Ensemble members E."""
    num_elites: int = 5
    """Members with the lowest holdout error; only they imagine."""
    model_hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the hidden layers (swish)."""
    model_weight_decay: tuple[float, ...] = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
    """L2 factor per layer, output layer last: half the squared sum joins the loss."""
    model_lr: float = 1e-3
    """Adam step size."""
    model_batch_size: int = 256
    """Rows per member and gradient step."""
    fit_every_steps: int = 250
    """Real steps between two fits of the model, of the adversary, and rollouts."""
    holdout_fraction: float = 0.2
    """Share of the real rows held out, drawn afresh at each fit."""
    holdout_max_rows: int = 5_000
    """Upper limit of the held-out rows."""
    model_patience_epochs: int = 5
    """Stop after this many epochs in which no member improved by more than 1 %."""
    correlated_noise: bool = False
    """Draw the predicted numbers together, as their errors on held-out rows go together (ours); if
    not, each on its own, as MBPO and the paper. One force moves several numbers at once: drawn on
    their own they let the imagined world wander where the real one can't (bench/DIARY.md)."""


@dataclass(frozen=True)
class AdversaryConfig:
    """The adversarial auxiliary model g_psi."""

    algo: Literal["rmbpo", "mbpo", "dr", "sac"] = "rmbpo"
    """rmbpo imagines in g_psi, mbpo in p_theta; dr (domain randomisation) is mbpo with --randomize;
    sac learns from real data only."""
    explore: Literal["robust", "nominal"] = "robust"
    """Who collects the real data: the robust policy, or a second SAC that learns in p_theta's
    rollouts and is as good at exploring as MBPO's (ours; the paper's open question)."""
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
    kl_dual_lr: float = 0.5
    """Step of the adaptation in log(eta) per fit and unit of log(found / target) (ours)."""
    parametrization: Literal["residual", "full"] = "residual"
    """residual: shift and log-variance change in units of p's spread (ours); full: g's own mean
    and log-variance, started as a copy of p."""
    estimator: Literal["score", "pathwise"] = "score"
    """Gradient of the value term: score function, or through the critic."""
    baseline: Literal["mean", "none"] = "mean"
    """What the score estimator subtracts: the target at g's mean (ours), or nothing."""
    adversary_warm_start: bool = True
    """Go on from the last fit; otherwise start each fit at g = p."""
    adversary_dims: tuple[int, ...] | None = None
    """Predicted dimensions that the adversary may touch (the reward is the last); all if unset."""
    adversary_lr: float = 1e-3
    """Adam step size."""
    adversary_batch_size: int = 256
    """Rows per member and gradient step."""
    adversary_max_steps: int | None = None
    """Gradient steps per fit at most; 300 for residual, 1,000 for full if unset (ours)."""
    adversary_check_every: int = 25
    """Gradient steps between looks at the held-out objective (ours)."""
    adversary_patience_checks: int = 3
    """Looks without a better held-out objective after which a fit ends (ours)."""
    adversary_holdout_max_rows: int = 1_000
    """Upper limit of the held-out fifth of the real rows (ours)."""

    @property
    def adversarial(self) -> bool:
        """Whether there is a g_psi. At eta = 0 the optimum g* = p is known: that is MBPO."""
        return self.algo == "rmbpo" and self.eta > 0


@dataclass(frozen=True)
class RolloutConfig:
    """Imagined rollouts."""

    rollout_rows: int = 100_000
    """Start states per fit, drawn from the real buffer."""
    horizon_min: int = 1
    """Rollout length k before the ramp."""
    horizon_max: int = 1
    """Rollout length k after the ramp."""
    horizon_epochs: tuple[int, int] = (0, 1)
    """Epochs between which k grows linearly (truncated to an integer)."""
    start_spread: tuple[float, ...] = ()
    """How far the start states are moved at random, one half-width per observation in its own
    units, uniform (ours). A policy that balances shows the critics no other place than its own;
    this does (bench/DIARY.md). If empty, as MBPO and the paper: real states as they are."""
    rollout_chunk_rows: int | None = None
    """Rows imagined at a time; if unset, 1,000 per elite on a CPU (they fit its cache), all on a
    GPU."""


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
    tau: float = 0.005
    """Step of the target critics towards the critics, per update."""
    sac_lr: float = 3e-4
    """Adam step size of actor, critics and temperature."""
    init_temperature: float = 1.0
    """First entropy temperature alpha."""
    target_entropy: float | None = None
    """Entropy that the temperature is tuned to, nats, for actions in [-1, 1]; minus the number of
    action dimensions if unset."""
    entropy_rows: int | None = None
    """Tune the temperature on this many of the newest real states, where the exploring policy is
    (ours). If unset, on the batch, as MBPO. On the pendulum a batch also holds states that are
    lost, where the policy has far less entropy than the target; so it has more where it balances
    (bench/DIARY.md)."""


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
    sums, weights and optimiser stay float32. auto is tf32 for Triton's kernels, bf16 for native
    kernels on a processor that has fast bf16 products, fp32 otherwise. For PyTorch's kernels on a
    CPU it is PyTorch's matmul precision, which takes effect only where there is such a product."""
    threads: int | None = None
    """CPU threads of PyTorch; PyTorch's own choice if unset."""
    eval_episodes: int = 10
    """Episodes of the deterministic policy at the end of each epoch."""
    checkpoint_every_steps: int = 5_000
    """Real steps between checkpoints; SIGINT and SIGTERM save too."""
    keep_checkpoints: int = 2
    """Checkpoints kept; older ones go once a newer one has been read back."""
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
