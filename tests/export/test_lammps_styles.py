"""Priors as LAMMPS's own styles give the forces of the model, for all forms, at all distances."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest

from cgloop.export import lammps_styles, lammps_tables
from cgloop.export.lammps_styles import native_styles, near_reach
from cgloop.md.native import NativeProbe
from cgloop.model import potentials
from cgloop.model.geometry import NORMAL_SOFTENING_A4
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, energy_and_forces
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.terms import PriorForms
from tests.md.model_worlds import PRIOR, protein, system

pytestmark = pytest.mark.slow

CUTOFF_A = 14.0
N_BEADS = 24
RANDOM = np.random.default_rng(3)
HARD = PRIOR._replace(repulsion_epsilon=np.array([1.0, 2.0, 3.0]), repulsion_r_min=np.array([5.6, 5.2, 6.1]))
"""Repulsion that is felt: many pairs of a helix are nearer than its range."""

CHARGED = {"electrostatics": np.array([66.0, 7.8])}
TOUCHING = {"contact_energy": RANDOM.normal(size=(20, 20))}
ROWS = {"bond_k": RANDOM.uniform(100, 200, 20), "bond_r0": RANDOM.uniform(3.6, 4.0, 20)}
FORMS = {
    "defaults": (PriorForms(), 1, {}),
    "long series, two chains": (
        PriorForms(), 2,
        {"angle_coeffs": RANDOM.normal(size=9), "dihedral_cos": RANDOM.normal(size=5),
         "dihedral_sin": RANDOM.normal(size=5)},
    ),
    "harmonic, charges, contacts": (
        PriorForms(angle="harmonic", electrostatics=True, contacts=True), 2,
        {"angle_coeffs": np.array([14.0, 1.8]), **CHARGED, **TOUCHING},
    ),
    "charges from far on, lj": (
        PriorForms(repulsion="lj", electrostatics=True, electrostatics_separation=9, contacts=True), 1,
        {**CHARGED, **TOUCHING},
    ),
    "splines, power6, weights": (
        PriorForms(angle="spline", dihedral="spline", repulsion="power6", repulsion_separation=4), 1,
        {"angle_coeffs": 3 * RANDOM.normal(size=19), "dihedral_spline": 3 * RANDOM.normal(size=24),
         "weights": np.array([0.5, 2.0, 0.7, 1.5])},
    ),
    "residues, power12": (
        PriorForms(angle="spline", dihedral="spline", repulsion="power12", keyed="residue"), 3,
        {"angle_coeffs": 3 * RANDOM.normal(size=(20, 19)), "dihedral_spline": 3 * RANDOM.normal(size=(400, 24)),
         "dihedral_cos": np.zeros((1, 1)), "dihedral_sin": np.zeros((1, 1)), **ROWS},
    ),
    "classes, power4": (
        PriorForms(repulsion="power4", keyed="class"), 1,
        {"angle_coeffs": RANDOM.normal(size=(3, 9)), "dihedral_cos": RANDOM.normal(size=(9, 5)),
         "dihedral_sin": RANDOM.normal(size=(9, 5)), "bond_k": ROWS["bond_k"][:3], "bond_r0": ROWS["bond_r0"][:3]},
    ),
}  # fmt: skip


def make_ours(model, prior, types, linked):
    """A function of a frame: forces and energy in float64."""
    n, function = len(types), jax.jit(partial(energy_and_forces, model, {"prior": prior, "ml": {}}))

    def ours(frame):
        with jax.enable_x64(True):
            graph = build_graph(types, linked, frame, model.cutoff_A, edge_capacity=max(1, n * (n - 1)))
            energies, forces, _ = function(frame, graph)
            return np.asarray(forces), float(energies[0])

    return ours


@pytest.mark.parametrize("how", ["special", "subtracted"])
@pytest.mark.parametrize("name", FORMS)
def test_all_forms_give_the_same_forces(name, how):
    forms, chains, changes = FORMS[name]
    prior, model = HARD._replace(**changes), Model(None, "prior-only", CUTOFF_A, forms)
    one, noise = system(N_BEADS, chains), np.random.default_rng(1)
    frame = protein(N_BEADS, chains=chains).positions[0] + 0.3 * noise.standard_normal((N_BEADS, 3))
    styles = native_styles(model, prior, one.residue_type, one.linked, exclusions=how)
    with NativeProbe(styles, one.residue_type) as probe:
        theirs, energy = probe(frame)
    forces, expected = make_ours(model, prior, one.residue_type, one.linked)(frame)
    scale = np.sqrt(np.mean(forces**2))
    assert scale > 1.0
    # With subtraction, the force of a pair at the end of its repulsion has a kink between two points of a table.
    assert np.abs(theirs - forces).max() < (3e-5 if how == "special" else 3e-4) * scale
    assert energy == pytest.approx(expected, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("form", potentials.REPULSION_FORMS)
@pytest.mark.parametrize("kind", ["near", "far"])
def test_repulsion_from_overlap_to_beyond_its_end(form, kind):
    """Three beads on a line: the outer ones are two bonds apart, or in chains of their own."""
    model = Model(None, "prior-only", CUTOFF_A, PriorForms(repulsion=form))
    linked, types = np.full(2, kind == "near"), np.array([0, 7, 4])
    prior = HARD._replace(weights=np.array([0.0, 0.0, 0.0, 1.0]))
    styles, ours = native_styles(model, prior, types, linked), make_ours(model, prior, types, linked)
    with NativeProbe(styles, types) as probe:
        for r in (0.4, 0.9, 1.7, 2.8, 3.05, 3.9, 5.199, 5.6, 6.1, 7.0, 10.51, 12.3, 13.9, 14.1, 30.0, 95.0):
            frame = np.array([[0.0, 0.0, 0.0], [40.0, 40.0, 0.0], [r, 0.0, 0.0]])
            theirs, energy = probe(frame)
            forces, expected = ours(frame)
            # At half of the range the slope of the force jumps.
            tolerance = 1e-3 if r == 3.05 else 1e-4
            assert np.abs(theirs - forces).max() <= tolerance * np.abs(forces).max() + 2e-3, r
            assert energy == pytest.approx(expected, rel=1e-4, abs=1e-4), r


def test_exactly_the_near_pairs_are_left_out():
    """Beads of a chain on a circle, all of whose pairs but the near ones repel each other."""
    forms, n = PriorForms(repulsion="power4"), 14
    model = Model(None, "prior-only", 24.0, forms)
    prior = HARD._replace(weights=np.array([0.0, 0.0, 0.0, 1.0]), repulsion_epsilon=np.array([0.0, 0.0, 1.0]))
    types, linked = np.arange(n), np.ones(n - 1, bool)
    turn = 2 * np.pi * np.arange(n) / n
    frame = np.stack([8.0 * np.cos(turn), 8.0 * np.sin(turn), 0.1 * np.arange(n)], axis=1)
    styles = native_styles(model, prior, types, linked)
    with NativeProbe(styles, types) as probe:
        _, energy = probe(frame)
    pairs = [(i, j) for i in range(n) for j in range(i + 6, n)]
    distance = np.array([np.linalg.norm(frame[i] - frame[j]) for i, j in pairs])
    assert distance.max() < 0.75 * model.cutoff_A
    assert distance.min() > 0.5 * 6.1
    assert energy == pytest.approx(float(((6.1 / distance) ** 4).sum()), rel=1e-6)
    bonds = styles.items["Bonds"]
    assert {(int(i), int(j)) for _, i, j in bonds} == {(i, j) for i in range(n) for j in range(i + 1, min(n, i + 6))}
    assert near_reach(forms) == 5


def test_one_bead_needs_no_bonds():
    model = Model(None, "prior-only", CUTOFF_A)
    styles = native_styles(model, PRIOR, np.array([3]), np.zeros(0, bool))
    assert styles.items == {}
    with NativeProbe(styles, np.array([3])) as probe:
        forces, energy = probe(np.zeros((1, 3)))
    assert energy == 0.0
    assert not forces.any()


def test_a_single_term_can_be_written():
    model, one = Model(None, "prior-only", CUTOFF_A), system(10)
    frame = protein(10).positions[0].astype(float)
    total = np.zeros((10, 3))
    for term in PRIOR_TERM_NAMES[:4]:
        with NativeProbe(
            native_styles(model, HARD, one.residue_type, one.linked, terms=[term]), one.residue_type
        ) as probe:
            total += probe(frame)[0]
    np.testing.assert_allclose(total, make_ours(model, HARD, one.residue_type, one.linked)(frame)[0], atol=2e-4)


def test_tables_hold_energies_and_their_exact_slopes():
    r = lammps_tables.grid([0.5, 3.0, 6.1, 9.0])
    assert {0.5, 3.0, 6.1, 9.0} <= set(r.tolist())
    assert (np.diff(r) > 0).all()
    curve = lammps_tables.tabulate(potentials.lennard_jones, r, 1.3, 4.4)
    inside = (r > 2.3) & (r < 8.9)
    with_step = lammps_tables.tabulate(potentials.lennard_jones, r + 1e-5, 1.3, 4.4)
    np.testing.assert_allclose(
        (with_step.energy - curve.energy)[inside] / -1e-5, curve.force[inside], rtol=1e-3, atol=1e-3
    )
    ratio = (4.4 / r[inside]) ** 6
    np.testing.assert_allclose(curve.energy[inside], 1.3 * (ratio**2 - 2 * ratio), rtol=1e-12)


def test_a_network_beside_excluded_pairs_is_refused():
    """The plugin would not see pairs of weight 0."""
    model, one = Model(None, "hybrid", CUTOFF_A), system(10)
    with pytest.raises(ValueError, match="exclusions"):
        native_styles(model, PRIOR, one.residue_type, one.linked, network="chemtrain_deploy cuda12 0.9")
    styles = native_styles(
        model, PRIOR, one.residue_type, one.linked, exclusions="subtracted", network="chemtrain_deploy cuda12 0.9"
    )
    assert "special_bonds   lj/coul 1.0 1.0 1.0" in styles.commands
    assert f"hybrid/overlay chemtrain_deploy cuda12 0.9 table spline {lammps_styles.PAIR_POINTS}" in styles.commands


@pytest.mark.parametrize("form", ["fourier", "spline"])
def test_dihedrals_of_straight_angles_end_as_in_lammps(form):
    """Both angles from usual ones to a thousandth of a degree from straight; LAMMPS's forces are its own formula's."""
    random = np.random.default_rng(8)
    series = {"dihedral_cos": 2 * random.normal(size=5), "dihedral_sin": 2 * random.normal(size=5)}
    changes = series if form == "fourier" else {"dihedral_spline": 3 * random.normal(size=24)}
    prior = HARD._replace(weights=np.array([0.0, 0.0, 1.0, 0.0]), **changes)
    model = Model(None, "prior-only", CUTOFF_A, PriorForms(dihedral=form))
    types, linked = np.array([3, 7, 4, 9]), np.ones(3, bool)
    styles, ours = native_styles(model, prior, types, linked), make_ours(model, prior, types, linked)
    largest = 0.0
    with NativeProbe(styles, types) as probe:
        for degrees in itertools.product((100.0, 164.9, 165.1, 172.0, 179.0, 179.9, 179.999), repeat=2):
            frame = _two_planes(*np.radians(degrees), phi=1.1)
            forces, expected = ours(frame)
            theirs, energy = probe(frame)
            largest = max(largest, float(np.abs(forces).max()))
            # Near a line the planes are softened, which keeps derivatives finite, and LAMMPS's are not.
            softened = NORMAL_SOFTENING_A4 / (3.8**2 * np.sin(np.radians(max(degrees)))) ** 2
            if softened > 0.1:
                continue
            tolerance = 1e-5 + 10.0 * softened
            assert np.abs(theirs - forces).max() < tolerance * max(1.0, np.abs(forces).max()), degrees
            assert energy == pytest.approx(expected, abs=tolerance), degrees
    # Without damping it would be some 10⁴ here.
    assert largest < 150.0


def _two_planes(theta_1, theta_2, phi, bond_A=3.8):
    """Four beads with two angles and a dihedral between them, rad."""
    first = [np.cos(theta_1), np.sin(theta_1), 0.0]
    last = [-np.cos(theta_2), np.sin(theta_2) * np.cos(phi), np.sin(theta_2) * np.sin(phi)]
    return bond_A * np.array([first, [0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0 + last[0], *last[1:]]])
