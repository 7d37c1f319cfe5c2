"""Bonds, angles and dihedrals against MDAnalysis, and at singular points."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.lib.distances import calc_angles, calc_bonds, calc_dihedrals

from cgloop.model import geometry


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_internal_coordinates_are_those_of_mdanalysis(seed):
    positions = np.random.default_rng(seed).normal(scale=4.0, size=(8, 3))
    quadruples = np.array([[0, 1, 2, 3], [4, 5, 6, 7], [2, 7, 0, 5]])
    at = [positions[quadruples[:, k]] for k in range(4)]
    np.testing.assert_allclose(
        geometry.bond_lengths(jnp.asarray(positions), quadruples[:, :2]), calc_bonds(at[0], at[1]), rtol=1e-6
    )
    cosines = geometry.angle_cosines(jnp.asarray(positions), quadruples[:, :3])
    np.testing.assert_allclose(cosines, np.cos(calc_angles(at[0], at[1], at[2])), atol=1e-6)
    cosines, sines, bend_1, bend_2 = geometry.dihedral_geometry(jnp.asarray(positions), quadruples)
    reference = calc_dihedrals(*at)
    np.testing.assert_allclose(bend_1, np.pi - calc_angles(at[0], at[1], at[2]), atol=1e-5)
    np.testing.assert_allclose(bend_2, np.pi - calc_angles(at[1], at[2], at[3]), atol=1e-5)
    np.testing.assert_allclose(np.arctan2(sines, cosines), reference, atol=1e-5)
    np.testing.assert_allclose(cosines**2 + sines**2, 1.0, atol=1e-4)


def test_a_right_handed_helix_has_a_positive_dihedral():
    t = np.arange(4)
    helix = np.stack([2.3 * np.cos(np.deg2rad(100) * t), 2.3 * np.sin(np.deg2rad(100) * t), 1.5 * t], axis=-1)
    cosine, sine, *_ = geometry.dihedral_geometry(jnp.asarray(helix), np.array([[0, 1, 2, 3]]))
    assert 45 < float(np.rad2deg(np.arctan2(sine, cosine))[0]) < 55


def test_singular_points_have_finite_derivatives_in_single_precision():
    """Coincident beads, and beads on one line; first and second derivatives."""
    line = np.array([[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0], [11.4, 0, 0]], dtype=np.float32)

    def all_at_once(positions):
        dihedral = sum(field.sum() for field in geometry.dihedral_geometry(positions, np.array([[0, 1, 2, 3]])))
        angle = geometry.angle_cosines(positions, np.array([[0, 1, 2], [1, 2, 3]]))
        return dihedral + angle.sum() + geometry.bond_lengths(positions, np.array([[0, 1]])).sum()

    for positions in (line, np.zeros_like(line), line * [[1], [1], [1], [0]]):
        positions = jnp.asarray(positions, dtype=jnp.float32)
        gradient = jax.grad(all_at_once)
        second = jax.grad(lambda x, gradient=gradient: jnp.sum(gradient(x) ** 2))
        assert np.all(np.isfinite(gradient(positions)))
        assert np.all(np.isfinite(second(positions)))
