"""The command on a GPU. What is captured, and that it computes the same, is in test_graph.py."""

import pytest
import torch

from conftest import flags
from rmbpo_fast import train
from rmbpo_fast.run.accelerate import capture
from rmbpo_fast.run.agent import build
from rmbpo_fast.run.graph import WARM_UP_CALLS, CudaGraphs
from rmbpo_fast.worlds.tasks import find_task

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.mark.parametrize("kernels", ["auto", "reference"])
def test_trains_stops_and_goes_on(small_flags, tmp_path, capsys, kernels):
    more = flags(device="cuda", compile=True, kernels=kernels, run_dir=tmp_path / "run")
    assert train.main([*small_flags, *more, "--total-env-steps", "100"]) == 0
    out = capsys.readouterr().out
    assert f"backend {'triton' if kernels == 'auto' else kernels}" in out
    assert "compile: CUDA graphs" in out
    resumed = ["--resume", str(tmp_path / "run"), "--total-env-steps", "200"]
    assert train.main(resumed) == 0
    assert "saved at step 200" in capsys.readouterr().out


def test_a_replay_allocates_nothing(small):
    agent = build(small, find_task(small.task.env), torch.device("cuda"))
    for buffer in agent.buffers():
        buffer.add_(torch.rand(60, buffer.width, device="cuda"))
    steps = capture(agent, CudaGraphs())
    for _ in range(WARM_UP_CALLS + 1):
        steps.update(2)
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    for _ in range(3):
        steps.update(2)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    agent.envs.close()
