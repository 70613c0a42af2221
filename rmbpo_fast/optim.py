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

    def minimize(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`; nothing else gets a gradient."""
        self.apply(torch.autograd.grad(loss, self._parameters()))

    def apply(self, gradients: Sequence[Tensor | None]) -> None:
        """One step with these gradients, in the parameters' order; one without a gradient stays."""
        if active().name == "reference":
            for param, gradient in zip(self._parameters(), gradients, strict=True):
                param.grad = gradient
            self.step()
            return
        # not through `step`: PyTorch wraps it in hooks that take longer than a small update
        decay_of = [group["weight_decay"] for group in self.param_groups for _ in group["params"]]
        rows = []
        for param, gradient, decay in zip(self._parameters(), gradients, decay_of, strict=True):
            if gradient is None:
                continue
            state = self.state[param]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=param.device)
                state["exp_avg"] = torch.zeros_like(param)
                state["exp_avg_sq"] = torch.zeros_like(param)
            moments = (state["exp_avg"], state["exp_avg_sq"], state["step"])
            rows.append((param, gradient, *moments, decay))
        params, grads, exp_avgs, exp_avg_sqs, steps, decays = map(list, zip(*rows, strict=True))
        lr, (beta1, beta2), eps = (self.param_groups[0][name] for name in ("lr", "betas", "eps"))
        with torch.no_grad():
            adam_(params, grads, exp_avgs, exp_avg_sqs, steps, decays, lr, beta1, beta2, eps)

    def _parameters(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]
