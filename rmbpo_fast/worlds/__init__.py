"""The real environment, as it is and with its physics changed.

`Distorted` is a Gymnasium wrapper; "rmbpo_fast.worlds:Distorted-v0" is an id that `gymnasium.make`
takes.
"""

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from rmbpo_fast.worlds.distorted import Distorted as Distorted

if "Distorted-v0" not in gymnasium.registry:
    gymnasium.register("Distorted-v0", "rmbpo_fast.worlds.distorted:make")


def __getattr__(name: str) -> Any:
    if name == "Distorted":
        from rmbpo_fast.worlds.distorted import Distorted

        return Distorted
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
