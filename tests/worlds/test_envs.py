"""Do we read EnvPool and Gymnasium correctly?"""

import gymnasium
import numpy as np
import pytest
import torch

from rmbpo_fast.errors import ConfigError, EnvironmentFault
from rmbpo_fast.presets import preset
from rmbpo_fast.seeding import generator_for
from rmbpo_fast.worlds import termination
from rmbpo_fast.worlds.envs import Envs, truncated_normal
from rmbpo_fast.worlds.tasks import find_task
from rmbpo_fast.worlds.vector_env import EnvPoolVector, StepResult

PAPER = ["inverted_pendulum", "hopper", "halfcheetah", "walker2d"]


def _envs(name, num_envs=1, seed=3, noise=None, scale=None):
    config = preset(name).task
    own = config.noise
    noise, scale = noise or own[0], own[1] if scale is None else scale
    return Envs(find_task(name), num_envs, noise, scale, seed, generator_for(seed, "noise"))


def _play(envs, steps, action_seed=0):
    """Random actions: the transitions and the episodes that ended, per step."""
    g = torch.Generator().manual_seed(action_seed)
    played = []
    for _ in range(steps):
        envs.episodes.clear()
        action = 2 * torch.rand(len(envs.obs), envs.action_size, generator=g) - 1
        transition = envs.step(action)
        played.append((transition, {e.env: e for e in envs.episodes}, action))
    return played


@pytest.mark.parametrize("name", [*PAPER, "ant", "humanoid", "Hopper-v4", "InvertedPendulum-v5"])
def test_no_transition_crosses_a_reset(name):
    """EnvPool would return a reset row after each episode; none may be stored."""
    envs = _envs(name, num_envs=3)
    first = envs.obs.clone()
    last, ended = first, set(range(3))
    for transition, episodes, _ in _play(envs, 150):
        for i in range(3):
            if i not in ended:
                assert torch.equal(transition.obs[i], last[i])
        last, ended = transition.next_obs, set(episodes)
        for i in episodes:
            assert not torch.equal(envs.obs[i], last[i])
    assert torch.isfinite(last).all()


@pytest.mark.parametrize("name", [*PAPER, "ant", "humanoid"])
def test_termination_rules_agree_with_real_episodes(name):
    """In each state of some hundred episodes the rule says what the task said."""
    envs, rule = _envs(name, num_envs=8), find_task(name).rule
    endings = 0
    for transition, _, _ in _play(envs, 400):
        ended = rule(transition.next_obs)
        assert torch.equal(ended.float(), transition.terminated)
        endings += int(ended.sum())
    assert (endings > 0) == (name != "halfcheetah")


def test_the_episodes_length_and_return_add_up():
    envs = _envs("inverted_pendulum", num_envs=2)
    lengths = {0: 0, 1: 0}
    seen = 0
    for transition, episodes, _ in _play(envs, 100):
        for i in range(2):
            lengths[i] += 1
            if i in episodes:
                assert episodes[i].length == lengths[i]
                assert episodes[i].episode_return == pytest.approx(lengths[i])  # reward 1 a step
                assert transition.terminated[i] == 1
                lengths[i] = 0
                seen += 1
    assert seen > 10


def test_a_time_limit_is_not_a_terminal():
    envs = _envs("halfcheetah")
    transitions = _play(envs, 1_001)
    ends = [step for step, (_, episodes, _) in enumerate(transitions) if episodes]
    assert ends == [999]
    assert transitions[999][0].terminated.item() == 0
    assert not torch.equal(transitions[1_000][0].obs, transitions[999][0].next_obs)


def test_halfcheetah_starts_close_to_rest():
    """Reset noise 0.005 here, where the task's own is 0.1."""
    assert _envs("halfcheetah", num_envs=20).obs.abs().max() < 0.03


@pytest.mark.parametrize(("name", "size"), [("ant", 27), ("humanoid", 45), ("Ant-v5", 27)])
def test_observations_are_truncated(name, size):
    envs = _envs(name)
    transition, _, _ = _play(envs, 1)[0]
    assert envs.obs_size == transition.next_obs.shape[1] == size


