"""What environments do after a stop: the streams go on, and nothing is played twice."""

import gymnasium
import numpy as np
import pytest
import torch

from rmbpo_fast.presets import preset
from rmbpo_fast.seeding import generator_for
from rmbpo_fast.worlds.envs import BEGINS, TRUNCATED, Envs
from rmbpo_fast.worlds.tasks import find_task
from toy import Point


class Gust(Point):
    """Episodes of lengths that are drawn."""

    def reset(self, *, seed=None, options=None):
        found = super().reset(seed=seed)
        self.left = self.np_random.integers(3, 9)
        return found

    def step(self, action):
        obs, reward, *_ = super().step(action)
        self.left -= 1
        return obs, reward, False, self.left == 0, {}


@pytest.fixture(autouse=True)
def _gust():
    gymnasium.register("Gust-v0", Gust)
    yield
    gymnasium.registry.pop("Gust-v0")


def make(name, num_envs):
    noise = preset(name).task.noise
    return Envs(find_task(name), num_envs, *noise, 3, generator_for(3, "noise"))


def play(envs, steps):
    """The observations after each step of one action, and the places of the rows."""
    seen = []
    for _ in range(steps):
        action = torch.full((len(envs.obs), envs.action_size), 0.1)
        seen.append((envs.step(action).next_obs, envs.places.copy()))
    return seen


@pytest.mark.parametrize("name", ["Gust-v0", "Pendulum-v1"])
def test_gymnasiums_streams_go_on_where_an_episode_begins(name):
    """Also the wind's: what follows is what would have followed, bit for bit."""
    going = make(name, 1)
    while not play(going, 1)[0][1] & TRUNCATED:
        pass
    fresh = make(name, 1)
    fresh.load_state_dict(going.state_dict())
    assert torch.equal(fresh.obs, going.obs)
    for (one, _), (other, _) in zip(play(fresh, 30), play(going, 30), strict=True):
        assert torch.equal(one, other)


def test_beside_an_episode_in_progress_the_others_still_go_on():
    going, starts = make("Gust-v0", 2), []
    while True:
        starts.append(going.obs.clone())
        _, places = play(going, 1)[0]
        if places[0] & TRUNCATED and not places[1] & TRUNCATED:
            break
    fresh = make("Gust-v0", 2)
    fresh.load_state_dict(going.state_dict())
    assert torch.equal(fresh.obs[0], going.obs[0])
    assert not any(torch.equal(fresh.obs[1], start[1]) for start in starts)
    (one, places), (other, _) = play(fresh, 1)[0], play(going, 1)[0]
    assert torch.equal(one[0], other[0])
    assert places.tolist() == [BEGINS, BEGINS]


@pytest.mark.parametrize("name", ["inverted_pendulum", "hopper"])
def test_envpools_next_episode_is_the_one_that_would_have_followed(name):
    going = make(name, 1)
    while not going.episodes:
        play(going, 1)
    fresh = make(name, 1)
    fresh.load_state_dict(going.state_dict())
    assert torch.equal(fresh.obs, going.obs)


@pytest.mark.parametrize("name", ["inverted_pendulum", "Gust-v0"])
def test_an_episode_in_progress_is_lost_and_none_is_played_again(name):
    going = make(name, 2)
    starts = [going.obs.clone()]
    for _ in range(40):
        play(going, 1)
        starts.append(going.obs.clone())
    while going.state_dict()["in_progress"].logical_not().any():
        play(going, 1)
    for _ in range(2):  # and a second stop doesn't begin where the first one did
        fresh = make(name, 2)
        fresh.load_state_dict(going.state_dict())
        seen = torch.cat(starts)
        assert not (seen[None] == fresh.obs[:, None]).all(-1).any()
        starts.append(fresh.obs.clone())
        play(fresh, 1)
        going = fresh


class Own(Point):
    """Draws from a generator of its own, which nobody can save."""

    def __init__(self, kind):
        self.kind = kind

    def reset(self, *, seed=None, options=None):
        if self.kind == "both":
            super().reset(seed=seed)
        if self.kind == "legacy" and seed is not None:
            self.np_random = np.random.RandomState(seed)
        if seed is not None:
            self.own = np.random.default_rng(seed)
        self.state = self.own.uniform(-0.1, 0.1, 2)
        return self.state.copy(), {}

    def step(self, action):
        self.state = self.state + self.own.normal(0, 0.02, 2)
        return self.state.copy(), 0.0, False, False, {}


@pytest.mark.parametrize("kind", ["alone", "both", "legacy"])
def test_a_generator_of_the_tasks_own_draws_nothing_again(kind):
    """Beside Gymnasium's, too."""
    gymnasium.register("Own-v0", Own, max_episode_steps=5, kwargs={"kind": kind})
    try:
        going = make("Own-v0", 1)
        starts = [going.obs.clone()]
        for _ in range(3):
            play(going, 5)
            starts.append(going.obs.clone())
            fresh = make("Own-v0", 1)
            fresh.load_state_dict(going.state_dict())
            assert not any(torch.equal(fresh.obs, start) for start in starts)
            starts.append(fresh.obs.clone())
            going = fresh
    finally:
        gymnasium.registry.pop("Own-v0")


def test_rows_say_where_episodes_begin_and_are_cut():
    envs = make("Gust-v0", 1)
    places = [int(place[0]) for _, place in play(envs, 40)]
    lengths = [episode.length for episode in envs.episodes]
    expected = [place for n in lengths for place in (BEGINS, *[0] * (n - 2), TRUNCATED)]
    assert places[: sum(lengths)] == expected


def test_anew_nothing_is_drawn_again():
    for name in ("inverted_pendulum", "Gust-v0"):
        envs = make(name, 1)
        before = envs.obs.clone()
        envs.begin_anew(99)
        assert not torch.equal(envs.obs, before)
