"""What --compile captures never asks the host: shown on the meta device, which has no numbers."""

import sys
from types import SimpleNamespace

import pytest
import torch

from no_host import NoHost
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.kernels.steps.nominal_step import reference as nominal_reference
from rmbpo_fast.kernels.steps.sac_step import reference as sac_reference
from rmbpo_fast.run import agent as agents
from rmbpo_fast.run import loop
from rmbpo_fast.run.accelerate import find_touched
from rmbpo_fast.run.agent import build
from rmbpo_fast.worlds.tasks import find_task

PENDULUM = find_task("inverted_pendulum")


@pytest.fixture(params=[False, True], ids=["", "options of ours"])
def without_numbers(small, monkeypatch, request):
    """A run's parts on the meta device: shapes and no numbers, so nobody can ask for one.

    FakeTensorMode on a CUDA device would be closer, but on a PyTorch without CUDA its autograd
    needs a device guard that isn't there.
    """
    original = agents.generator_for  # a generator needs a device with numbers
    monkeypatch.setattr(agents, "generator_for", lambda *purpose, device="cpu": original(*purpose))
    monkeypatch.setattr(agents, "Envs", lambda *_: SimpleNamespace(obs_size=4, action_size=1))
    devices = ["cpu", "meta"]
    name = "_get_fused_kernels_supported_devices"
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], name, lambda: devices)
    config = small.replace(explore="nominal", rollout_rows=400, start_spread=(0.5, 0, 0.5, 0))
    if request.param:
        config = config.replace(correlated_noise=True, entropy_rows=50)
    with using("triton"):
        agent = build(config, PENDULUM, torch.device("meta"))
        agent.world_model.table = tuple(torch.empty(100, n, device="meta") for n in (5, 5))
        yield agent


def _captured_functions(agent):
    steps = loop.make_steps(agent)
    rows = torch.zeros(3, 3, 8, dtype=torch.int64, device="meta")
    obs = torch.zeros(2, 4, device="meta")
    return {
        "act": lambda: steps.act(obs),
        "act_deterministic": lambda: steps.act_deterministic(obs),
        "store": lambda: steps.store(torch.zeros(2, agent.real.width, device="meta")),
        "imagine": lambda: steps.imagine(3, True, agent.config.rollout.rollout_rows),
        "update": lambda: steps.update(2),
        "world_model": lambda: steps.fit_model(rows),
        "adversary": lambda: steps.fit_adversary(rows),
    }


CAPTURED = [
    "act", "act_deterministic", "store", "imagine", "update", "world_model", "adversary"
]  # fmt: skip


@pytest.mark.parametrize("name", CAPTURED)
def test_what_is_captured_never_asks_the_host(without_numbers, name):
    agent = without_numbers
    function = _captured_functions(agent)[name]
    function()  # optimiser states are made in the warm-up
    touched = find_touched(agent)
    places = {id(t) for t in touched()}
    with NoHost():
        function()
    assert {id(t) for t in touched()} == places, "a tensor was replaced"
    assert all(t.device.type == "meta" for t in touched())


@pytest.mark.parametrize("plant", ["item", "cpu", "bool", "nonzero"])
def test_a_planted_round_trip_is_caught(without_numbers, plant, monkeypatch):
    agent = without_numbers
    planted = {
        "item": lambda t: t.sum().item(),
        "cpu": lambda t: t.cpu(),
        "bool": lambda t: bool(t.sum() > 0),
        "nonzero": lambda t: t.nonzero(),
    }[plant]

    def plant_in(owner, name):
        original = getattr(owner, name)
        spoilt = lambda x, *more: (planted(x), original(x, *more))[1]  # noqa: E731
        monkeypatch.setattr(owner, name, spoilt)

    plant_in(agent.learner, "sample")  # of rollouts and of the adversary's values
    plant_in(sac_reference, "squashed_gaussian")
    plant_in(nominal_reference, "gaussian_nll")
    functions = _captured_functions(agent)
    for name in ("imagine", "update", "world_model", "adversary"):
        with NoHost(), pytest.raises(Exception, match=r"waits|copy|data-dependent|Data|dependent"):
            functions[name]()
