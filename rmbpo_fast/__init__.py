"""RMBPO: sample-efficient reinforcement learning whose policy keeps working when the world changes.

Data goes one way through the files: envs -> replay -> world_model -> adversary -> rollout -> sac.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmbpo_fast.config import Config as Config
    from rmbpo_fast.evaluate import evaluate as evaluate
    from rmbpo_fast.policy import Policy as Policy
    from rmbpo_fast.presets import preset as preset
    from rmbpo_fast.train import train as train

# Read when PyTorch is loaded: its idle threads would go on spinning for a millisecond, on cores
# that the native library's threads, or another run, could use.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

__version__ = "0.2.0"

_here = Path(__file__).resolve().parent
if not (_here / "kernels").is_dir():
    # A source checkout keeps kernels/ beside this folder; an installed package holds it inside.
    __path__.append(str(_here.parent))

if find_spec("_rmbpo_fast_native") is not None:
    import _rmbpo_fast_native

    # `python -m` in a checkout imports the source tree, but the library that was installed.
    if _rmbpo_fast_native.__version__ != __version__:
        raise ImportError(
            f"the native library is version {_rmbpo_fast_native.__version__}, the Python source "
            f"{__version__}: run `pip install .` again in the checkout"
        )

# What a program needs, loaded when it is asked for: PyTorch and EnvPool take seconds.
_API = {
    "Config": "config",
    "Policy": "policy",
    "evaluate": None,
    "preset": "presets",
    "train": None,
}


def __getattr__(name: str) -> Any:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _API[name]
    if module is None:  # a command's module, which can be called
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{module}"), name)
