"""The row of an imagined transition, by hand."""

import math

import pytest
import torch

from rmbpo_fast.kernels import sample_transition

LOW, HIGH = torch.tensor([-10.0, -10.0]), torch.tensor([10.0, 10.0])


def _rows(mean, logvar=(0.0, 0.0, 0.0), noise=(0.0, 0.0, 0.0)):
    """From the state (1, 9) with action 0.5; a number of mean, logvar and noise for each of D."""
    step = (torch.tensor([numbers]) for numbers in (mean, logvar, noise))
    return sample_transition(torch.tensor([[1.0, 9.0]]), torch.tensor([[0.5]]), *step, LOW, HIGH)


def test_hand_worked_case():
    """A std of 2 and noise of -1.5 move the first number by -3; the bounds hold the second."""
    rows, finite = _rows((1.0, 4.0, 7.0), (math.log(4.0), 0.0, 0.0), (-1.5, 0.0, 0.25))
    obs, action, reward, next_obs = [1.0, 9.0], [0.5], [7.25], [-1.0, 10.0]
    torch.testing.assert_close(rows, torch.tensor([[*obs, *action, *reward, *next_obs, 0.0]]))
    assert finite.tolist() == [True]


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("at", range(3))
def test_a_draw_that_is_not_finite_leaves_zeros(wrong, at):
    """Also where the bounds would hide it."""
    mean = [1.0, 2.0, 3.0]
    mean[at] = wrong
    rows, finite = _rows(mean)
    assert rows.tolist() == [[1.0, 9.0, 0.5, 0.0, 0.0, 0.0, 0.0]]
    assert finite.tolist() == [False]


def test_bad_arguments_name_expected_and_found():
    with pytest.raises(ValueError, match=r"mean: expected shape \(1, 3\), found \(1, 2\)"):
        _rows((1.0, 2.0))
