"""Tests of what is learned."""

import pytest


@pytest.fixture(scope="module")
def model_fit() -> dict[str, int]:
    """As it is: what these models predict is looked at."""
    return {}
