"""Forces on beads: against hand-made sums, and invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_mdcath import Residue, build, frames_of

from cgloop.prep.projection import MatrixMap, force_map

GLYCINE = Residue(name="GLY", resid=2, extra=[("HA3", "H", (0.0, 0.6, -0.9))])
FAR = Residue(resid=3, extra=[("CB", "C", (0.0, 1.2, -0.9)), ("HB1", "H", (0.0, 1.6, -1.5))])


@pytest.fixture
def molecule():
    """Alanine, glycine with two hydrogens on CA, and a residue whose further hydrogen is not on CA."""
    return build([Residue(), GLYCINE, FAR])


def hydrogens(molecule):
    return np.array([element == "H" for element in molecule.elements])


def test_basic_is_the_sum_over_ca_and_its_hydrogens(molecule):
    mapping = force_map("basic", np.array(molecule.ca), hydrogens(molecule), molecule.positions)
    forces = frames_of(molecule, 5)[1]
    named = {(name, resid): i for i, (name, resid) in enumerate(zip(molecule.names, molecule.resids, strict=True))}
    expected = np.stack(
        [
            forces[:, named["CA", 1]] + forces[:, named["HA", 1]],
            forces[:, named["CA", 2]] + forces[:, named["HA", 2]] + forces[:, named["HA3", 2]],
            forces[:, named["CA", 3]] + forces[:, named["HA", 3]],
        ],
        axis=1,
    )
    projected = mapping.project(forces)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(projected, expected, rtol=1e-5, atol=1e-5)


def test_slice_is_ca_alone(molecule):
    mapping = force_map("slice", np.array(molecule.ca), hydrogens(molecule), molecule.positions)
    forces = frames_of(molecule, 5)[1]
    np.testing.assert_array_equal(mapping.project(forces), forces[:, molecule.ca])


def test_constraint_forces_cancel(molecule):
    """Equal and opposite forces along each rigid CA–H bond change nothing in `basic`, and do in `slice`."""
    forces = frames_of(molecule, 4)[1].astype(np.float64)
    shifted = forces.copy()
    for alpha, hydrogen in ((molecule.ca[0], molecule.ca[0] + 1), (molecule.ca[2], molecule.ca[2] + 1)):
        along = molecule.positions[hydrogen] - molecule.positions[alpha]
        shifted[:, hydrogen] += 37.0 * along
        shifted[:, alpha] -= 37.0 * along
    basic, sliced = (
        force_map(kind, np.array(molecule.ca), hydrogens(molecule), molecule.positions) for kind in ("basic", "slice")
    )
    np.testing.assert_allclose(basic.project(shifted), basic.project(forces), atol=1e-4)
    assert np.abs(sliced.project(shifted) - sliced.project(forces)).max() > 10


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), projection=st.sampled_from(["basic", "slice"]))
def test_map_is_invariant_and_projection_equivariant(seed, projection):
    molecule = build([Residue(), GLYCINE, FAR])
    random = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    moved = molecule.positions @ rotation.T + random.normal(0, 50, 3)
    forces = random.normal(0, 20, (3, len(molecule.names), 3))
    at_rest = force_map(projection, np.array(molecule.ca), hydrogens(molecule), molecule.positions)
    after = force_map(projection, np.array(molecule.ca), hydrogens(molecule), moved)
    np.testing.assert_array_equal(at_rest.atoms, after.atoms)
    np.testing.assert_allclose(after.project(forces @ rotation.T), at_rest.project(forces) @ rotation.T, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_order_of_atoms_does_not_matter(seed):
    molecule = build([Residue(), GLYCINE, FAR])
    order = np.random.default_rng(seed).permutation(len(molecule.names))
    place = np.argsort(order)
    forces = frames_of(molecule, 3, seed % 1000)[1]
    plain = force_map("basic", np.array(molecule.ca), hydrogens(molecule), molecule.positions)
    mixed = force_map("basic", place[molecule.ca], hydrogens(molecule)[order], molecule.positions[order])
    np.testing.assert_allclose(mixed.project(forces[:, order]), plain.project(forces), atol=1e-4)


@pytest.mark.parametrize("projection", ["basic", "slice"])
def test_weights_are_the_map_as_a_matrix(molecule, projection):
    mapping = force_map(projection, np.array(molecule.ca), hydrogens(molecule), molecule.positions)
    forces = frames_of(molecule, 5)[1]
    weights = mapping.weights(len(molecule.names))
    np.testing.assert_allclose(MatrixMap(weights).project(forces), mapping.project(forces), rtol=1e-6, atol=1e-5)


def test_a_broken_frame_does_not_touch_its_neighbours(molecule):
    random = np.random.default_rng(0)
    mapping = MatrixMap(random.normal(size=(3, len(molecule.names))))
    forces = frames_of(molecule, 5)[1]
    expected = mapping.project(forces)
    forces[2] = np.nan
    forces[3, 0] = np.inf
    with np.errstate(invalid="ignore"):
        found = mapping.project(forces)
    np.testing.assert_array_equal(found[[0, 1, 4]], expected[[0, 1, 4]])
    assert not np.isfinite(found[2:4]).any(axis=(1, 2)).all()
