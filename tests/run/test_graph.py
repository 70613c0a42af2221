"""Capture and replay: the logic on a CPU stand-in, and on a GPU where there is one."""

from copy import deepcopy
from functools import cache

import pytest
import torch

from rmbpo_fast.algo import adversary_fit
from rmbpo_fast.errors import CaptureError
from rmbpo_fast.kernels import backend as backend_module
from rmbpo_fast.kernels.backend import using
from rmbpo_fast.run import accelerate as accelerate_module
from rmbpo_fast.run import loop
from rmbpo_fast.run.accelerate import accelerate, capture
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.graph import WARM_UP_CALLS, Captured, CudaGraphs
from rmbpo_fast.run.state import load_tree_into, state_tree
from rmbpo_fast.worlds.tasks import find_task
from standin import RecordedGraphs

PENDULUM = find_task("inverted_pendulum")
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


class Walk:
    """A random walk with state, a generator and an input."""

    def __init__(self):
        self.state = torch.zeros(3)
        self.generator = torch.Generator().manual_seed(0)

    def step(self, shift, times):
        for _ in range(times):
            self.state += shift + torch.randn(3, generator=self.generator)
        return {"state": self.state * 2}


def _captured(walk, **options):
    return Captured(
        walk.step, lambda: [walk.state], [walk.generator], RecordedGraphs(), "walk", **options
    )


def test_replays_go_on_where_eager_calls_stopped():
    """Same numbers as without a graph at every call: warm-up and capture compute nothing twice."""
    eager, walk = Walk(), Walk()
    step = _captured(walk)
    for call in range(WARM_UP_CALLS + 4):
        shift = torch.full((3,), float(call))
        expected = eager.step(shift, 2)["state"]
        assert torch.equal(step(shift, 2)["state"], expected)
        assert torch.equal(walk.state, eager.state)
    assert step.captures == 1


def test_each_replay_draws_fresh_noise_and_answers_in_the_same_place():
    walk = Walk()
    step = _captured(walk)
    for _ in range(WARM_UP_CALLS):
        step(torch.zeros(3), 1)
    places, steps = set(), []
    for _ in range(3):
        before = walk.state.clone()
        out = step(torch.zeros(3), 1)["state"]
        steps.append(walk.state - before)
        places.add(out.data_ptr())
    assert len(places) == 1
    assert not torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[1], steps[2])


def test_another_value_or_shape_gets_its_own_graph():
    walk = Walk()
    step = _captured(walk, keep=2)
    for times in (1, 2):
        for _ in range(WARM_UP_CALLS + 1):
            step(torch.zeros(3), times)
    assert step.captures == 2
    step(torch.zeros(3), 1)  # still there
    assert step.captures == 2
    for _ in range(WARM_UP_CALLS + 1):
        step(torch.zeros(1), 1)  # a third one: the least used goes
    assert step.captures == 3
    step(torch.zeros(3), 1)
    assert step.captures == 3
    step(torch.zeros(3), 2)
    assert step.captures == 4


def test_a_moved_tensor_drops_the_graph():
    """A graph would go on writing to where the tensor was."""
    eager, walk = Walk(), Walk()
    step = _captured(walk)
    for call in range(9):
        if call == 5:
            eager.state, walk.state = eager.state + 100, walk.state + 100
        eager.step(torch.ones(3), 1)
        step(torch.ones(3), 1)
        assert torch.equal(walk.state, eager.state)
    assert step.captures == 2


def test_a_state_that_is_renewed_before_each_call_is_never_captured():
    """As an optimiser that begins anew at each call."""
    walk = Walk()
    step = _captured(walk)
    for _ in range(WARM_UP_CALLS + 3):
        walk.state = walk.state.clone()
        step(torch.zeros(3), 1)
    assert step.captures == 0