@pytest.mark.parametrize(
    "name", ["Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "InvertedPendulum-v4"]
)
def test_physics_equals_gymnasiums(name):
    """From the same state, with the same actions, step by step."""
    envs = _envs(name, noise="none")
    with pytest.warns(DeprecationWarning, match="out of date"):
        peer = gymnasium.make(name).unwrapped
    peer.reset(seed=0)
    obs = envs.obs[0].double().numpy()
    nq, nv = peer.model.nq, peer.model.nv
    hidden = nq + nv - len(obs)  # the x position isn't observed
    peer.set_state(np.concatenate([np.zeros(hidden), obs[: nq - hidden]]), obs[nq - hidden :])
    compared = 0
    for transition, episodes, action in _play(envs, 10):
        expected, reward, terminated, _, _ = peer.step(envs.to_env_units(action)[0].numpy())
        np.testing.assert_allclose(transition.next_obs[0], expected, atol=2e-3)
        assert transition.reward.item() == pytest.approx(reward, abs=2e-3)
        assert transition.terminated.item() == terminated
        compared += 1
        if episodes:
            break
    assert compared >= 3


def test_actions_are_scaled_to_the_box():
    envs = _envs("inverted_pendulum")
    unit = torch.tensor([[-1.0], [0.0], [0.5], [7.0]])
    assert envs.to_env_units(unit)[:, 0].tolist() == [-3.0, 0.0, 1.5, 3.0]


def test_truncated_normal_stays_in_the_box_and_has_its_law():
    g = torch.Generator().manual_seed(0)
    mean = torch.tensor([0.0, 2.9, -3.0], dtype=torch.float64).expand(50_000, 3)
    low, high = (torch.full((3,), v, dtype=torch.float64) for v in (-3.0, 3.0))
    draws = truncated_normal(mean, 0.2, low, high, g)
    assert draws.min() >= -3
    assert draws.max() <= 3
    assert draws[:, 0].std().item() == pytest.approx(0.2, rel=0.02)
    # half a normal: mean std * sqrt(2 / pi)
    assert (draws[:, 2].mean() + 3).item() == pytest.approx(0.2 * (2 / np.pi) ** 0.5, rel=0.02)


def test_stored_action_is_the_policys_and_noise_moves_the_world():
    noisy, quiet = (_envs("inverted_pendulum", noise=n) for n in ("truncated_normal", "none"))
    assert torch.equal(noisy.obs, quiet.obs)
    action = torch.tensor([[0.3]])
    a, b = noisy.step(action), quiet.step(action)
    assert torch.equal(a.action, action)
    assert torch.equal(b.action, action)
    assert not torch.equal(a.next_obs, b.next_obs)


def test_control_cost_sees_the_clean_action():
    """Hopper's reward is x velocity + 1 - 0.001 * |a|^2; with large noise the cost stays clean."""
    seen = {}
    for scale in (0.0, 0.5):
        envs = _envs("hopper", noise="uniform", scale=scale)
        raw = []
        inner = envs.vector
        original = inner.step

        def spy(actions, original=original, raw=raw):
            result = original(actions)
            raw.append((actions.copy(), result.reward.copy()))
            return result

        inner.step = spy
        transition = envs.step(torch.full((1, 3), 0.4))
        simulated, reward = raw[0]
        seen[scale] = transition.reward.item() - (reward[0] + 0.001 * (simulated**2).sum())
    # what remains is minus the cost of the clean action
    assert seen[0.0] == pytest.approx(-0.001 * 3 * 0.16, abs=1e-6)
    assert seen[0.5] == pytest.approx(-0.001 * 3 * 0.16, abs=1e-6)


@pytest.mark.parametrize("name", ["inverted_pendulum", "hopper", "Pendulum-v1"])
def test_seeds_decide_everything(name):
    runs = [_play(_envs(name, num_envs=2, seed=s), 30) for s in (3, 3, 4)]
    same = [
        torch.equal(a[0].next_obs, b[0].next_obs) for a, b in zip(runs[0], runs[1], strict=True)
    ]
    assert all(same)
    assert not torch.equal(runs[0][0][0].obs, runs[2][0][0].obs)


def test_gymnasium_tasks_run_through_its_vector_api():
    envs = _envs("Pendulum-v1", num_envs=2)
    assert find_task("Pendulum-v1").backend == "gymnasium"
    assert (envs.obs_size, envs.action_size) == (3, 1)
    played = _play(envs, 201)
    ends = [step for step, (_, episodes, _) in enumerate(played) if episodes]
    assert ends == [199]
    assert played[199][0].terminated.tolist() == [0, 0]
    assert torch.equal(played[1][0].obs, played[0][0].next_obs)


class Picky(gymnasium.Env):
    """Takes integers from 0 to 4 and nothing else, and shows which came."""

    observation_space = gymnasium.spaces.Box(0, 4, (1,))
    action_space = gymnasium.spaces.Box(0, 4, (1,), np.int64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert action in self.action_space
        return action.astype(np.float32), 0.0, False, False, {}


def test_noise_stays_in_a_gymnasium_tasks_box_and_integers_are_the_nearest():
    gymnasium.register("Picky-v0", Picky)
    try:
        noise = torch.Generator().manual_seed(0)
        envs = Envs(find_task("Picky-v0"), 1, "uniform", 1.0, 0, noise)
        seen = {int(envs.step(torch.rand(1, 1) * 2 - 1).next_obs) for _ in range(200)}
        envs = Envs(find_task("Picky-v0"), 1, "none", 0.0, 0, noise)
        found = [int(envs.step(torch.tensor([[a]])).next_obs) for a in (-1.0, 0.2, 0.3, 1.0)]
    finally:
        gymnasium.registry.pop("Picky-v0")
    assert seen == {0, 1, 2, 3, 4}
    assert found == [0, 2, 3, 4]


def test_a_fault_of_a_gymnasium_task_says_where():
    gymnasium.register("Picky-v0", Picky)
    try:
        envs = Envs(find_task("Picky-v0"), 1, "none", 0.0, 0, torch.Generator())
        envs.vector.high = np.array([9])  # an action that the task refuses
        envs.high = torch.tensor([9.0])
        with pytest.raises(
            EnvironmentFault, match=r"Picky-v0: step\(\) raised AssertionError"
        ) as e:
            envs.step(torch.ones(1, 1))
    finally:
        gymnasium.registry.pop("Picky-v0")
    assert __file__ in str(e.value)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("hoper", "no such task; nearest: hopper"),
        ("HalfCheeta-v4", "nearest: HalfCheetah-v4"),
        ("CheetahRun-v1", "no such task"),  # EnvPool has it, this program doesn't serve it
        ("CartPole-v1", "expected a flat box of actions, found Discrete"),
        ("Hopper-v2", "Gymnasium can't make it"),
    ],
)
def test_a_task_that_cant_be_served_gets_one_clear_line(env, message):
    with pytest.raises(ConfigError, match=message) as error:
        Envs(find_task(env), 1, "none", 0.0, 0, torch.Generator())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("what", ["obs", "reward"])
