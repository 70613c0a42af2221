import pytest
import torch

from rmbpo_fast.kernels import bound_logvar, gaussian_nll


def test_hand_worked_case():
    """Member 0: err^2 e^0 + 0 = 4 and 0 -> mean 2; member 1: 1 * e^-1 + 1."""
    mean = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    logvar = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    target = torch.tensor([[[2.0, 0.0]], [[1.0, -1.0]]])
    expected = torch.tensor([2.0, 1.0 + 2.718281828459045**-1])
    bounds = (torch.full((2,), v) for v in (-50.0, 50.0))  # too far away to be felt
    found = gaussian_nll(torch.cat([mean, logvar], -1), target, *bounds)
    torch.testing.assert_close(found, expected)


def test_bounds_hold_and_leave_the_middle_alone():
    low, high = torch.full((3,), -10.0), torch.full((3,), 0.5)
    raw = torch.tensor([[-1e4, -5.0, 1e4]])
    out = bound_logvar(raw, low, high)
    # exact but for the softplus tails, 0.004 at 5 nats from a bound
    torch.testing.assert_close(out, torch.tensor([[-10.0, -5.0, 0.5]]), atol=7e-3, rtol=0)
    assert out.min() >= -10.0


def test_gradients():
    g = torch.Generator().manual_seed(0)
    head, target = (torch.randn(2, 3, n, dtype=torch.float64, generator=g) for n in (8, 4))
    bounds = [torch.full((4,), v, dtype=torch.float64, requires_grad=True) for v in (-2.0, 0.5)]
    head.requires_grad_()
    assert torch.autograd.gradcheck(gaussian_nll, [head, target, *bounds])
    raw = head.detach()[..., 4:].requires_grad_()
    assert torch.autograd.gradcheck(bound_logvar, [raw, *bounds])


def test_bad_arguments_name_expected_and_found():
    x = torch.zeros(2, 3, 4)
    bounds = (torch.zeros(4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"head: expected shape \(2, 3, 8\), found \(2, 3, 4\)"):
        gaussian_nll(x, x, *bounds)
    with pytest.raises(ValueError, match=r"target: expected torch.float32 .* found torch.float64"):
        gaussian_nll(torch.zeros(2, 3, 8), x.double(), *bounds)
    with pytest.raises(ValueError, match=r"max_logvar: expected shape \(4,\), found \(3,\)"):
        bound_logvar(x, torch.zeros(4), torch.zeros(3))
