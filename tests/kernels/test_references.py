"""The losses against closed forms: SAC's by hand, the adversary's by its known optimum."""

import math

import pytest
import torch

from rmbpo_fast.kernels import gaussian_kl, gaussian_kl_score, pathwise_loss
from rmbpo_fast.kernels.steps.nominal_step.reference import nominal_loss
from rmbpo_fast.kernels.steps.sac_step import reference as sac

ETA = 0.3
# V(x), optimum mean, optimum variance, -log E_p[exp(-eta V)] for p = N(0, 1)
OPTIMA = {
    "-x": (lambda x: -x, ETA, 1.0, -(ETA**2) / 2),
    "x": (lambda x: x, -ETA, 1.0, -(ETA**2) / 2),
    "x^2": (torch.square, 0.0, 1 / (1 + 2 * ETA), 0.5 * math.log(1 + 2 * ETA)),
}


def _minimise(value, estimator):
    """Adam on the loss of one Gaussian g against p = N(0, 1), with many samples a step."""
    generator = torch.Generator().manual_seed(0)
    mean, logvar = (torch.zeros(1, 1, 1, requires_grad=True) for _ in range(2))
    zero, eta = torch.zeros(1, 20_000, 1), torch.tensor(ETA)
    optimizer = torch.optim.Adam([mean, logvar], lr=0.02)
    averages = []
    for step in range(300):
        eps = torch.randn(zero.shape, generator=generator)
        g = (mean.expand_as(zero), logvar.expand_as(zero))
        x = g[0] + torch.exp(0.5 * g[1]) * eps
        if estimator == "score":
            advantage = (value(x) - value(g[0])).detach()[..., 0]
            loss = gaussian_kl_score(*g, zero, zero, x.detach(), advantage, eta)
        else:
            loss = pathwise_loss(*g, zero, zero, value(x)[..., 0], eta)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= 200:
            averages.append(torch.stack([mean.detach(), logvar.detach()]).flatten())
    return torch.stack(averages).mean(0)


@pytest.mark.parametrize("estimator", ["score", "pathwise"])
@pytest.mark.parametrize("name", OPTIMA)
def test_adversary_reaches_the_known_optimum(name, estimator):
    """g* is proportional to p exp(-eta V); at it KL + eta E_g[V] = -log E_p[exp(-eta V)]."""
    value, mean, variance, free_energy = OPTIMA[name]
    found_mean, found_logvar = _minimise(value, estimator)
    assert found_mean.item() == pytest.approx(mean, abs=0.015)
    assert found_logvar.exp().item() == pytest.approx(variance, abs=0.02)
    x = found_mean + torch.exp(found_logvar / 2) * torch.randn(400_000)
    zero = torch.zeros(1)
    kl = gaussian_kl(found_mean[None], found_logvar[None], zero, zero)
    assert (kl + ETA * value(x).mean()).item() == pytest.approx(free_energy, abs=0.01)


def test_the_baseline_leaves_the_expected_gradient_alone():
    """b = V(mean) changes the score gradient's noise, not its mean, 2 mean = 1 for V = x^2."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.full((1, 400_000, 1), 0.5, requires_grad=True)
    logvar = torch.zeros_like(mean)
    x = (mean + torch.randn(mean.shape, generator=generator)).detach()
    gradients = []
    for baseline in (0.0, 0.25):
        advantage = (x.square() - baseline)[..., 0]
        p = (mean.detach(), logvar)
        loss = gaussian_kl_score(mean, logvar, *p, x, advantage, torch.tensor(1.0))
        gradients.append(torch.autograd.grad(loss, mean)[0] * mean.shape[1])
    for gradient in gradients:
        assert gradient.mean().item() == pytest.approx(1.0, abs=0.02)
    assert gradients[1].var() < gradients[0].var()


def test_eta_keeps_its_meaning_whatever_the_batch_and_dimension():
    """Both terms are sums over dimensions and means over the batch: more rows change nothing."""
    g = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 5, 3, generator=g) for _ in range(5)]
    advantage, eta = torch.randn(2, 5, generator=g), torch.tensor(0.7)
    once = gaussian_kl_score(*tensors, advantage, eta)
    doubled = [torch.cat([t, t], dim=1) for t in (*tensors, advantage)]
    torch.testing.assert_close(gaussian_kl_score(*doubled, eta), once)


@pytest.mark.parametrize("kind", ["score", "pathwise"])
def test_adversary_loss_gradients(kind):
    g = torch.Generator().manual_seed(0)
    mean_g, logvar_g, mean_p, logvar_p, x = (
        torch.randn(2, 3, 4, dtype=torch.float64, generator=g) for _ in range(5)
    )
    weight = torch.randn(2, 3, dtype=torch.float64, generator=g)
    eta = torch.tensor(0.7, dtype=torch.float64)

    def loss(mean, logvar):
        if kind == "score":
            return gaussian_kl_score(mean, logvar, mean_p, logvar_p, x, weight, eta)
        value = torch.sin(mean + torch.exp(logvar / 2) * x).sum(-1)
        return pathwise_loss(mean, logvar, mean_p, logvar_p, value, eta)

    assert torch.autograd.gradcheck(loss, [mean_g.requires_grad_(), logvar_g.requires_grad_()])


def test_bellman_target_stops_at_terminals_only():
    target = sac.bellman_target(
        torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([10.0, 10.0]), 0.99
    )
    torch.testing.assert_close(target, torch.tensor([10.9, 1.0]))


def test_sac_losses_by_hand():
    q = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    # ((1-0)^2 + (2-0)^2) / 4 + ((3-0)^2 + 0) / 4
    assert sac.critic_loss(q, torch.zeros(2)).item() == pytest.approx(3.5)
    value = sac.soft_value(q, torch.tensor([0.5, -0.5]), torch.tensor(2.0))
    torch.testing.assert_close(value, torch.tensor([0.0, 1.0]))
    assert sac.actor_loss(value).item() == -0.5


def test_temperature_rises_when_entropy_is_too_low():
    log_temperature = torch.zeros((), requires_grad=True)
    # entropy is -log_prob = -2, the target -1: one nat too little, so the temperature must rise
    sac.temperature_loss(log_temperature, torch.full((4,), 2.0), -1.0).backward()
    assert log_temperature.grad.item() == -1.0


def test_nominal_loss_pulls_the_bounds_together():
    low, high = (torch.full((3,), v, requires_grad=True) for v in (-10.0, 10.0))
    # a head of zeros is right, with a log-variance that the bounds hardly move
    loss = nominal_loss(torch.zeros(2, 4, 6), torch.zeros(2, 4, 3), low, high, 0.01)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.01 * 3 * 10, abs=1e-5)
    assert (low.grad < 0).all()
    assert (high.grad > 0).all()
