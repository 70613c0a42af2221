"""study/average.py: the mean of the weights of a run's last policies."""

import numpy as np
import pytest
import torch

from rmbpo_fast.algo.nets import Actor
from rmbpo_fast.errors import StorageError
from rmbpo_fast.policy import Policy, epoch_file, save_policy
from rmbpo_fast.study.average import average


@pytest.fixture
def actor(generator):
    return Actor(4, 1, (8,), generator, torch.device("cpu"))


def _run(folder, biases, actor):
    """A run whose policies have these biases, and else the actor's weights."""
    for step, bias in enumerate(biases):
        for layer in actor.net.biases:
            layer.data.fill_(bias)
        file = epoch_file(folder, step)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_policy(
            file,
            actor.net.layers,
            "InvertedPendulum-v2",
            torch.tensor([-3.0]),
            torch.tensor([3.0]),
            np.float32,
        )
    return folder


@pytest.mark.parametrize(("last", "bias"), [(2, 0.5), (3, 0.0), (9, 0.0)])
def test_it_is_that_of_the_newest(last, bias, tmp_path, actor):
    run_dir = _run(tmp_path / "run", (-1.0, 0.25, 0.75), actor)
    expected = Policy.load(epoch_file(_run(tmp_path / "one", (bias,), actor), 0))
    found = Policy.load(average(run_dir, last))
    assert found.env_id == "InvertedPendulum-v2"
    obs = np.random.default_rng(0).normal(size=(20, 4))
    np.testing.assert_allclose(found(obs), expected(obs), rtol=1e-5)


def test_a_run_without_policies_is_refused(tmp_path):
    with pytest.raises(StorageError, match="run/policies: expected policies of some epochs"):
        average(tmp_path / "run", 10)
