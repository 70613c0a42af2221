import pytest
import torch

from rmbpo_fast.kernels import bound_logvar, gaussian_nll


def test_hand_worked_case():
    """Member 0: err^2 e^0 + 0 = 4 and 0 -> mean 2; member 1: 1 * e^-1 + 1."""
    mean = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    logvar = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    target = torch.tensor([[[2.0, 0.0]], [[1.0, -1.0]]])
    expected = torch.tensor([2.0, 1.0 + 2.718281828459045**-1])
    torch.testing.assert_close(gaussian_nll(mean, logvar, target), expected)


def test_bounds_hold_and_leave_the_middle_alone():
    low, high = torch.full((3,), -10.0), torch.full((3,), 0.5)
    raw = torch.tensor([[-1e4, -5.0, 1e4]])
    out = bound_logvar(raw, low, high)
    # exact but for the softplus tails, 0.004 at 5 nats from a bound
    torch.testing.assert_close(out, torch.tensor([[-10.0, -5.0, 0.5]]), atol=7e-3, rtol=0)
    assert out.min() >= -10.0


def test_gradients():
    g = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, 4, dtype=torch.float64, generator=g) for _ in range(3)]
    assert torch.autograd.gradcheck(gaussian_nll, [t.requires_grad_() for t in tensors])
    bounds = [torch.full((4,), v, dtype=torch.float64, requires_grad=True) for v in (-2.0, 0.5)]
    assert torch.autograd.gradcheck(bound_logvar, [tensors[0], *bounds])


def test_bad_arguments_name_expected_and_found():
    x = torch.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"target: expected shape .* found"):
        gaussian_nll(x, x, x[:1])
    with pytest.raises(ValueError, match=r"max_logvar: expected shape \(4,\), found \(3,\)"):
        bound_logvar(x, torch.zeros(4), torch.zeros(3))
