"""All parts of a run, built from its config."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from rmbpo_fast.algo.adversary import Adversary
from rmbpo_fast.algo.game import Game
from rmbpo_fast.algo.gaussian_adversary import (
    PaperAdversary,
    PathwiseAdversary,
    ResidualAdversary,
)
from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.algo.learner import Learner
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.algo.rollout import ImaginedWorld, horizon_at
from rmbpo_fast.algo.sac import SAC
from rmbpo_fast.algo.world_model import WorldModel
from rmbpo_fast.config import Config
from rmbpo_fast.errors import ConfigError
from rmbpo_fast.run.metrics import columns
from rmbpo_fast.seeding import generator_for, seed_for
from rmbpo_fast.worlds.envs import Envs
from rmbpo_fast.worlds.randomized_env import RandomizedVector, parse_ranges
from rmbpo_fast.worlds.tasks import Task
from rmbpo_fast.worlds.termination import Rule, load_rule, never, try_rule

LEARNERS = {"sac": SAC}
ADVERSARIES = {
    "residual": ResidualAdversary,
    "pathwise": PathwiseAdversary,
    "paper": PaperAdversary,
}
_DEVICE_STREAMS = ("act", "world_model", "termination", "adversary", "rollout", "sac", "explorer")


@dataclass
class Progress:
    """Where the run is.

    Attributes:
        env_step: real steps so far.
        learned_step: those that models and policies have been trained after.
        fit_step: real step of the last fit, None before the first.
        horizon: rollout length k that the imagined buffers were sized for.
    """

    env_step: int = 0
    learned_step: int = 0
    fit_step: int | None = None
    horizon: int = 1


@dataclass
class Player:
    """A learner and the imagined data that it learns from.

    Attributes:
        name: of its part of a checkpoint.
        pessimistic: imagines in g_psi's world where there is one, else in p_theta's.
        rollout_stream, update_stream: names of the random streams of its rollouts and updates.
    """

    name: str
    learner: Learner
    imagined: ReplayBuffer
    pessimistic: bool
    rollout_stream: str
    update_stream: str


@dataclass
class Agent:
    """The parts, side by side; none refers to another. `loop.py` hands each what it needs.

    Attributes:
        players: the first one's policy is evaluated and saved; the last one's collects the data.
    """

    config: Config
    task: Task
    envs: Envs
    real: ReplayBuffer
    world_model: WorldModel
    adversary: Adversary | None
    players: list[Player]
    rule: Rule
    streams: dict[str, torch.Generator]
    progress: Progress = field(default_factory=Progress)

    @property
    def learner(self) -> Learner:
        """Whose policy is evaluated and saved."""
        return self.players[0].learner

    @property
    def explorer(self) -> Learner:
        """Whose policy collects the real data."""
        return self.players[-1].learner

    @property
    def game(self) -> Game:
        return Game(self.world_model, self.learner, self.rule)

    def world_of(self, player: Player, joined: bool) -> ImaginedWorld:
        """The world that a player imagines in; joined: g_psi has begun to learn."""
        adversary = self.adversary if player.pessimistic and joined else None
        return ImaginedWorld(self.world_model, adversary, self.rule)

    @property
    def epoch(self) -> int:
        """Epochs so far."""
        return self.progress.env_step // self.config.task.epoch_steps

    def metrics_header(self) -> list[str]:
        """The columns of metrics.csv."""
        return columns(self.config.model.num_members, self.learner.metrics)

    def buffers(self) -> Iterator[ReplayBuffer]:
        """The real data, then each player's imagined data."""
        yield self.real
        for player in self.players:
            yield player.imagined


