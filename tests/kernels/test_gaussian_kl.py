import pytest
import torch
from torch.distributions import Normal, kl_divergence

from rmbpo_fast.kernels import gaussian_kl, gaussian_log_prob


def _gaussians(shape, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=g) for _ in range(4)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 63, 12), (2, 500, 5)])
def test_kl_equals_the_closed_form(shape):
    mean_g, logvar_g, mean_p, logvar_p = _gaussians(shape)
    g, p = Normal(mean_g, (logvar_g / 2).exp()), Normal(mean_p, (logvar_p / 2).exp())
    torch.testing.assert_close(
        gaussian_kl(mean_g, logvar_g, mean_p, logvar_p), kl_divergence(g, p).sum(-1)
    )


def test_kl_is_zero_only_for_equal_gaussians():
    mean, logvar, *_ = _gaussians((3, 40, 6))
    assert (gaussian_kl(mean, logvar, mean, logvar) == 0).all()
    assert (gaussian_kl(mean + 0.01, logvar, mean, logvar) > 0).all()
    assert (gaussian_kl(mean, logvar - 0.01, mean, logvar) > 0).all()


def test_kl_of_a_tiny_change_keeps_its_digits_in_float32():
    """KL = l^2 / 4 for a small change l of the log-variance; exp(l) - 1 - l gives 0 or noise."""
    zero, change = torch.zeros(1, 1), torch.full((1, 1), 1e-4)
    assert gaussian_kl(zero, change, zero, zero).item() == pytest.approx(2.5e-9, rel=0.05)


def test_shift_in_units_of_the_std():
    """The std is exp(logvar / 2), not exp(logvar): a shift of one std costs half a nat."""
    logvar = torch.tensor([[2.0, -3.0]])
    mean = torch.exp(logvar / 2)
    torch.testing.assert_close(
        gaussian_kl(mean, logvar, torch.zeros_like(mean), logvar), torch.tensor([1.0])
    )


def test_log_prob_equals_the_closed_form():
    mean, logvar, x, _ = _gaussians((2, 9, 5))
    expected = Normal(mean, (logvar / 2).exp()).log_prob(x).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, logvar), expected)


@pytest.mark.parametrize("function", [gaussian_kl, gaussian_log_prob])
def test_gradients(function):
    arguments = [t.requires_grad_() for t in _gaussians((2, 3, 4))]
    assert torch.autograd.gradcheck(function, arguments[: 4 if function is gaussian_kl else 3])


@pytest.mark.parametrize("function", [gaussian_kl, gaussian_log_prob])
def test_bad_arguments_name_expected_and_found(function):
    arguments = _gaussians((2, 3))[: 4 if function is gaussian_kl else 3]
    with pytest.raises(ValueError, match=r"expected shape .*\[2, 3\].*, found .*\[2\]"):
        function(*arguments[:-1], arguments[-1][:, 0])
    with pytest.raises(ValueError, match=r"expected dtype torch.float64 .* found torch.float32"):
        function(*arguments[:-1], arguments[-1].float())