def test_a_nan_from_an_environment_is_an_error(what, monkeypatch):
    original = EnvPoolVector.step

    def broken(self, actions):
        result = original(self, actions)._asdict()
        result[what] = np.full_like(result[what], np.nan)
        return StepResult(**result)

    envs = _envs("hopper")
    monkeypatch.setattr(EnvPoolVector, "step", broken)
    with pytest.raises(EnvironmentFault, match="not finite"):
        envs.step(torch.zeros(1, 3))


def test_rules_end_states_that_are_not_finite():
    for name in ("inverted_pendulum", "hopper", "walker2d", "ant", "humanoid"):
        rule = find_task(name).rule
        assert rule(torch.full((2, 11), torch.nan)).all()
    assert not termination.never(torch.full((2, 17), torch.nan)).any()


def test_hoppers_rule_by_hand():
    standing = torch.zeros(11)
    standing[0] = 1.25
    cases = {(0, 0.7): True, (0, 0.71): False, (1, 0.2): True, (1, -0.19): False, (7, 100.0): True}
    for (index, value), ended in cases.items():
        state = standing.clone()
        state[index] = value
        assert bool(termination.hopper(state)) == ended
    runaway = standing.clone()
    runaway[7] = -150.0  # the misplaced parenthesis of the copied rule misses this one
    assert termination.hopper(runaway)


def test_users_rule_is_loaded_and_checked():
    rule = termination.load_rule("torch:isnan")
    with pytest.raises(ConfigError, match=r"expected a bool tensor \(2,\).*found"):
        rule(torch.zeros(2, 3))
    with pytest.raises(ConfigError, match="no_such_module"):
        termination.load_rule("no_such_module:f")
    with pytest.raises(ConfigError, match="has no attribute"):
        termination.load_rule("torch:no_such_function")
    assert termination.load_rule("rmbpo_fast.worlds.termination:hopper")(torch.zeros(2, 11)).all()


def test_known_tasks_clip_velocities():
    low, high = find_task("hopper").obs_bounds(11)
    assert high[:5].isinf().all()
    assert (high[5:] == 10).all()
    assert torch.equal(low, -high)
