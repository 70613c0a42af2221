import torch

from rmbpo_fast.algo.learned_termination import LearnedTermination
from rmbpo_fast.algo.replay import ReplayBuffer
from rmbpo_fast.worlds.transition import Transition


def _data(count, generator, limit):
    obs = torch.randn(count, 2, generator=generator) * torch.tensor([1.0, 20.0])
    ended = (obs[:, 0].abs() > limit).float()
    buffer = ReplayBuffer(2, 1, count)
    zero = torch.zeros(count)
    buffer.add_(buffer.pack(Transition(obs, zero[:, None], zero, obs, ended)))
    return buffer


def test_learns_the_rule_from_flags(generator):
    head = LearnedTermination(2, torch.device("cpu"), generator)
    for _ in range(3):
        head.fit(_data(3_000, generator, 1.5), generator)
    test = _data(1_000, generator, 1.5).all()
    agree = head(test.next_obs) == test.terminated.bool()
    assert agree.float().mean() > 0.97
    assert head(test.next_obs[:, None].expand(-1, 4, -1)).shape == (1_000, 4)


def test_a_task_that_never_ended_never_ends(generator):
    head = LearnedTermination(2, torch.device("cpu"), generator)
    data = _data(500, generator, torch.inf)
    head.fit(data, generator)
    assert not head(data.all().next_obs).any()
    assert head(torch.full((1, 2), torch.nan)).all()
