import math

import pytest
import torch
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from rmbpo_fast.kernels import squashed_gaussian

WIDE = (-20.0, 20.0)


def test_equals_the_transformed_distribution():
    g = torch.Generator().manual_seed(0)
    mean, log_std, noise = (torch.randn(63, 3, dtype=torch.float64, generator=g) for _ in range(3))
    action, log_prob = squashed_gaussian(torch.cat([mean, log_std], -1), noise, *WIDE)
    law = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_prob, law.log_prob(action).sum(-1))


def test_density_integrates_to_one():
    edges = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    noise = edges[:, None]
    action, log_prob = squashed_gaussian(noise * 0 + torch.tensor([0.3, -0.5]), noise, *WIDE)
    assert torch.trapezoid(log_prob.exp(), action[:, 0]).item() == pytest.approx(1.0, abs=1e-6)


def test_finite_where_tanh_saturates():
    head = torch.tensor([[40.0, -40.0, 0.0, 0.0]])
    action, log_prob = squashed_gaussian(head, torch.zeros(1, 2), *WIDE)
    assert action.tolist() == [[1.0, -1.0]]
    assert torch.isfinite(log_prob).all()


def test_gradients():
    g = torch.Generator().manual_seed(0)
    head, noise = (torch.randn(4, n, dtype=torch.float64, generator=g) for n in (4, 2))
    assert torch.autograd.gradcheck(
        lambda head: squashed_gaussian(head, noise, *WIDE), [head.requires_grad_()]
    )


def test_the_clamp_stops_gradients():
    head = torch.tensor([[0.0, 0.0, 3.0, -21.0]], requires_grad=True)
    action, log_prob = squashed_gaussian(head, torch.ones(1, 2), -20.0, 2.0)
    assert action[0, 0].item() == pytest.approx(math.tanh(math.exp(2.0)))
    (action.sum() + log_prob.sum()).backward()
    assert head.grad[0, 2:].tolist() == [0.0, 0.0]


def test_bad_arguments_name_expected_and_found():
    with pytest.raises(ValueError, match=r"head: expected shape \(2, 2\), found \(2, 3\)"):
        squashed_gaussian(torch.zeros(2, 3), torch.zeros(2, 1), *WIDE)
    with pytest.raises(ValueError, match=r"noise: expected torch.float64 on cpu, found torch.fl"):
        squashed_gaussian(torch.zeros(2, 2).double(), torch.zeros(2, 1), *WIDE)
