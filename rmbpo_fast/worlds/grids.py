"""Which distorted worlds an experiment visits: what a user types, and the paper's own grids."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from rmbpo_fast.errors import ConfigError
from rmbpo_fast.worlds.tasks import task_family

_MOST_WORLDS = 1_000


@dataclass(frozen=True)
class Axis:
    """A distortion and the values that it takes one after the other."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Experiment:
    """One axis is drawn as a curve, two as a heat map, none is a single world.

    Attributes:
        axes: up to two distortions that are varied.
        fixed: distortions that hold throughout.
    """

    axes: tuple[Axis, ...] = ()
    fixed: dict[str, float] = field(default_factory=dict)

    def worlds(self) -> Iterator[dict[str, float]]:
        """The changes of each world, the last axis varying fastest."""
        names = [axis.name for axis in self.axes]
        for values in itertools.product(*(axis.values for axis in self.axes)):
            yield {**dict(zip(names, values, strict=True)), **self.fixed}

    def slug(self) -> str:
        """A folder's name: `torso_mass-vs-friction`, `torso_mass=4.5`."""
        parts = ["-vs-".join(axis.name for axis in self.axes)] if self.axes else []
        parts += [f"{name}={value:g}" for name, value in self.fixed.items()]
        return "-".join(parts).replace(":", ".").replace(",", "+") or "nominal"


def parse_axis(text: str) -> Axis:
    """`torso_mass=4.5`, `pole_mass=5,50,100` or `torso_mass=2.5:6.0:0.5` (both ends included).

    Raises:
        ConfigError: neither of these.
    """
    name, equals, rest = text.partition("=")
    wrong = ConfigError(
        f"{text!r}: expected NAME=VALUE, NAME=VALUE,VALUE,... or NAME=FIRST:LAST:STEP"
    )
    if not (name and equals and rest):
        raise wrong
    try:
        if ":" in rest:
            first, last, step = (float(part) for part in rest.split(":"))
            if not (step > 0 and last >= first and np.isfinite([first, last, step]).all()):
                raise ConfigError(f"{text!r}: expected FIRST <= LAST and a STEP above 0")
            steps = (last - first) / step + 1e-9
            if steps >= _MOST_WORLDS:
                raise ConfigError(f"{text!r}: {steps:.0f} steps; at most {_MOST_WORLDS} values")
            count = int(steps) + 1
            # rounded, so that a step of 0.1 gives 0.3 and not 0.30000000000000004
            return Axis(name, tuple(round(first + i * step, 10) for i in range(count)))
        values = tuple(sorted(float(part) for part in rest.split(",")))
    except ConfigError:
        raise
    except ValueError as error:
        raise wrong from error
    if len(set(values)) < len(values):
        raise ConfigError(f"{text!r}: a value is given twice")
    return Axis(name, values)


def make_experiment(distort: tuple[str, ...], vs: str | None) -> Experiment:
    """From the texts of --distort and --vs. Raises ConfigError where they make no picture."""
    parsed = [parse_axis(text) for text in distort]
    names = [axis.name for axis in parsed] + ([parse_axis(vs).name] if vs else [])
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"given twice: {', '.join(sorted(twice))}")
    axes = [axis for axis in parsed if len(axis.values) > 1]
    fixed = {axis.name: axis.values[0] for axis in parsed if len(axis.values) == 1}
    if len(axes) > 1:
        raise ConfigError("--distort takes one range of values; give the second to --vs")
    if vs is not None:
        if not axes:
            raise ConfigError("--vs needs a --distort with a range of values")
        axes.append(parse_axis(vs))
        if len(axes[1].values) == 1:
            raise ConfigError(f"--vs {vs}: expected a range; a single value goes to --distort")
    worlds = math.prod(len(axis.values) for axis in axes)
    if worlds > _MOST_WORLDS:
        raise ConfigError(f"{worlds} worlds; at most {_MOST_WORLDS} are allowed")
    return Experiment(tuple(axes), fixed)


# The paper's ranges. The friction's steps, but for Hopper's ends, and the noise's are ours.
_NOISE = "action_noise=1,20,40,60,80,100"
_PAPER: dict[str, tuple[str, ...]] = {
    "invertedpendulum": ("pole_mass=5,50,100,125,150,160,170,180,200,220",),
    "hopper": (
        "torso_mass=2.5:6:0.5",
        "friction=-0.5:0.5:0.1",
        "joint_stiffness:leg_joint=0:750:50",
        _NOISE,
    ),
    "walker2d": (
        "torso_mass=1:11:1",
        "friction=-0.9:2.3:0.4",
        "joint_stiffness:foot_joint,foot_left_joint=0:375:25",
        _NOISE,
    ),
    "halfcheetah": (
        "torso_mass=1:18:1",
        "friction=-0.9:2.3:0.4",
        "joint_stiffness:bfoot=0:120:10",
        _NOISE,
    ),
}


def has_paper_grid(env: str) -> bool:
    """Whether the paper has distortions for a task."""
    return task_family(env) in _PAPER


def paper_experiments(env: str) -> list[Experiment]:
    """The paper's curves for a task. Raises ConfigError where it has none."""
    texts = _PAPER.get(task_family(env))
    if texts is None:
        raise ConfigError(f"--grid paper: the paper has no grid for {env}; use --distort")
    return [Experiment((parse_axis(text),)) for text in texts]
