"""Molecules in periodic cells: joined after any wrapping, left alone to the last bit where they are whole."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.data.cells import question_cells
from cgloop.data.periodic import Molecules, Unwrapper, inner_radius, join_atoms, nearest_image, widths
from cgloop.data.universes import cell_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import MDAnalysis
    from MDAnalysis.lib.mdamath import triclinic_vectors
    from MDAnalysis.transformations import unwrap

ANGLES = [(90.0, 90.0, 90.0), (70.52878, 109.4712, 70.52878), (60.0, 60.0, 90.0), (75.0, 85.0, 65.0)]
"""Brick, truncated octahedron, rhombic dodecahedron, and a cell without any symmetry."""

cells = st.builds(
    lambda lengths, angles: triclinic_vectors([*lengths, *angles]).astype(float),
    st.tuples(*[st.floats(42.0, 70.0)] * 3),
    st.sampled_from(ANGLES),
)


def globule(rng, n_residues, atoms_per_residue, center):
    """A compact chain: residues 3.8 Å apart on a walk that turns back to its center, side atoms 1.5 Å further each."""
    x, rows = np.zeros(3), []
    for _ in range(n_residues):
        direction = rng.normal(size=3) - 0.25 * x
        x = x + 3.8 * direction / np.linalg.norm(direction)
        place = x
        for _ in range(atoms_per_residue):
            rows.append(place)
            step = rng.normal(size=3)
            place = place + 1.5 * step / np.linalg.norm(step)
    rows = np.array(rows)
    return rows - rows.mean(axis=0) + center


def complex_of(rng, sizes, atoms_per_residue=1, apart_A=14.0):
    """Chains of these numbers of residues beside each other, with a structure that no cell has cut."""
    places = apart_A * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    parts = [globule(rng, n, atoms_per_residue, place) for n, place in zip(sizes, places, strict=False)]
    chain = np.repeat(np.arange(len(sizes)), [len(part) for part in parts])
    residue = np.repeat(np.arange(sum(sizes)), atoms_per_residue)
    return Molecules(chain, residue, np.concatenate(parts))


def tumbling(rng, structure, n_frames):
    """Frames in which the whole turns, drifts and jitters, [F, A, 3]."""
    frames, turn, center = [], np.eye(3), rng.uniform(-50, 50, 3)
    for _ in range(n_frames):
        q, _ = np.linalg.qr(np.eye(3) + 0.4 * rng.normal(size=(3, 3)))
        turn, center = turn @ (q * np.sign(np.linalg.det(q))), center + rng.normal(0, 8.0, 3)
        frames.append(structure @ turn + center + rng.normal(0, 0.2, structure.shape))
    return np.array(frames)


def inside(positions, cell):
    """Atoms, one by one, wrapped into the cell."""
    fractions = positions @ np.linalg.inv(cell)
    return (fractions - np.floor(fractions)) @ cell


@settings(max_examples=60, deadline=None)
@given(
    cell=cells,
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(4, 20), min_size=1, max_size=3),
    atoms=st.sampled_from([1, 4]),
)
def test_any_wrapping_is_undone_up_to_a_common_translation(cell, seed, sizes, atoms):
    rng = np.random.default_rng(seed)
    molecules = complex_of(rng, sizes, atoms)
    true = tumbling(rng, molecules.positions, 6)
    # Atoms in images at random: more than any program does.
    scattered = true + rng.integers(-2, 3, true.shape) @ cell
    for wrapped in (inside(true, cell), scattered):
        found = wrapped.copy()
        moved = Unwrapper(molecules)(found, cell)
        np.testing.assert_allclose(found - found[:, :1], true - true[:, :1], atol=1e-9)
        assert (moved == (np.abs(found - wrapped).max(axis=(1, 2)) > 1.0)).all()


@settings(max_examples=40, deadline=None)
@given(cell=cells, seed=st.integers(0, 2**31), sizes=st.lists(st.integers(4, 20), min_size=1, max_size=4))
def test_whole_frames_keep_every_bit(cell, seed, sizes):
    rng = np.random.default_rng(seed)
    molecules = complex_of(rng, sizes)
    frames = tumbling(rng, molecules.positions, 8).astype(np.float32)
    found = frames.copy()
    assert not Unwrapper(molecules)(found, cell).any()
    np.testing.assert_array_equal(found, frames)


@settings(max_examples=40, deadline=None)
@given(cell=cells, seed=st.integers(0, 2**31))
def test_molecules_wrapped_as_wholes_stay_together(cell, seed):
    """Each chain has its center in the cell, as `pbc mol` of GROMACS and `autoimage` write it."""
    rng = np.random.default_rng(seed)
    molecules = complex_of(rng, [15, 12])
    true = tumbling(rng, molecules.positions, 10)
    wrapped = true.copy()
    for chain in (0, 1):
        here = molecules.chain == chain
        center = true[:, here].mean(axis=1)
        wrapped[:, here] += (inside(center, cell) - center)[:, None]
    found = wrapped.copy()
    Unwrapper(molecules)(found, cell)
    np.testing.assert_allclose(found - found[:, :1], true - true[:, :1], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(cell=cells, seed=st.integers(0, 2**31), atoms=st.sampled_from([1, 5]))
def test_single_chains_are_as_from_mdanalysis(cell, seed, atoms):
    """Against `MDAnalysis.transformations.unwrap`, which needs bonds."""
    rng = np.random.default_rng(seed)
    molecules = complex_of(rng, [14], atoms)
    wrapped = inside(tumbling(rng, molecules.positions, 1), cell).astype(np.float32)
    parts = join_atoms(molecules)
    n = len(molecules.chain)
    universe = MDAnalysis.Universe.empty(n, trajectory=True)
    bonds = [(a, b) for a, b in zip(parts.parent.tolist(), parts.order.tolist(), strict=True) if a != b]
    universe.add_TopologyAttr("bonds", bonds)
    universe.add_TopologyAttr("masses", np.ones(n))
    universe.atoms.positions = wrapped[0]
    universe.dimensions = MDAnalysis.lib.mdamath.triclinic_box(*cell)
    theirs = unwrap(universe.atoms)(universe.trajectory.ts).positions
    ours = wrapped.copy()
    Unwrapper(molecules)(ours, cell)
    np.testing.assert_allclose(ours[0] - ours[0, 0], theirs - theirs[0], atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(cell=cells, seed=st.integers(0, 2**31))
def test_nearest_images_are_the_nearest(cell, seed):
    """Against a search of all images around, for vectors across several cells."""
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-1.4, 1.4, (20, 3)) @ cell
    shortest = vectors + nearest_image(vectors, cell) @ cell
    steps = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    all_images = vectors[:, None] + steps @ cell
    np.testing.assert_allclose(
        np.linalg.norm(shortest, axis=1), np.linalg.norm(all_images, axis=2).min(axis=1), rtol=1e-5
    )
    directions = rng.normal(size=(20, 3))
    short = 0.999 * inner_radius(cell) * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    assert not nearest_image(short, cell).any()
    normals = np.cross(np.roll(cell, -1, axis=0), np.roll(cell, -2, axis=0))
    assert widths(cell) == pytest.approx(np.linalg.det(cell) / np.linalg.norm(normals, axis=1))


def test_slices_of_frames_give_what_all_give_at_once():
    rng = np.random.default_rng(3)
    molecules, cell = complex_of(rng, [12, 10]), np.diag([50.0, 55.0, 60.0])
    wrapped = inside(tumbling(rng, molecules.positions, 12), cell)
    at_once, in_slices = wrapped.copy(), wrapped.copy()
    Unwrapper(molecules)(at_once, cell)
    slices = Unwrapper(molecules)
    for first in range(0, 12, 5):
        slices(in_slices[first : first + 5], cell)
    np.testing.assert_array_equal(at_once, in_slices)


def test_bonds_of_the_topology_come_first():
    """A tail that touches the head: distances would join them, bonds say along which atoms the chain runs."""
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = 7.0 * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    bonds = np.stack([np.arange(11), np.arange(1, 12)], axis=1)
    residue = np.zeros(12, int)
    parts = join_atoms(Molecules(np.zeros(12, int), residue, ring, bonds=bonds))
    assert sorted(map(tuple, np.sort(np.stack([parts.parent, parts.order], axis=1)[1:], axis=1))) == sorted(
        map(tuple, bonds)
    )
    # A bond to another chain joins nothing.
    chains = np.repeat([0, 1], 6)
    assert join_atoms(Molecules(chains, residue, ring, bonds=bonds)).n_parts == 2


def test_parts_beyond_a_gap_are_placed_as_chains_are():
    """A loop of 40 Å is missing: the nearest image of the next residue is the wrong one."""
    cell = np.diag([60.0, 60.0, 60.0])
    first = np.stack([3.0 * np.cos(np.arange(8)), 3.0 * np.sin(np.arange(8)), 1.5 * np.arange(8)], axis=1)
    structure = np.concatenate([first, first + np.array([40.0, 0.0, 0.0])])
    molecules = Molecules(np.zeros(16, int), np.arange(16), structure)
    assert join_atoms(molecules).n_parts == 2
    found = structure[None] + 7.0
    assert not Unwrapper(molecules)(found, cell).any()
    wrapped = inside(structure[None] + 30.0, cell)
    assert Unwrapper(molecules)(wrapped, cell).all()
    np.testing.assert_allclose(wrapped[0] - wrapped[0, 0], structure - structure[0], atol=1e-9)


def test_damaged_frames_are_passed_over():
    rng = np.random.default_rng(5)
    molecules, cell = complex_of(rng, [12, 10]), np.diag([50.0, 55.0, 60.0])
    true = tumbling(rng, molecules.positions, 6)
    wrapped = inside(true, cell)
    wrapped[2, 3] = np.nan
    wrapped[3] = 0.0
    boxes = np.repeat(cell[None], 6, axis=0)
    boxes[4] = 0.0
    before = wrapped.copy()
    Unwrapper(molecules)(wrapped, boxes)
    np.testing.assert_array_equal(wrapped[[2, 3, 4]], before[[2, 3, 4]])
    good = [0, 1, 5]
    np.testing.assert_allclose(wrapped[good] - wrapped[good, :1], true[good] - true[good, :1], atol=1e-9)


def test_a_structure_that_is_cut_has_its_chains_in_contact():
    rng = np.random.default_rng(6)
    whole, cell = complex_of(rng, [15, 15], apart_A=12.0), np.diag([60.0, 60.0, 60.0])
    cut = inside(whole.positions + 28.0 - whole.positions.max(axis=0) + 40.0, cell)
    found = Molecules(whole.chain, whole.residue, cut, cell).structure
    np.testing.assert_allclose(found - found[0], whole.positions - whole.positions[0], atol=1e-9)


def findings(rng, boxes, *, cut=False, n_frames=12):
    """What the cells of some frames of a chain are taken for; `boxes` are vectors, or follow from the frames."""
    molecules = complex_of(rng, [30])
    frames = tumbling(rng, molecules.positions, n_frames)
    boxes = boxes(frames) if callable(boxes) else np.repeat(np.asarray(boxes, float)[None], n_frames, axis=0)
    if cut:
        frames = np.stack([inside(x, np.diag(cut)) for x in frames])
    return question_cells(frames, boxes, molecules)


def bounding(frames):
    return np.stack([np.diag(np.ptp(x, axis=0) + 6.0) for x in frames])


def barostat(frames):
    return np.stack([(1 + 0.004 * np.sin(i)) * np.diag([60.0, 61.0, 62.0]) for i in range(len(frames))])


@pytest.mark.parametrize(("boxes", "cut", "periodic", "words"), [
    (np.zeros((3, 3)), False, False, ""),
    (np.full((3, 3), np.nan), False, False, "no volume or is not finite"),
    (np.eye(3), False, False, "1 Å wide"),
    (np.diag([10.5, 10.5, 10.5]), False, False, "smaller than a chain"),
    (bounding, False, False, "a bounding box"),
    (barostat, False, True, ""),
    (np.diag([60.0, 60.0, 60.0]), [60.0, 60.0, 60.0], True, ""),
])  # fmt: skip
def test_cells_are_questioned(boxes, cut, periodic, words):
    found = findings(np.random.default_rng(8), boxes, cut=cut)
    assert found.periodic == periodic
    assert words in found.note
    assert bool(words) == bool(found.note)
    assert not found.hopeless


def test_a_chain_longer_than_its_cell_is_joined_all_the_same():
    """Unfolded proteins reach beyond their cell; that wrapping is undone by the cell shows that it is one."""
    rng = np.random.default_rng(9)
    x = np.stack([3.5 * np.arange(20), np.sin(np.arange(20)), np.cos(np.arange(20))], axis=1)
    molecules, cell = Molecules(np.zeros(20, int), np.arange(20), x), np.diag([40.0, 40.0, 40.0])
    frames = x + rng.normal(0, 0.1, (8, 20, 3))
    found = question_cells(inside(frames, cell), np.repeat(cell[None], 8, axis=0), molecules)
    assert found.periodic
    assert "longer than the cell" in found.note
    joined = inside(frames, cell)
    Unwrapper(molecules)(joined, cell)
    np.testing.assert_allclose(joined - joined[:, :1], frames - frames[:, :1], atol=1e-9)


def test_a_cut_chain_without_a_cell_is_hopeless():
    rng = np.random.default_rng(10)
    assert findings(rng, np.eye(3), cut=[40.0, 40.0, 40.0], n_frames=20).hopeless


def test_angles_that_span_no_volume_are_no_cell():
    universe = MDAnalysis.Universe.empty(1, trajectory=True)
    for dimensions, expected in (
        (None, np.zeros((3, 3))),
        ([60.0, 60.0, 60.0, 90.0, 90.0, 250.0], np.full((3, 3), np.nan)),
        ([40.0, 50.0, 60.0, 90.0, 90.0, 90.0], np.diag([40.0, 50.0, 60.0])),
    ):
        universe.dimensions = dimensions
        np.testing.assert_allclose(cell_of(universe.trajectory.ts), expected, atol=1e-5)