def test_what_dynamo_refuses_is_named():
    compiled = torch.compile(lambda x: 1 if x.sum() > 0 else 2, fullgraph=True, backend="eager")
    with pytest.raises(CaptureError, match=r"it can't become a CUDA graph \(without"):
        _call(lambda: compiled(torch.ones(3)))


def _call(function, touched=list):
    step = Captured(function, touched, [], RecordedGraphs(), "it")
    for _ in range(WARM_UP_CALLS + 1):
        step()


def test_an_unfit_function_is_refused_with_the_reason():
    x = torch.ones(3)
    with pytest.raises(CaptureError, match="not permitted when stream is capturing"):
        _call(lambda: x * x.sum().item())
    with pytest.raises(CaptureError, match="expected tensors as results, found int"):
        _call(lambda: (x, 3))
    walk = Walk()

    def replaces():
        walk.state = walk.state + 1

    with pytest.raises(CaptureError, match="replaces a tensor that it touches"):
        _call(replaces, lambda: [walk.state])


def _learn(agent, steps):
    """A few rounds of what the loop does, with a longer horizon and more data in between."""
    numbers, rows = [], agent.config.rollout.rollout_rows
    g = torch.Generator().manual_seed(3)
    for turn in range(5):
        agent.real.add_(torch.rand(60, agent.real.width, generator=g).to(agent.real.rows.device))
        if turn == 3:
            for player in agent.players:
                player.imagined.resize_(2 * agent.config.rollout.rollout_rows)
        fit = agent.world_model.fit(agent.real, agent.streams["world_model"], steps.fit_model)
        stream = agent.streams["adversary"]
        adversary = agent.adversary.fit(agent.real, agent.game, stream, steps.fit_adversary)
        numbers += [float(v) for v in (*fit.values(), *adversary.values())]
        obs = torch.rand(2, agent.envs.obs_size, generator=g).to(agent.real.rows.device)
        for act in (steps.act, steps.act_deterministic):
            numbers += act(obs).flatten().tolist()
        steps.store(torch.rand(2, agent.real.width, generator=g).to(obs.device))
        numbers.append(float(agent.real.rows.sum()))
        numbers.append(int(steps.imagine(1 if turn < 3 else 2, True, rows)))
        for _ in range(3):
            numbers += [float(v) for v in steps.update(2).values()]
    return numbers


@pytest.mark.parametrize(
    ("device", "graphs", "backend", "more"),
    [
        ("cpu", RecordedGraphs, "reference", {}),
        ("cpu", RecordedGraphs, "reference", {"termination": "learned"}),
        ("cpu", RecordedGraphs, "reference", {"adversary": "paper"}),
        ("cpu", RecordedGraphs, "reference", {"adversary": "pathwise"}),
        ("cpu", RecordedGraphs, "reference", {"entropy_rows": 50}),
        pytest.param("cuda", CudaGraphs, "reference", {}, marks=NEEDS_GPU),
        pytest.param("cuda", CudaGraphs, "triton", {}, marks=NEEDS_GPU),
        pytest.param("cuda", CudaGraphs, "triton", {"entropy_rows": 50}, marks=NEEDS_GPU),
        pytest.param("cuda", CudaGraphs, "triton", {"adversary": "pathwise"}, marks=NEEDS_GPU),
    ],
)
def test_a_run_under_capture_is_the_eager_run(small, device, graphs, backend, more, monkeypatch):
    """Everything that is captured in training, against the same without graphs, bit for bit.

    The buffers grow on the way.
    """
    config = small.replace(explore="nominal", model_batch_size=8, total_env_steps=400)
    monkeypatch.setattr(adversary_fit, "CHECK_EVERY", 3)
    config = config.replace(**more)
    found = []
    with using(backend):
        for capturing in (False, True):
            agent = build(config, PENDULUM, torch.device(device))
            plain = loop.make_steps(agent)
            steps = capture(agent, graphs()) if capturing else plain
            found.append(_learn(agent, steps))
            agent.envs.close()
    assert found[0] == found[1]
    assert all(function.captures for function in steps), [f.captures for f in steps]


