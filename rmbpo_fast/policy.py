"""The trained policy on its own: a callable from observations to actions."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rmbpo_fast.errors import StorageError
from rmbpo_fast.kernels import Layers, ensemble_mlp
from rmbpo_fast.storage import save_tensors_atomically

FORMAT = "rmbpo_fast policy 1"
FILE_NAME = "policy.safetensors"


def epoch_file(run_dir: Path, env_step: int) -> Path:
    """Where the policy of an epoch that ended at this real step is kept."""
    return run_dir / "policies" / f"step-{env_step:09d}.safetensors"


def epoch_files(run_dir: Path) -> list[Path]:
    """The policies of a run's last epochs, oldest first."""
    return sorted(run_dir.glob("policies/step-*.safetensors"))


def save_policy(
    file: Path, layers: Layers, env_id: str, low: Tensor, high: Tensor, dtype: np.dtype
) -> None:
    """Writes a policy file: the network's layers and the action box [A] with its numbers' type."""
    tensors = {"low": low.float(), "high": high.float()}
    for i, (weight, bias) in enumerate(zip(*layers, strict=True)):
        tensors[f"weight_{i}"] = weight.detach().cpu()
        tensors[f"bias_{i}"] = bias.detach().cpu()
    metadata = {"format": FORMAT, "env_id": env_id, "action_dtype": np.dtype(dtype).name}
    save_tensors_atomically(file, tensors, metadata)


class Policy:
    """The deterministic policy tanh(mean(obs)), scaled to the environment's action box:

        policy = Policy.load("runs/hopper/rmbpo/0-20260101-120000")
        action = policy(obs)

    Attributes:
        env_id: the task it was trained on.
        obs_size: S, the leading observations that it looks at.
        low, high: [A] the action box.
        dtype: of the actions: float32, or the integers that the task takes.
    """

    def __init__(
        self, tensors: dict[str, Tensor], env_id: str, action_dtype: str = "float32"
    ) -> None:
        self.env_id = env_id
        integers = np.issubdtype(np.dtype(action_dtype), np.integer)
        self.dtype = np.dtype(action_dtype if integers else np.float32)
        self.low, self.high = tensors["low"], tensors["high"]
        count = sum(name.startswith("weight_") for name in tensors)
        self._weights = [tensors[f"weight_{i}"] for i in range(count)]
        self._biases = [tensors[f"bias_{i}"] for i in range(count)]
        self.obs_size = self._weights[0].shape[1]

    @cached_property
    def digest(self) -> str:
        """sha256 of what the policy does: equal ones have equal digests, their files may differ."""
        content = hashlib.sha256(self.env_id.encode())
        for tensor in (self.low, self.high, *self._weights, *self._biases):
            content.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return content.hexdigest()

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """From a run's folder or a policy.safetensors. Raises StorageError where that fails."""
        file = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
        try:
            with safe_open(file, framework="pt") as source:
                metadata = source.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise StorageError(
                        f"{file}: expected a {FORMAT}, found {metadata.get('format')!r}"
                    )
                tensors = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118
            return cls(tensors, metadata["env_id"], metadata.get("action_dtype", "float32"))
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise StorageError(f"{file}: can't read the policy ({error})") from error

    @torch.no_grad()
    def unit_action(self, obs: Tensor) -> Tensor:
        """[N, S] -> [N, A] in [-1, 1]."""
        out = ensemble_mlp(obs[None], self._weights, self._biases, "relu")[0]
        return torch.tanh(out[:, : self.low.numel()])

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """obs [S] or [N, S] (more than S numbers are cut) -> action [A] or [N, A].

        Where the task takes integers they are the nearest ones.
        """
        flat = torch.as_tensor(np.atleast_2d(obs), dtype=torch.float32)
        if flat.shape[-1] < self.obs_size:
            raise ValueError(f"obs: expected {self.obs_size} numbers, found {flat.shape[-1]}")
        unit = self.unit_action(flat[:, : self.obs_size])
        action = (self.low + 0.5 * (unit + 1.0) * (self.high - self.low)).numpy()
        if self.dtype != np.float32:
            action = np.rint(action).astype(self.dtype)
        return action if np.ndim(obs) > 1 else action[0]
