"""Bonds, angles, dihedrals and size against MDAnalysis."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.lib.distances import calc_angles, calc_bonds, calc_dihedrals

from cgloop.data.geometry import bond_angles, bond_lengths, chain_indices, dihedral_angles, radius_of_gyration


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), n_beads=st.integers(1, 12), n_frames=st.integers(1, 4))
def test_values_are_those_of_mdanalysis(seed, n_beads, n_frames):
    random = np.random.default_rng(seed)
    x = random.normal(0, 4, (n_frames, n_beads, 3))
    linked = random.random(max(n_beads - 1, 0)) < 0.8
    bonds, angles, dihedrals = chain_indices(linked)
    for frame in range(n_frames):
        one = x[frame].astype(np.float32)
        if len(bonds):
            np.testing.assert_allclose(bond_lengths(x, bonds)[frame], calc_bonds(*one[bonds.T]), rtol=1e-5)
        if len(angles):
            expected = calc_angles(*one[angles.T])
            np.testing.assert_allclose(bond_angles(x, angles)[frame], expected, atol=1e-3)
        if len(dihedrals):
            expected = calc_dihedrals(*one[dihedrals.T])
            difference = dihedral_angles(x, dihedrals)[frame] - expected
            np.testing.assert_allclose((difference + np.pi) % (2 * np.pi) - np.pi, 0.0, atol=1e-3)
    pairs = np.linalg.norm(x[:, :, None] - x[:, None], axis=3)
    np.testing.assert_allclose(radius_of_gyration(x) ** 2, (pairs**2).mean(axis=(1, 2)) / 2)


@pytest.mark.parametrize(("linked", "counts"), [
    ([], (0, 0, 0)), ([1], (1, 0, 0)), ([1, 1, 1, 1], (4, 3, 2)), ([1, 1, 0, 1, 1, 1], (5, 3, 1)), ([0, 0], (0, 0, 0)),
])  # fmt: skip
def test_nothing_reaches_over_a_break(linked, counts):
    linked = np.array(linked, bool)
    for indices, count in zip(chain_indices(linked), counts, strict=True):
        assert len(indices) == count
        for row in indices:
            assert linked[row[0] : row[-1]].all()
            assert np.all(np.diff(row) == 1)