def test_a_restored_agent_drops_its_graphs(small):
    """Loading replaces buffers and optimiser states."""
    agent = build(small, PENDULUM, torch.device("cpu"))
    agent.real.add_(torch.rand(60, agent.real.width))
    agent.players[0].imagined.add_(torch.rand(60, agent.real.width))
    steps = capture(agent, RecordedGraphs())
    for _ in range(WARM_UP_CALLS + 1):
        steps.update(1)
    tree = deepcopy(state_tree(agent))  # it holds the live tensors
    expected = [float(v) for v in loop.update_policies(agent, 1).values()]
    load_tree_into(agent, tree, torch.zeros(0, agent.real.width))
    assert [float(v) for v in steps.update(1).values()] == expected
    for _ in range(WARM_UP_CALLS):
        steps.update(1)
    assert steps.update.captures == 2
    agent.envs.close()


def _replace_rows(agent):
    agent.real.rows = agent.real.rows.clone()


def _replace_cursor(agent):
    agent.real.cursor = agent.real.cursor.clone()


def _replace_moments(agent):
    for state in agent.learner.optimizers["critic"].state.values():
        state["exp_avg"] = state["exp_avg"].clone()


def _replace_table(agent):
    agent.world_model.table = tuple(column.clone() for column in agent.world_model.table)


@pytest.mark.parametrize(
    "replace", [_replace_rows, _replace_cursor, _replace_moments, _replace_table]
)
def test_whatever_is_replaced_is_noticed(small, replace):
    agent = build(small, PENDULUM, torch.device("cpu"))
    for buffer in agent.buffers():
        buffer.add_(torch.rand(60, buffer.width))
    agent.world_model.table = tuple(torch.rand(60, n) for n in (5, 5))
    steps = capture(agent, RecordedGraphs())
    calls = [lambda: steps.update(1)]
    if replace in (_replace_rows, _replace_cursor):
        calls.append(lambda: steps.store(torch.rand(2, agent.real.width)))
    for _ in range(WARM_UP_CALLS + 1):
        for call in calls:
            call()
    assert steps.update.captures == 1
    replace(agent)
    for _ in range(2):
        for call in calls:
            call()
    assert steps.update.captures == 2
    assert steps.store.captures in (0, 2)
    agent.envs.close()


def test_a_gpu_gets_compiled_losses_and_graphs(small, monkeypatch):
    """No GPU here, so its branch is taken by hand, with a compiler that any machine has."""
    compiled = []

    def compiler(function):
        compiled.append(function.__qualname__)
        return torch.compile(function, fullgraph=True, backend="aot_eager")

    monkeypatch.setattr(accelerate_module, "CudaGraphs", RecordedGraphs)
    monkeypatch.setattr(backend_module, "_compiled", cache(compiler))
    agent = build(small, PENDULUM, torch.device("cpu"))
    steps, line = accelerate(agent, torch.device("cuda"))
    assert all(isinstance(function, Captured) for function in steps)
    assert line.startswith("compile: CUDA graphs")
    for buffer in agent.buffers():
        buffer.add_(torch.rand(60, buffer.width))
    with using("reference", fuse=True):
        assert torch.isfinite(steps.update(1)["sac/critic_loss"])
        steps.fit_adversary(torch.zeros(1, 3, 8, dtype=torch.int64))
    names = ["critic_objective", "actor_objective", "adversary_draw_reference", "advantage"]
    assert compiled == names
    agent.envs.close()


def test_no_gpu_nothing_captured(small):
    agent = build(small, PENDULUM, torch.device("cpu"))
    steps, line = accelerate(agent, torch.device("cpu"))
    assert not isinstance(steps.update, Captured)
    assert line.startswith("compile: reference kernels in fp32")
    agent.envs.close()
