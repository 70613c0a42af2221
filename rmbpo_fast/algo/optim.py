"""Adam, on whatever backend the operations run."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.kernels import AdamState, minimize_


class Adam(torch.optim.Adam):
    """`torch.optim.Adam` that steps with `kernels.adam_`.

    State and settings are PyTorch's, so a checkpoint moves between backends. PyTorch's own `step`
    would call hooks that take longer than a small update.

    Args:
        params: tensors, or groups of them with their own `weight_decay`.
        lr: step size.
        device: of the parameters; on a GPU the step counters are tensors that a graph can advance.
    """

    def __init__(self, params: Iterable[Any], lr: float, device: torch.device) -> None:
        super().__init__(params, lr=lr, fused=True, capturable=device.type == "cuda")

    def minimize(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`; nothing else gets a gradient."""
        minimize_(loss, self.lists())

    def restart(self) -> None:
        """Zeroes the moments and step counters in place, for a graph that holds their addresses."""
        for state in self.state.values():
            for tensor in state.values():
                tensor.zero_()

    def lists(self) -> AdamState:
        """Parameters, moments and settings as the operations take them; made where missing."""
        params = [param for group in self.param_groups for param in group["params"]]
        for param in params:
            state = self.state[param]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
        states = [self.state[param] for param in params]
        decays = [group["weight_decay"] for group in self.param_groups for _ in group["params"]]
        lr, (beta1, beta2), eps = (self.param_groups[0][name] for name in ("lr", "betas", "eps"))
        first, second, steps = ([s[n] for s in states] for n in ("exp_avg", "exp_avg_sq", "step"))
        return AdamState(params, first, second, steps, decays, lr, beta1, beta2, eps)
