"""RMBPO: sample-efficient reinforcement learning whose policy keeps working when the world changes.

Data goes one way through the files: envs -> replay -> world_model -> adversary -> rollout -> sac.
"""

import os
from importlib.util import find_spec
from pathlib import Path

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
