"""What analyze reports, on networks whose answers are known."""

import csv
import json
import math

import numpy as np
import pytest
import torch

from conftest import flags
from rmbpo_fast import analyze, train
from rmbpo_fast.run.agent import build
from rmbpo_fast.study.analysis import Played, adversary_effect, model_error, play_episodes, q_gap
from rmbpo_fast.worlds.dimensions import dimensions
from rmbpo_fast.worlds.envs import Envs
from rmbpo_fast.worlds.tasks import find_task

GAMMA = 0.99


@pytest.fixture
def agent(small):
    parts = build(small, find_task("inverted_pendulum"), torch.device("cpu"))
    parts.envs.close()
    return parts


@pytest.fixture
def played(generator):
    obs = 0.1 * torch.randn(300, 4, generator=generator)
    return Played(
        obs=obs,
        action=torch.rand(300, 1, generator=generator) * 2 - 1,
        reward=torch.randn(300, generator=generator),
        next_obs=obs + 0.3 * torch.randn(300, 4, generator=generator),
        return_to_go=torch.randn(300, generator=generator),
        returns=np.zeros(1),
    )


@torch.no_grad()
def set_output(net, values):
    """The network answers `values` whatever it is asked."""
    for parameter in net.parameters():
        parameter.zero_()
    net.biases[-1].copy_(torch.as_tensor(values, dtype=torch.float32).expand_as(net.biases[-1]))


def test_names_of_the_four_tasks():
    def names(env):
        task = find_task(env)
        envs = Envs(task, 1, "none", 0.0, 0, torch.Generator())
        found = [str(d) for d in dimensions(task, envs.obs_size)]
        assert len(found) == envs.obs_size + 1
        envs.close()
        return found

    assert names("hopper") == [
        "height (m)",
        "torso angle (rad)",
        "thigh joint angle (rad)",
        "leg joint angle (rad)",
        "foot joint angle (rad)",
        "x velocity (m/s)",
        "vertical velocity (m/s)",
        "torso angular velocity (rad/s)",
        "thigh joint velocity (rad/s)",
        "leg joint velocity (rad/s)",
        "foot joint velocity (rad/s)",
        "reward",
    ]
    assert names("inverted_pendulum") == [
        "cart position (m)",
        "pole angle (rad)",
        "cart velocity (m/s)",
        "pole angular velocity (rad/s)",
        "reward",
    ]
    assert names("walker2d")[5] == "left thigh joint angle (rad)"
    assert names("halfcheetah")[2] == "back thigh joint angle (rad)"
    assert names("ant")[13] == "x velocity (m/s)"
    assert names("humanoid")[-2] == "left elbow joint velocity (rad/s)"
    assert names("Pendulum-v1") == ["observation 0", "observation 1", "observation 2", "reward"]


def test_returns_to_go_of_an_episode_that_ends(small):
    """The pendulum pays 1 a step until it falls, so the sum is a geometric one."""
    found = play_episodes(lambda obs: torch.full((len(obs), 1), 0.1), small.task, 3, 0, GAMMA)
    start = 0
    for length in found.returns.astype(int):
        left = length - np.arange(length)
        expected = (1 - GAMMA**left) / (1 - GAMMA)
        np.testing.assert_allclose(found.return_to_go[start : start + length], expected, rtol=1e-5)
        start += length
    assert start == len(found.obs) == len(found.next_obs)
    first = int(found.returns[0])
    assert first > 2
    assert (found.obs[1:first] == found.next_obs[: first - 1]).all()


def test_returns_that_the_time_limit_cuts_are_left_out(small):
    """A Gymnasium task of 200 steps, which never ends by itself."""
    task = small.replace(env="Pendulum-v1", action_noise="none").task
    found = play_episodes(lambda obs: torch.zeros(len(obs), 1), task, 2, 0, 0.9)
    usable = torch.isfinite(found.return_to_go).view(2, 200)
    needed = math.ceil(math.log(0.01) / math.log(0.9))
    assert (usable == (torch.arange(200) <= 200 - needed)).all()


def test_the_shift_of_a_known_adversary(agent, played):
    shift = torch.tensor([0.0, 0.7, 0.0, 0.0, 0.0])
    set_output(agent.adversary.net, torch.cat([shift, torch.zeros(5)]))
    found = adversary_effect(agent, played, 0, ablate=True)
    np.testing.assert_allclose(found["shift_mean"], shift, atol=1e-5)
    np.testing.assert_allclose(found["shift_p90"], shift, atol=1e-4)
    np.testing.assert_allclose(found["kl_per_dimension"], 0.5 * shift**2, atol=1e-5)
    assert found["kl_nats"] == pytest.approx(0.245, abs=1e-4)
    assert abs(found["value_drop"]) > 1e-4
    # all of the drop is in the one dimension that g touches
    assert found["drop_only"][1] == pytest.approx(found["value_drop"], rel=1e-4)
    np.testing.assert_allclose(found["drop_only"][[0, 2, 3, 4]], 0.0, atol=1e-7)
    assert found["drop_without"][1] == pytest.approx(0.0, abs=1e-7)
    assert found["drop_without"][0] == pytest.approx(found["value_drop"], rel=1e-4)


