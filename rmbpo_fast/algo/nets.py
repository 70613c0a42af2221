"""Parameters and forward passes: the ensemble, the actor, the twin critics."""

import itertools
import math

import torch
from torch import Tensor, nn

from rmbpo_fast.kernels import Layers, ensemble_mlp


class EnsembleMLP(nn.Module):
    """E fully connected networks with stacked parameters.

    Args:
        members: E.
        sizes: inputs, hidden widths, outputs.
        activation: "swish" or "relu".
        generator: draws the first weights (on the CPU, so every device starts the same).
        init: "truncated_normal", std 1 / (2 sqrt(fan_in)) cut at two stds, as MBPO's models have;
            "glorot", uniform, as its policies and critics have. Biases start at zero.
    """

    def __init__(
        self,
        members: int,
        sizes: tuple[int, ...],
        activation: str,
        generator: torch.Generator,
        device: torch.device,
        init: str = "truncated_normal",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in itertools.pairwise(sizes):
            weight = torch.empty(members, fan_in, fan_out)
            if init == "truncated_normal":
                std = 1 / (2 * math.sqrt(fan_in))
                nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator=generator)
            else:
                bound = math.sqrt(6 / (fan_in + fan_out))
                nn.init.uniform_(weight, -bound, bound, generator=generator)
            self.weights.append(nn.Parameter(weight.to(device)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out, device=device)))
        # a ParameterList looks each one up by name, which takes as long as a small kernel
        self._layers: tuple[list[Tensor], list[Tensor]] = (list(self.weights), list(self.biases))

    @property
    def layers(self) -> Layers:
        """The parameters themselves."""
        return Layers(*self._layers)

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """[E, B, inputs] -> [E, B, outputs]; members: [E] which networks, all if absent."""
        return ensemble_mlp(x, *self._layers, self.activation, members)


class Actor(nn.Module):
    """obs [B, S] -> mean and log-std [B, A] of the Gaussian before the tanh."""

    log_std_min = -20.0
    log_std_max = 2.0

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        sizes = (obs_size, *hidden, 2 * action_size)
        self.net = EnsembleMLP(1, sizes, "relu", generator, device, init="glorot")

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.head(obs).chunk(2, dim=-1)
        return mean, log_std.clamp(self.log_std_min, self.log_std_max)

    def head(self, obs: Tensor) -> Tensor:
        """The network's output [B, 2 A]: mean, then log-std before its clamp."""
        return self.net(obs[None])[0]


class TwinCritic(nn.Module):
    """(obs [B, S], action [B, A]) -> Q values [2, B]."""

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        super().__init__()
        sizes = (obs_size + action_size, *hidden, 1)
        self.net = EnsembleMLP(2, sizes, "relu", generator, device, init="glorot")

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], dim=-1)
        return self.net(x.expand(2, -1, -1))[..., 0]
