"""What every compiled backend of the operations must show, whichever it is."""

import torch

from rmbpo_fast import kernels
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.testing import assert_near_truth, draw, make_network

CPU = torch.device("cpu")


def compare(backend, function, tensors, precision="fp32", learning=(), device=CPU):
    """function(*tensors) on the reference in float64 and on a compiled backend in float32.

    Args:
        tensors: float64 inputs, or lists of them.
        learning: positions of those whose gradients are compared.
        device: of the compiled backend; the reference runs on the CPU.
    """
    results = []
    for name, dtype, where in (
        ("reference", torch.float64, CPU),
        (backend, torch.float32, device),
    ):

        def move(t, place, dtype=dtype, where=where):
            if isinstance(t, list):
                return [move(s, place) for s in t]
            moved = t.to(where, dtype if t.is_floating_point() else None)
            return moved.clone().requires_grad_(place in learning)

        inputs = [move(t, i) for i, t in enumerate(tensors)]
        with using(name, precision):
            outputs = function(*inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            leaves = []
            for place in learning:
                leaves += inputs[place] if isinstance(inputs[place], list) else [inputs[place]]
            loss = sum((o * draw(*o.shape, seed=9).to(o)).sum() for o in outputs)
            gradients = torch.autograd.grad(loss, leaves) if leaves else ()
        results.append([*outputs, *gradients])
    for i, (truth, found) in enumerate(zip(*results, strict=True)):
        if truth.dtype == torch.bool:
            assert (found.cpu() == truth).all()
        else:
            assert_near_truth(found, truth, precision, f"result {i}")


def check_operators(backend):
    """opcheck: schema, fake shapes and strides against the real ones, of CPU tensors."""

    def check(name, *arguments):
        operator = getattr(torch.ops.rmbpo_fast, f"{backend}_{name}")
        torch.library.opcheck(operator, arguments)
        return operator(*arguments)

    weights, biases = ([t.float() for t in ts] for ts in make_network(2, (3, 8, 2)))
    x = draw(2, 5, 3).float()
    with using(backend):
        for save in (False, True):
            forward = (x, weights, biases, None, "swish", "fp32", save)
            outputs, pre = check("ensemble_mlp_fwd", *forward)
        d_out = draw(2, 5, 2).float()
        for need in ((True, False), (False, True)):
            saved = (outputs, pre, "swish", "fp32")
            check("ensemble_mlp_bwd", d_out, x, weights, *saved, *need)
        head, noise = draw(5, 4).float(), draw(5, 2).float()
        check("squashed_gaussian_fwd", head, noise, -20.0, 2.0)
        check("squashed_gaussian_bwd", noise, noise[:, 0], head, noise, -20.0, 2.0)
        bounds = (torch.zeros(2), torch.ones(2))
        check("gaussian_nll", draw(2, 5, 4).float(), draw(2, 5, 2).float(), *bounds)
        g = [draw(2, 5, 3, seed=i).float() for i in range(5)]
        check("gaussian_kl_score", *g, draw(2, 5).float(), torch.tensor(0.5))
        d = [draw(5, 4, seed=i).float() for i in range(3)]
        check("sample_transition", draw(5, 3).float(), noise, *d, -torch.ones(3), torch.ones(3))
        adam = [[draw(3, seed=i).float().abs()] for i in range(4)]
        check("adam_", *adam, [torch.ones(())], [0.1], 1e-3, 0.9, 0.999, 1e-8)


def check_full_graph(backend, device=CPU):
    """torch.compile(fullgraph=True) of public operations gives the eager gradients."""
    weights, biases = ([t.float().to(device) for t in ts] for ts in make_network(2, (3, 8, 4)))
    for t in (*weights, *biases):
        t.requires_grad_()
    x, noise = draw(2, 5, 3).float().to(device), draw(2, 5, 2).float().to(device)

    def loss(x, noise):
        head = kernels.ensemble_mlp(x, weights, biases, "swish")
        action, log_prob = kernels.squashed_gaussian(head, noise, -20.0, 2.0)
        return action.square().sum() + log_prob.sum()

    torch.compiler.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    with using(backend):
        expected = torch.autograd.grad(loss(x, noise), weights)
        found = torch.autograd.grad(compiled(x, noise), weights)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
