"""A termination rule learned from real data, for tasks whose rule is not known (ours)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rmbpo_fast.algo.nets import EnsembleMLP
from rmbpo_fast.algo.optim import Adam
from rmbpo_fast.algo.replay import ReplayBuffer


class LearnedTermination(torch.nn.Module):
    """A classifier of final states: two hidden layers of 64 on normalised next_obs.

    Binary cross-entropy on the real `terminated` flags. It says "ends" above probability one
    half, so a task that has never ended yet never ends in imagination either.
    """

    fit_steps = 300
    batch_size = 256

    mean: Tensor
    std: Tensor

    def __init__(self, obs_size: int, device: torch.device, generator: torch.Generator) -> None:
        super().__init__()
        self.net = EnsembleMLP(1, (obs_size, 64, 64, 1), "relu", generator, device)
        self.register_buffer("mean", torch.zeros(obs_size, device=device))
        self.register_buffer("std", torch.ones(obs_size, device=device))
        self.optimizer = Adam(self.net.parameters(), 1e-3, device)

    def logits(self, obs: Tensor) -> Tensor:
        flat = ((obs - self.mean) / self.std).reshape(1, -1, obs.shape[-1])
        return self.net(flat).reshape(obs.shape[:-1])

    @torch.no_grad()
    def forward(self, obs: Tensor) -> Tensor:
        return (self.logits(obs) > 0) | ~torch.isfinite(obs).all(-1)

    def fit(self, real: ReplayBuffer, generator: torch.Generator) -> dict[str, Tensor]:
        """Some Adam steps on all real data; the loss is `termination/bce_nats`."""
        data = real.all()
        self.mean.copy_(data.next_obs.mean(0))
        std = data.next_obs.std(0, correction=0)
        self.std.copy_(torch.where(std < 1e-5, 1.0, std))
        loss = torch.zeros(())
        for _ in range(self.fit_steps):
            batch = real.sample(self.batch_size, generator)
            loss = F.binary_cross_entropy_with_logits(self.logits(batch.next_obs), batch.terminated)
            self.optimizer.minimize(loss)
        return {"termination/bce_nats": loss.detach()}