def test_the_drop_of_a_shifted_reward_is_the_shift(agent, played):
    """The reward enters the target as it is: half a std less reward is half a std less value."""
    set_output(agent.adversary.net, [0.0] * 4 + [-0.5] + [0.0] * 5)
    set_output(agent.world_model.net, [0.0] * 5 + [-2.0] * 5)
    found = adversary_effect(agent, played, 0, ablate=False)
    with torch.no_grad():
        low, high = agent.world_model.min_logvar, agent.world_model.max_logvar
        logvar = high - torch.nn.functional.softplus(high + 2.0)
        logvar = low + torch.nn.functional.softplus(logvar - low)
    assert found["value_drop"] == pytest.approx(0.5 * math.exp(0.5 * logvar[4]), rel=1e-4)


def test_a_log_variance_change_costs_its_kl(agent, played):
    set_output(agent.adversary.net, [0.0] * 5 + [0.0, 0.0, 1.0, 0.0, 0.0])
    found = adversary_effect(agent, played, 0, ablate=False)
    change = 2.0 * math.tanh(0.5)
    assert found["logvar_change"][2] == pytest.approx(change, abs=1e-5)
    assert found["kl_nats"] == pytest.approx(0.5 * (math.exp(change) - change - 1), rel=1e-4)


def test_model_error_of_a_model_that_predicts_no_change(agent, played):
    set_output(agent.world_model.net, [0.0] * 5 + [-2.0] * 5)
    found = model_error(agent, played)
    targets = torch.cat([played.next_obs - played.obs, played.reward[:, None]], dim=-1).numpy()
    rmse = np.sqrt((targets**2).mean(axis=0))
    np.testing.assert_allclose(found["rmse"], rmse, rtol=1e-4)
    np.testing.assert_allclose(found["rmse_share"], rmse / targets.std(axis=0, ddof=1), rtol=1e-4)
    with torch.no_grad():
        _, logvar = agent.world_model.predict(torch.zeros(3, 1, 5))
    np.testing.assert_allclose(found["z_rms"], rmse / np.exp(0.5 * logvar[0, 0]), rtol=1e-4)


def test_q_gap_of_a_critic_that_says_seven(agent, played):
    set_output(agent.learner.critic.net, [[[9.0]], [[7.0]]])  # the lower of the two counts
    played.return_to_go[:100] = torch.nan
    found = q_gap(agent, played)
    truth = float(played.return_to_go[100:].mean())
    assert found["states"] == 200
    assert found["q_mean"] == pytest.approx(7.0)
    assert found["gap"] == pytest.approx(7.0 - truth, rel=1e-4)
    assert found["gap_share"] == pytest.approx((7.0 - truth) / abs(truth), rel=1e-4)


def test_the_command_on_a_trained_run(small_flags, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([*small_flags, *flags(run_dir=run)]) == 0
    capsys.readouterr()
    assert analyze.main([str(run), "--episodes", "3", "--ablate"]) == 0
    printed = capsys.readouterr().out
    assert "pole angular velocity (rad/s)" in printed
    assert "step 200" in printed
    names = {p.name for p in (run / "analysis").iterdir()}
    assert names == {"adversary.pdf", "adversary.png", "analysis.json", "dimensions.csv"}

    def no_nan(name):
        raise AssertionError(f"{name} is not JSON")

    found = json.loads((run / "analysis/analysis.json").read_text(), parse_constant=no_nan)
    assert found["dimensions"][1] == {"name": "pole angle", "unit": "rad"}
    assert found["rmse_share"][4] is None  # the reward is always 1
    with open(run / "analysis/dimensions.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["dimension"] for row in rows][-1] == "reward"
    assert float(rows[1]["shift_mean"]) == pytest.approx(found["shift_mean"][1])
    assert len(rows[0]) == 2 + 7 + 3


def test_numbers_drawn_together_are_not_taken_apart(small_flags, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([*small_flags, *flags(run_dir=run, correlated_noise=True)]) == 0
    assert analyze.main([str(run), "--episodes", "2", "--ablate"]) == 2
    assert "--ablate takes numbers apart" in capsys.readouterr().err
    assert analyze.main([str(run), "--episodes", "2"]) == 0
    found = json.loads((run / "analysis/analysis.json").read_text())
    assert sum(found["kl_per_dimension"]) == pytest.approx(found["kl_nats"], rel=1e-3)


def test_the_command_on_mbpo_and_on_what_is_no_run(small_flags, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main([*small_flags, *flags(run_dir=run, algo="mbpo")]) == 0
    assert analyze.main([str(run), "--episodes", "2"]) == 0
    assert "there is no adversary to show" in capsys.readouterr().out
    assert not (run / "analysis/adversary.png").exists()
    for folder in (run / "checkpoints").iterdir():
        (folder / "state.safetensors").write_bytes(b"cut")
    for arguments, status in (
        ([str(run)], 1),
        ([str(tmp_path / "nothing")], 1),
        ([str(run), "--episodes", "0"], 2),
    ):
        assert analyze.main(arguments) == status
        assert capsys.readouterr().err.count("\n") == 1
