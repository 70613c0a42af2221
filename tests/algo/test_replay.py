import pytest
import torch

from rmbpo_fast.algo.replay import ReplayBuffer, sample_mixed
from rmbpo_fast.worlds.transition import Transition


def _rows(buffer, first, count):
    """Transitions whose reward is their number."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    obs = number[:, None].expand(-1, 2)
    return buffer.pack(Transition(obs, obs[:, :1] / 100, number, obs + 1, number % 2))


def test_pack_and_unpack_are_inverse():
    buffer = ReplayBuffer(2, 1, 8)
    buffer.add_(_rows(buffer, 3, 2))
    data = buffer.all()
    assert data.obs.tolist() == [[3, 3], [4, 4]]
    assert data.reward.tolist() == [3, 4]
    assert data.next_obs.tolist() == [[4, 4], [5, 5]]
    assert data.terminated.tolist() == [1, 0]
    torch.testing.assert_close(data.action[:, 0], torch.tensor([0.03, 0.04]))


def test_ring_keeps_the_newest():
    buffer = ReplayBuffer(2, 1, 5)
    for first in range(0, 12, 3):
        buffer.add_(_rows(buffer, first, 3))
    assert buffer.all().reward.tolist() == [7, 8, 9, 10, 11]


def test_masked_rows_are_dropped_and_order_is_kept():
    buffer = ReplayBuffer(2, 1, 4)
    buffer.add_(_rows(buffer, 0, 4), torch.tensor([True, False, True, False]))
    buffer.add_(_rows(buffer, 4, 4), torch.tensor([False, False, False, False]))
    buffer.add_(_rows(buffer, 8, 3), torch.tensor([True, True, True]))
    assert buffer.all().reward.tolist() == [2, 8, 9, 10]


def test_sampling_is_uniform_over_what_is_stored(generator):
    buffer = ReplayBuffer(2, 1, 100)
    buffer.add_(_rows(buffer, 0, 4))
    counts = torch.bincount(buffer.sample(40_000, generator).reward.long())
    assert counts.shape == (4,)
    assert (counts - 10_000).abs().max() < 500


@pytest.mark.parametrize("stored", [4, 5, 7])
def test_sampling_from_the_newest(generator, stored):
    """Also where fewer are stored, and where the ring has wrapped."""
    buffer = ReplayBuffer(2, 1, 5)
    for first in range(stored):
        buffer.add_(_rows(buffer, first, 1))
    for newest in (3, 9):
        drawn = buffer.unpack(buffer.sample_rows(30_000, generator, newest=newest)).reward.long()
        expected = min(newest, stored, 5)
        counts = torch.bincount(drawn, minlength=stored)[-expected:]
        assert counts.sum() == 30_000
        assert drawn.max() == stored - 1
        assert (counts - 30_000 / expected).abs().max() < 500


def test_resize_keeps_the_newest_in_order():
    buffer = ReplayBuffer(2, 1, 5)
    buffer.add_(_rows(buffer, 0, 5))
    buffer.add_(_rows(buffer, 5, 2))
    buffer.resize_(8)
    assert buffer.all().reward.tolist() == [2, 3, 4, 5, 6]
    buffer.resize_(3)
    assert buffer.all().reward.tolist() == [4, 5, 6]


def test_state_restores_the_ring_exactly(generator):
    buffer, other = ReplayBuffer(2, 1, 5), ReplayBuffer(2, 1, 2)
    buffer.add_(_rows(buffer, 0, 5))
    buffer.add_(_rows(buffer, 5, 2))
    other.load_state_dict(buffer.state_dict())
    for each in (buffer, other):
        each.add_(_rows(each, 7, 1))
    assert torch.equal(other.all().reward, buffer.all().reward)
    state = generator.get_state()
    first = buffer.sample_rows(9, generator)
    assert torch.equal(first, other.sample_rows(9, generator.set_state(state)))


def test_mixed_batch_has_the_real_share(generator):
    real, imagined = ReplayBuffer(2, 1, 10), ReplayBuffer(2, 1, 10)
    real.add_(_rows(real, 100, 10))
    imagined.add_(_rows(imagined, 0, 10))
    batches = sample_mixed(real, imagined, 3, 256, 0.05, generator)
    assert [int((batch.reward >= 100).sum()) for batch in batches] == [12, 12, 12]
    assert [batch.obs.shape for batch in batches] == [(256, 2)] * 3
    first, second, _ = (batch.reward for batch in batches)
    assert not torch.equal(first, second)


def test_bad_arguments_name_expected_and_found():
    with pytest.raises(ValueError, match="expected sizes and capacity of at least 1"):
        ReplayBuffer(2, 1, 0)
    buffer = ReplayBuffer(2, 1, 2)
    with pytest.raises(ValueError, match=r"expected at most 2 rows of 7, found \(3, 7\)"):
        buffer.add_(torch.zeros(3, 7))
