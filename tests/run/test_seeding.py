import torch

from rmbpo_fast.seeding import generator_for, seed_for


def _draw(*purpose):
    return torch.rand(4, generator=generator_for(*purpose)).tolist()


def test_streams_repeat_by_seed_and_purpose_and_share_nothing():
    assert _draw(0, "sac") == _draw(0, "sac")
    assert (
        len({tuple(_draw(*p)) for p in ((0, "sac"), (1, "sac"), (0, "act"), (0, "eval", 50))}) == 4
    )
    assert 0 <= seed_for(0, "x") < 2**63
