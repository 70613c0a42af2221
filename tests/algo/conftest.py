"""Tests of what is learned."""

import pytest

from rmbpo_fast.algo import world_model


@pytest.fixture(scope="module")
def model_patience() -> int:
    """As it is: what these models predict is looked at."""
    return world_model.PATIENCE_EPOCHS
