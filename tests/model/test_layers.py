"""What networks are built of."""

from math import sqrt

import jax
import numpy as np
import pytest

from cgloop.model.layers import random_weights


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("shape", [(1,), (7, 13), (4096,), (5, 1025), (128, 96)])
def test_random_weights_are_those_of_jax(shape, x64):
    """To the bit, whatever room they are taken from: a model's start does not depend on it."""
    with jax.enable_x64(x64):
        key = jax.random.key(7)
        found = random_weights(key, shape, 11, 0.4)
        expected = 0.4 * jax.random.normal(key, shape) / sqrt(11)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
