"""Double precision for all tests of the model."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def double_precision():
    """Every test of this folder computes in float64 unless its arrays say otherwise."""
    with jax.enable_x64(True):
        yield
