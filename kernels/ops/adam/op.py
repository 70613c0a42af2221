"""Public operation `adam_`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...backend import active
from ...checks import require_like, require_shape
from ...library import call, define
from .reference import adam_pytorch_


class AdamState(NamedTuple):
    """What `adam_` takes besides gradients: for a gradient step, which finds them itself."""

    params: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    steps: list[Tensor]
    weight_decays: list[float]
    lr: float
    beta1: float
    beta2: float
    eps: float

    def require(self, name: str, params: Sequence[Tensor]) -> None:
        """Raises ValueError unless this is a state of just these tensors, alike and contiguous."""
        if [p.data_ptr() for p in self.params] != [p.data_ptr() for p in params]:
            raise ValueError(
                f"{name}: expected an optimiser of {[tuple(p.shape) for p in params]}, in this "
                f"order, found one of {[tuple(p.shape) for p in self.params]}"
            )
        for param, *moments in zip(self.params, self.exp_avgs, self.exp_avg_sqs, strict=True):
            for moment in moments:
                if moment.dtype != param.dtype or moment.device != param.device:
                    require_like(name, moment, param.dtype, param.device)
                if moment.shape != param.shape or not moment.is_contiguous():
                    raise ValueError(
                        f"{name}: expected contiguous moments {tuple(param.shape)}, found "
                        f"{tuple(moment.shape)} with strides {moment.stride()}"
                    )
        for step in self.steps:
            if step.dtype != torch.float32 or step.device != params[0].device:
                require_like(name, step, torch.float32, params[0].device)


def minimize_(loss: Tensor, optimizer: AdamState) -> None:
    """One step of Adam down the gradient of `loss` []; nothing else gets a gradient."""
    state = optimizer
    gradients = torch.autograd.grad(loss, state.params)
    adam_(state.params, gradients, *state[1:])


def adam_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    steps: Sequence[Tensor],
    weight_decays: Sequence[float],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """One step of Adam on several tensors, in place.

    Source: Adam (arXiv 1412.6980), with L2 as `torch.optim.Adam` has it: decay * p joins the
    gradient.

    Args:
        params, grads, exp_avgs, exp_avg_sqs: tensors, alike at each position; grads are read only.
        steps: [] each, steps so far; incremented.
        weight_decays: the L2 factor of each tensor.
        lr, beta1, beta2, eps: step size, decay rates, floor of the denominator.
    Gradients: none.   Backends: reference, native, triton.
    Raises:
        ValueError: lengths, shapes, dtypes or devices differ; nothing is written then.
    """
    groups = {"grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}
    for name, group in {**groups, "steps": steps, "weight_decays": weight_decays}.items():
        if len(group) != len(params):
            raise ValueError(f"{name}: expected {len(params)} as params has, found {len(group)}")
    for i, param in enumerate(params):
        for name, tensors in groups.items():
            found = tensors[i]  # the names are made only where something is wrong: 48 of them
            if found.shape != param.shape:
                require_shape(f"{name}[{i}]", found, tuple(param.shape))
            if found.dtype != param.dtype or found.device != param.device:
                require_like(f"{name}[{i}]", found, param.dtype, param.device)
        step = steps[i]
        if step.dim() or step.device != param.device:
            require_shape(f"steps[{i}]", step, ())
            require_like(f"steps[{i}]", step, step.dtype, param.device)
    lists = (list(params), list(grads), list(exp_avgs), list(exp_avg_sqs), list(steps))
    numbers = (list(weight_decays), lr, beta1, beta2, eps)
    backend = active().name
    if backend == "reference":
        if params:
            adam_pytorch_(*lists, *numbers)
        return
    for i, param in enumerate(params):
        if param.dtype != torch.float32:
            require_like(f"params[{i}]", param, torch.float32, param.device)
        require_like(f"steps[{i}]", steps[i], torch.float32, param.device)
        moments = (("exp_avgs", exp_avgs[i]), ("exp_avg_sqs", exp_avg_sqs[i]))
        for name, tensor in (("params", param), *moments):
            if not tensor.is_contiguous():
                raise ValueError(f"{name}[{i}]: expected a contiguous tensor")
    call(backend, "adam_", *lists, *numbers)


define(
    "adam_",
    "(Tensor(a!)[] params, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, "
    "Tensor(d!)[] steps, float[] weight_decays, float lr, float beta1, float beta2, float eps) "
    "-> ()",
    lambda *_: None,
)
