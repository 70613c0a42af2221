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


class _RoundedProduct(torch.autograd.Function):
    """h @ w of numbers rounded to bf16 (`inputs` rounds forward too), and so are its gradients'."""

    @staticmethod
    def forward(ctx, h, w, inputs):
        ctx.save_for_backward(h, w)
        return _round(h) @ _round(w) if inputs else h @ w

    @staticmethod
    def backward(ctx, d):
        h, w = (_round(t) for t in ctx.saved_tensors)
        d = _round(d)
        return d @ w.transpose(-1, -2), h.transpose(-1, -2) @ d, None


class _RoundedBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, bias):
        return z + bias

    @staticmethod
    def backward(ctx, d):
        return d, _round(d).sum(dim=1, keepdim=True)


class _RoundedActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, activation):
        gate = torch.sigmoid(z) if activation == "swish" else (z > 0).double()
        slope = gate + z * gate * (1 - gate)
        ctx.save_for_backward(_round(slope))
        return _round(z * gate)

    @staticmethod
    def backward(ctx, d):
        return d * ctx.saved_tensors[0], None


def _round(x):
    return x.to(torch.bfloat16).to(x.dtype)


def rounded_mlp(x, weights, biases, activation):
    """What the native `ensemble_mlp` computes in bf16, but for its float32 sums.

    Hidden numbers, their gradients and the weights are rounded to bf16; the first layer's product
    and the results are not.
    """
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = _RoundedBias.apply(_RoundedProduct.apply(x, weight, layer > 0), bias)
        if layer < last:
            x = _RoundedActivation.apply(x, activation)
    return x


def off_kinks(x, weights, biases):
    """[E, B, 1]: 1 where no relu's input is so near 0 that rounding decides about its gradient."""
    keep = torch.ones(*x.shape[:2], 1, dtype=torch.float64)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        z = x @ weight + bias
        keep *= (z.abs() > 1e-5).all(-1, keepdim=True)
        x = z.relu()
    return keep


def check_operators(backend):
    """opcheck: schema, fake shapes and strides against the real ones, of CPU tensors.

    torch.compile's tracing with dynamic shapes takes a second, so it is tried once an operator.
    """
    traced = set()

    def check(name, *arguments):
        operator = getattr(torch.ops.rmbpo_fast, f"{backend}_{name}")
        utils = ["test_schema", "test_autograd_registration", "test_faketensor"]
        if name not in traced:
            utils.append("test_aot_dispatch_dynamic")
            traced.add(name)
        torch.library.opcheck(operator, arguments, test_utils=utils)
        return operator(*arguments)

    weights, biases = ([t.float() for t in ts] for ts in make_network(2, (3, 8, 2)))
    x = draw(2, 5, 3).float()
    with using(backend):
        d_out = draw(2, 5, 2).float()
        for precision in ("fp32", "bf16"):
            for save in (False, True):
                forward = (x, weights, biases, None, "swish", precision, save)
                outputs, pre = check("ensemble_mlp_fwd", *forward)
            for need in ((True, False), (False, True)):
                saved = (outputs, pre, "swish", precision)
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
