"""Spherical harmonics and Clebsch–Gordan coefficients against e3nn-jax."""

import importlib

import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.model.tensor import Irrep, clebsch_gordan, couple, parse_irreps, spherical_harmonics

PRODUCTS = [
    (l1, l2, l3) for l1 in range(4) for l2 in range(4) for l3 in range(abs(l1 - l2), min(3, l1 + l2) + 1)
]  # fmt: skip


@pytest.fixture(scope="module")
def e3nn_jax():
    """Imported by the process alone that runs these tests: it takes seconds."""
    return importlib.import_module("e3nn_jax")


def unit_vectors(n: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("degree", range(4))
def test_spherical_harmonics(e3nn_jax, degree):
    vectors = unit_vectors(20)
    reference = e3nn_jax.spherical_harmonics(
        [degree], e3nn_jax.IrrepsArray("1o", jnp.asarray(vectors)), normalize=True, normalization="component"
    ).array
    ours = np.stack(spherical_harmonics(jnp.asarray(vectors), 3)[degree], axis=-1)
    np.testing.assert_allclose(ours, reference, atol=1e-12)
    np.testing.assert_allclose(np.sum(ours**2, axis=-1), 2 * degree + 1, rtol=1e-12)


@pytest.mark.parametrize(("l1", "l2", "l3"), PRODUCTS)
def test_clebsch_gordan(e3nn_jax, l1, l2, l3):
    """Equal to e3nn's up to the sign, which is a convention; e3nn's squares add up to 1/(2l3 + 1) for each m3."""
    ours = clebsch_gordan(l1, l2, l3)
    reference = np.asarray(e3nn_jax.clebsch_gordan(l1, l2, l3)) * np.sqrt(2 * l3 + 1)
    np.testing.assert_allclose(ours, np.sign(np.sum(ours * reference)) * reference, atol=1e-12)
    np.testing.assert_allclose(np.sum(ours**2, axis=(0, 1)), 1.0, atol=1e-12)


@pytest.mark.parametrize(("l1", "l2", "l3"), PRODUCTS)
def test_product_rotates_as_a_tensor(e3nn_jax, l1, l2, l3):
    """Product of rotated tensors = rotated product, with e3nn's Wigner matrices."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=2 * l1 + 1), rng.normal(size=2 * l2 + 1)
    matrices = [np.asarray(e3nn_jax.Irrep(degree, 1).D_from_angles(0.3, 1.1, -0.7)) for degree in (l1, l2, l3)]
    rotated = couple(list(matrices[0] @ first), list(matrices[1] @ second), l3)
    np.testing.assert_allclose(rotated, matrices[2] @ np.array(couple(list(first), list(second), l3)), atol=1e-6)


def test_irreps_are_parsed():
    assert parse_irreps("8x0e + 8x1o") == (8, (Irrep(0, 1), Irrep(1, -1)))
    for bad in ("8x0e+4x1o", "0e", "8x4e"):
        with pytest.raises(ValueError, match="irreps"):
            parse_irreps(bad)
