"""Adam, on whatever backend the operations run."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rmbpo_fast.kernels import adam_
from rmbpo_fast.kernels.backend import active


class Adam(torch.optim.Adam):
    """`torch.optim.Adam`, fused, with a step of our own on a compiled backend.

    State and settings are PyTorch's, so a checkpoint moves between backends.

    Args:
        params: tensors, or groups of them with their own `weight_decay`.
        lr: step size.
        device: of the parameters; on a GPU the step counters are such that a graph advances them.
    """

    def __init__(self, params: Iterable[Any], lr: float, device: torch.device) -> None:
        super().__init__(params, lr=lr, fused=True, capturable=device.type == "cuda")

    def apply(self, params: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """One step of `params` with these gradients; the optimiser's others stay."""
        if active().name != "reference":
            # not through `step`: PyTorch wraps it in hooks that take longer than a small update
            self._update(dict(zip(map(id, params), gradients, strict=True)))
            return
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None
        for param, gradient in zip(params, gradients, strict=True):
            param.grad = gradient
        self.step()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        if active().name == "reference":
            super().step()
            return
        params = [param for group in self.param_groups for param in group["params"]]
        self._update({id(param): param.grad for param in params if param.grad is not None})

    def _update(self, gradients: dict[int, Tensor]) -> None:
        """gradients: by the id of the parameter."""
        rows = []
        for group in self.param_groups:
            for param in group["params"]:
                gradient = gradients.get(id(param))
                if gradient is None:
                    continue
                state = self.state[param]
                if not state:
                    state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
                    state["exp_avg"] = torch.zeros_like(param)
                    state["exp_avg_sq"] = torch.zeros_like(param)
                moments = (state["exp_avg"], state["exp_avg_sq"], state["step"])
                rows.append((param, gradient, *moments, group["weight_decay"]))
        if not rows:
            return
        params, grads, exp_avgs, exp_avg_sqs, steps, decays = map(list, zip(*rows, strict=True))
        lr, (beta1, beta2), eps = (self.param_groups[0][name] for name in ("lr", "betas", "eps"))
        with torch.no_grad():
            adam_(params, grads, exp_avgs, exp_avg_sqs, steps, decays, lr, beta1, beta2, eps)