def build(config: Config, task: Task, device: torch.device) -> Agent:
    """Every part in its first state.

    Raises:
        ConfigError: the task, its termination rule, a dimension mask or a spread of the start
            states can't be served.
    """
    seed = config.run.seed
    streams = {name: generator_for(seed, name, device=device) for name in _DEVICE_STREAMS}
    streams["env_noise"] = generator_for(seed, "env_noise")
    envs = _build_envs(config, task, streams["env_noise"])
    sizes = (envs.obs_size, envs.action_size)
    require_memory(config, *sizes, device)
    low, high = task.obs_bounds(envs.obs_size)
    spread = config.rollout.start_spread
    if spread and len(spread) != envs.obs_size:
        raise ConfigError(
            f"--start-spread must be {envs.obs_size} numbers, one per observation, not {spread}"
        )
    world_model = WorldModel(
        *sizes, config.model, low, high, generator_for(seed, "init world_model"), device
    )

    def player(name: str, pessimistic: bool, *streams: str) -> Player:
        learner = LEARNERS["sac"](*sizes, config.sac, generator_for(seed, f"init {name}"), device)
        imagined = ReplayBuffer(*sizes, imagined_capacity(config, 1), device)
        return Player(name, learner, imagined, pessimistic, *streams)

    players = [player("sac", True, "rollout", "sac")]
    if config.adversary.explore == "nominal":
        players.append(player("explorer", False, "explorer", "explorer"))
    return Agent(
        config=config,
        task=task,
        envs=envs,
        real=ReplayBuffer(*sizes, config.task.total_env_steps + config.task.num_envs, device),
        world_model=world_model,
        adversary=build_adversary(config, sizes, device),
        players=players,
        rule=_choose_rule(config, task, envs.obs_size, device),
        streams=streams,
    )


def _build_envs(config: Config, task: Task, noise_stream: torch.Generator) -> Envs:
    env_seed, num_envs = seed_for(config.run.seed, "env resets") % 2**31, config.task.num_envs
    ranges = parse_ranges(config.task.randomize, task)
    return Envs(
        task,
        num_envs,
        *config.task.noise,
        env_seed,
        noise_stream,
        RandomizedVector(task, num_envs, env_seed, ranges) if ranges else None,
    )


def build_adversary(
    config: Config, sizes: tuple[int, int], device: torch.device
) -> Adversary | None:
    """g_psi in its first state, or None where the settings have no adversary.

    Args:
        sizes: S, A.
    Raises:
        ConfigError: a dimension mask that can't be served.
    """
    # also for the paper's g_psi, which would lag behind p's refits where eta = 0 asks for p itself
    if not config.adversary.adversarial:
        return None
    try:
        return ADVERSARIES[config.adversary.adversary](
            *sizes,
            config.adversary,
            config.model.model_hidden,
            config.model.num_members,
            generator_for(config.run.seed, "init adversary"),
            device,
        )
    except ValueError as error:
        raise ConfigError(f"--adversary-dims: {error}") from error


def _choose_rule(config: Config, task: Task, obs_size: int, device: torch.device) -> Rule:
    choice = config.task.termination
    if choice == "never":
        return never
    if choice == "learned" or (choice == "auto" and task.rule is None):
        stream = generator_for(config.run.seed, "init termination")
        return LearnedTermination(obs_size, device, stream)
    if choice == "auto":
        assert task.rule is not None
        return task.rule
    rule = load_rule(choice)
    try_rule(rule, choice, obs_size, device)
    return rule


def imagined_capacity(config: Config, horizon: int) -> int:
    """One epoch of rollouts: rows * k * (fits per epoch)."""
    fits = max(1.0, config.task.epoch_steps / config.model.fit_every_steps)
    return int(config.rollout.rollout_rows * horizon * fits)


def require_memory(config: Config, obs_size: int, action_size: int, device: torch.device) -> None:
    """Raises ConfigError where the replay buffers will outgrow the memory: now, not after hours."""
    epochs = config.task.total_env_steps // config.task.epoch_steps
    rows = imagined_capacity(config, horizon_at(epochs, config.rollout))
    rows *= 2 if config.adversary.explore == "nominal" else 1
    rows += config.task.total_env_steps
    needed = 4 * rows * (2 * obs_size + action_size + 2)
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    else:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ConfigError(
            f"{rows:,} transitions in the replay buffers take {needed / 2**30:.1f} GiB, and there "
            f"are {there / 2**30:.1f}: fewer --total-env-steps or --rollout-rows, or a shorter "
            "--rollout-schedule"
        )
