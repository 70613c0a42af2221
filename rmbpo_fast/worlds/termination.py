"""Each task's ending rule, on batches of states.

A rule maps next_obs [..., S] to bool [...]: does the episode end in this state? Rules are written
as "not healthy", so a state that is not finite ends the episode.
"""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor

from rmbpo_fast.errors import ConfigError

Rule = Callable[[Tensor], Tensor]


def never(obs: Tensor) -> Tensor:
    """HalfCheetah: only the time limit ends an episode."""
    return torch.zeros(obs.shape[:-1], dtype=torch.bool, device=obs.device)


def inverted_pendulum(obs: Tensor) -> Tensor:
    """The pole leaves the upright by more than 0.2 rad."""
    healthy = torch.isfinite(obs).all(-1) & (obs[..., 1].abs() <= 0.2)
    return ~healthy


def hopper(obs: Tensor) -> Tensor:
    """Height at most 0.7 m, torso angle at least 0.2 rad, or a number that has run away.

    The widely copied rule has a misplaced parenthesis, abs(x < 100), which never fires.
    """
    height, angle = obs[..., 0], obs[..., 1]
    bounded = obs[..., 1:].abs().amax(-1) < 100  # false for NaN and infinity
    return ~(bounded & torch.isfinite(height) & (height > 0.7) & (angle.abs() < 0.2))


def walker2d(obs: Tensor) -> Tensor:
    """Height outside (0.8, 2) m or torso angle at least 1 rad."""
    height, angle = obs[..., 0], obs[..., 1]
    return ~((height > 0.8) & (height < 2.0) & (angle.abs() < 1.0))


def ant(obs: Tensor) -> Tensor:
    """Torso height outside [0.2, 1] m, or a number that is not finite."""
    height = obs[..., 0]
    return ~(torch.isfinite(obs).all(-1) & (height >= 0.2) & (height <= 1.0))


def humanoid(obs: Tensor) -> Tensor:
    """Torso height outside (1, 2) m."""
    height = obs[..., 0]
    return ~((height > 1.0) & (height < 2.0))


def try_rule(rule: Rule, reference: str, obs_size: int, device: torch.device) -> None:
    """Raises ConfigError where a rule doesn't take states as they will come."""
    states = torch.zeros(2, 3, obs_size, device=device)
    try:
        rule(states)
    except ConfigError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"--termination {reference}: for states {tuple(states.shape)} it raises {what}"
        ) from error


def load_rule(reference: str) -> Rule:
    """The user's `module:function`. Raises ConfigError where it can't be imported or called."""
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise ConfigError(
            f"--termination {reference}: expected auto, learned, never or module:function"
        )
    try:
        rule = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"--termination {reference}: {error}") from error
    if not callable(rule):
        raise ConfigError(f"--termination {reference}: expected a function, found {rule!r}")

    def checked(obs: Tensor) -> Tensor:
        done = rule(obs)
        if not isinstance(done, Tensor) or done.dtype != torch.bool or done.shape != obs.shape[:-1]:
            found = f"{done.dtype} {tuple(done.shape)}" if isinstance(done, Tensor) else repr(done)
            raise ConfigError(
                f"--termination {reference}: expected a bool tensor {tuple(obs.shape[:-1])} for "
                f"states {tuple(obs.shape)}, found {found}"
            )
        return done

    return checked
