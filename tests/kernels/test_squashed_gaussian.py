import pytest
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from rmbpo_fast.kernels import squashed_gaussian


def test_equals_the_transformed_distribution():
    g = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(63, 3, dtype=torch.float64, generator=g) for _ in range(3))
    action, log_prob = squashed_gaussian(mean, log_std, noise)
    law = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_prob, law.log_prob(action).sum(-1))


def test_density_integrates_to_one():
    edges = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    noise = edges[:, None]
    action, log_prob = squashed_gaussian(
        torch.full_like(noise, 0.3), torch.full_like(noise, -0.5), noise
    )
    assert torch.trapezoid(log_prob.exp(), action[:, 0]).item() == pytest.approx(1.0, abs=1e-6)


def test_finite_where_tanh_saturates():
    mean = torch.tensor([[40.0, -40.0]])
    action, log_prob = squashed_gaussian(mean, torch.zeros_like(mean), torch.zeros_like(mean))
    assert action.tolist() == [[1.0, -1.0]]
    assert torch.isfinite(log_prob).all()


def test_gradients():
    g = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(4, 2, dtype=torch.float64, generator=g) for _ in range(3))
    assert torch.autograd.gradcheck(
        lambda m, s: squashed_gaussian(m, s, noise),
        [mean.requires_grad_(), log_std.requires_grad_()],
    )


def test_bad_arguments_name_expected_and_found():
    with pytest.raises(ValueError, match=r"noise: expected shape .*2, 3.* found .*2, 1"):
        squashed_gaussian(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))
