"""Native: every parameter in one call."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..addresses import address, addresses, native

_PLAIN = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": False}


def adam_step_native(
    optimizer: torch.optim.Adam, parameters: Sequence[Tensor], gradients: Sequence[Tensor]
) -> None:
    """See `adam_step`; the steps are counted in place too."""
    gradient_of = dict(zip(map(id, parameters), gradients, strict=True))
    for group in optimizer.param_groups:
        for name, expected in _PLAIN.items():
            if group[name] != expected:
                raise ValueError(f"{name}: expected {expected}, found {group[name]}")
    numbers: list[int] = []  # per parameter: size and five addresses
    rates: list[float] = []  # per parameter: learning rate and weight decay
    kept = []  # copies of strided gradients, until they were read
    for group in optimizer.param_groups:
        rate = (group["lr"], group["weight_decay"])
        for parameter in group["params"]:
            gradient = gradient_of.get(id(parameter))
            if gradient is None:
                continue
            if parameter.dtype != torch.float32 or not parameter.is_contiguous():
                raise ValueError(
                    f"parameter: expected contiguous torch.float32, found {parameter.dtype} with "
                    f"strides {parameter.stride()}"
                )
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            gradient = gradient.contiguous()
            kept.append(gradient)
            numbers += (
                parameter.numel(),
                address(parameter),
                *addresses((gradient, state["exp_avg"], state["exp_avg_sq"], state["step"])),
            )
            rates += rate
    beta1, beta2 = optimizer.defaults["betas"]
    native.adam(numbers, rates, beta1, beta2, optimizer.defaults["eps"], torch.get_num_threads())
