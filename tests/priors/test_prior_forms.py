"""Every form that can be fitted: where the data are, beyond them, and through the file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_chains import KT, draw, protein_of, random_chain

from cgloop.config.priors import PriorsConfig
from cgloop.errors import UserError
from cgloop.model import potentials
from cgloop.model.graph import build_graph
from cgloop.model.terms import PriorForms, contact_energies, repulsion_energies, zero_prior
from cgloop.priors.bonded import angle_target, fit_angle, fit_dihedral_basis
from cgloop.priors.forms import angle_basis, angle_curve, dihedral_basis, forms_of, repulsion_shape
from cgloop.priors.inversion import fit_priors, fit_samples
from cgloop.priors.older import older_angle
from cgloop.priors.pairs import debye_length, invert_contacts, water_dielectric
from cgloop.priors.samples import Histogram, Samples
from cgloop.priors.tables import Origin, read_prior, write_priors

THETA = np.linspace(0.0, np.pi, 721)
PHI = np.linspace(-np.pi, np.pi, 722)[:-1]
COUNTS = {"bonds": 9, "cis": 0, "angles": 8, "dihedrals": 7}


def histogram_of(values, low=0.0):
    histogram = Histogram.between(low, np.pi, 360)
    histogram.add(values)
    return histogram


@pytest.mark.parametrize("form", ["fourier", "harmonic", "spline"])
def test_angle_bases_are_the_potentials_of_the_model(form):
    coefficients = np.array([14.0, 1.9]) if form == "harmonic" else np.random.default_rng(1).normal(size=9)
    inside = THETA[20:-20]
    with jax.enable_x64(True):
        model = potentials.ANGLE_FORMS[form](jnp.cos(inside), jnp.asarray(coefficients))
        np.testing.assert_allclose(angle_curve(form, coefficients, inside), model, atol=1e-9)
    if form != "harmonic":
        size = 8 if form == "fourier" else 6
        step = 1e-6
        up, down = (angle_basis(form, inside + sign * step, size, 0.0).values for sign in (1, -1))
        np.testing.assert_allclose(angle_basis(form, inside, size, 0.0).slopes, (up - down) / (2 * step), atol=1e-6)


@pytest.mark.parametrize(("form", "size"), [("fourier", 4), ("spline", 9)])
def test_dihedral_bases_are_the_potentials_of_the_model(form, size):
    basis = dihedral_basis(form, PHI, size, 0.0)
    coefficients = np.random.default_rng(1).normal(size=9)
    with jax.enable_x64(True):
        if form == "spline":
            model = potentials.periodic_spline(jnp.cos(PHI), jnp.sin(PHI), jnp.asarray(coefficients))
        else:
            a, b = coefficients[:5], np.concatenate([[0.0], coefficients[5:]])
            model = potentials.periodic_series(jnp.cos(PHI), jnp.sin(PHI), jnp.asarray(a), jnp.asarray(b))
        np.testing.assert_allclose(basis.values @ coefficients, model, atol=1e-9)
    step = 1e-6
    inside = PHI[5:-5]
    up, down = (dihedral_basis(form, inside + sign * step, size, 0.0).values for sign in (1, -1))
    np.testing.assert_allclose(dihedral_basis(form, inside, size, 0.0).slopes, (up - down) / (2 * step), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    centres=st.lists(st.floats(0.3, 2.9), min_size=1, max_size=3),
    width=st.floats(0.01, 0.4),
    intervals=st.integers(8, 40),
    ridge=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_angle_splines_confine_and_never_end_flat(centres, width, intervals, ridge):
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(centre, width, 2000) for centre in centres])
    angles = histogram_of(np.clip(values, 0.01, np.pi - 0.01))
    coefficients, (first, last) = fit_angle(angles, intervals, ridge, KT, "spline")
    slope = angle_basis("spline", angles.centres, intervals, 0.0).slopes @ coefficients
    assert np.isfinite(coefficients).all()
    assert (slope[angles.centres < first] < 0.0).all()
    assert (slope[angles.centres > last] > 0.0).all()


def test_harmonic_angle_of_a_known_harmonic():
    def energy(theta):
        return 0.5 * 20.0 * (theta - 1.8) ** 2

    angles = histogram_of(draw(energy, np.sin, 0.0, np.pi, 200_000))
    (k, theta0), _ = fit_angle(angles, 8, 1e-3, KT, "harmonic")
    # The kernel of the density estimate, 2°, adds to the variance: 3.5 % here.
    assert k == pytest.approx(20.0, rel=0.08)
    assert theta0 == pytest.approx(1.8, abs=0.01)


def test_harmonic_angle_of_two_basins_is_confining():
    random = np.random.default_rng(0)
    angles = histogram_of(np.concatenate([random.normal(c, 0.08, 5000) for c in (1.6, 2.3)]))
    k, theta0 = fit_angle(angles, 8, 1e-3, KT, "harmonic")[0]
    assert k > 0
    assert 1.6 < theta0 < 2.3


def test_splines_of_known_potentials():
    def angle_energy(theta):
        return 6.0 * (np.cos(theta) + 0.35) ** 2 + 0.3 * np.cos(4 * theta)

    angles = histogram_of(draw(angle_energy, np.sin, 0.0, np.pi, 400_000))
    coefficients, _ = fit_angle(angles, 20, 1e-4, KT, "spline")
    _, _, inside = angle_target(angles, KT)
    theta = angles.centres[inside][10:-10]
    apart = angle_curve("spline", coefficients, theta) - angle_energy(theta)
    weights = angles.counts[inside][10:-10]
    apart -= np.average(apart, weights=weights)
    assert np.sqrt(np.average(apart**2, weights=weights)) < 0.06 * KT

    def dihedral_energy(phi):
        return 0.6 * np.cos(2 * phi) + 0.4 * np.sin(phi)

    dihedrals = histogram_of(draw(dihedral_energy, np.ones_like, -np.pi, np.pi, 400_000), -np.pi)
    spline = fit_dihedral_basis(dihedrals, "spline", 24, 1e-4, KT)
    apart = dihedral_basis("spline", PHI, 24, 0.0).values @ spline - dihedral_energy(PHI)
    assert np.std(apart) < 0.05 * KT


def fitted(proteins, **settings_):
    config = PriorsConfig(min_frames=10, **settings_)
    samples = Samples(forms=forms_of(config))
    for protein in proteins:
        samples.add(protein)
    return fit_samples(samples, config, 320.0, 12.0)


ALL_FORMS = [
    dict(angle_form="harmonic", dihedral_form="spline", repulsion_form="power4"),
    dict(angle_form="spline", repulsion_form="lj", keyed="class"),
    dict(keyed="residue", repulsion_form="power12", electrostatics={"enabled": True}),
    dict(dihedral_form="spline", keyed="class", contacts={"enabled": True}, repulsion_form="power6"),
    dict(repulsion_form="lj", repulsion_separation=4),
]


@pytest.mark.parametrize("chosen", ALL_FORMS)
def test_every_form_survives_the_file(tmp_path, chosen):
    protein = protein_of(random_chain(9, 60))
    protein.residue_type[:] = [0, 7, 14, 3, 11, 7, 0, 14, 1]
    fit = fitted([protein], **chosen)
    write_priors(tmp_path / "p.yaml", fit.params, Origin(320.0, {"a": 60}, COUNTS, fit.r_min_from), fit.forms)
    forms, params = read_prior(tmp_path / "p.yaml")
    assert forms == fit.forms
    for one, other in zip(params, fit.params, strict=True):
        if (np.any(other) and np.size(other) > 1) or one.shape == other.shape:
            np.testing.assert_array_equal(one, other)
    shape = repulsion_shape(forms.repulsion, np.asarray(3.0 / params.repulsion_r_min[2]))
    assert params.repulsion_epsilon[2] * shape >= 3.0 * KT


@pytest.mark.parametrize("far", [4, 6, 8])
def test_where_the_repulsion_of_far_pairs_begins(far):
    """A stretched chain on a line: smallest distance of each class, and energies of pairs one by one."""
    spacing, n = 1.0, 10
    x = np.zeros((1, n, 3))
    x[0, :, 0] = spacing * np.arange(n)
    forms = PriorForms(repulsion_separation=far, contacts=True)
    samples = Samples(forms=forms)
    samples.add(protein_of(x))
    np.testing.assert_allclose(samples.smallest, [2.0, 3.0, far], rtol=1e-6)
    assert samples.contacts[1].sum() == sum(n - s for s in range(far, n))
    graph = build_graph(np.zeros(n, int), np.ones(n - 1, bool), x, 20.0)
    ones = zero_prior()._replace(
        repulsion_epsilon=np.array([0.0, 0.0, 1.0]), repulsion_r_min=np.full(3, 12.0), contact_energy=np.ones((20, 20))
    )
    lengths = np.abs(x[0, graph.senders, 0] - x[0, graph.receivers, 0])
    reach = np.asarray(graph.edge_mask) & (lengths >= far)
    assert reach.any()
    np.testing.assert_array_equal(
        np.asarray(repulsion_energies(ones, lengths.astype(np.float32), graph, forms)) > 0, reach
    )
    np.testing.assert_array_equal(
        np.asarray(contact_energies(ones, lengths.astype(np.float32), graph, forms)) > 0, reach & (lengths < 9)
    )


def test_scarce_keys_shrink_to_all_and_frequent_ones_to_their_own():
    """Glycines with wide angles in few frames or in many."""
    random = np.random.default_rng(0)
    theta = {0: 1.6, 7: 2.2}
    found = {}
    for n in (3, 20_000):
        samples = Samples(forms=PriorForms(keyed="class"))
        samples.n_frames = 1000
        samples.key_bonds[0] = 1000, 0.0, 4.0
        samples.n_bonds, samples.bond_mean, samples.bond_variance = 1000, 3.8, 0.004
        own = {
            kind: random.normal(centre, 0.1, size)
            for (kind, centre), size in zip(theta.items(), (20_000, n), strict=True)
        }
        for row, kind in enumerate((0, 7)):
            samples.angles.add(own[kind])
            samples.key_angles[row] = np.histogram(own[kind], samples.angles.edges)[0]
        fit = fit_samples(samples, PriorsConfig(keyed="class"), 320.0, 12.0)
        energy = angle_curve("fourier", fit.params.angle_coeffs[1], THETA)
        found[n] = THETA[energy.argmin()]
        np.testing.assert_array_equal(fit.params.angle_coeffs[2], fit.common.angle_coeffs)
        np.testing.assert_array_equal(fit.params.bond_k[1:], fit.common.bond_k)
    assert found[3] == pytest.approx(1.6, abs=0.05)
    assert found[20_000] == pytest.approx(2.2, abs=0.05)


def test_water_and_its_screening():
    """Textbook values: 78.3 at 25 °C, Debye length 3.04 Å/√I."""
    assert water_dielectric(298.15) == pytest.approx(78.3, abs=0.1)
    assert debye_length(78.3, 0.15, 298.15) == pytest.approx(3.04 / np.sqrt(0.15), rel=0.01)


def test_contacts_are_zero_without_data_and_negative_where_there_are_more_than_expected():
    counts = np.zeros((2, 20, 20))
    counts[1, 3, 5], counts[1, 1, 2] = 1e6, 1e6
    counts[0, 3, 5], counts[0, 1, 2] = 3e5, 1e5
    energy = invert_contacts(counts, 10.0, KT)
    assert energy[3, 5] == energy[5, 3] == pytest.approx(-KT * np.log(1.5), rel=1e-3)
    assert energy[1, 2] == pytest.approx(-KT * np.log(0.5), rel=1e-3)
    energy[[3, 5, 1, 2], [5, 3, 2, 1]] = 0.0
    assert not energy.any()


def test_frames_of_another_temperature_are_refused():
    protein = protein_of(random_chain(6, 40))
    protein.temperature_K[3] = 450.0
    with pytest.raises(UserError, match="450 K.*320 K"):
        fit_priors([protein], PriorsConfig(min_frames=10), 320.0, 12.0)


OLDER = """
model:
  priors:
    r0: 3.84
    kr: 136.3
    a: [-0.06, -0.33, -0.53, 0.0, 0.85]
    b: [0.72, 0.13, -0.04, -0.87, 0.06]
    k_dihedral: [0.36, 0.8]
    gamma_dihedral: [1.19, 1.52]
    epsilon: 1.0
    sigma: 3.0
    weights: {bond: 0.5, repulsive: 0.25}
meta: {T: 320.0}
"""


def test_older_sections_are_read(tmp_path):
    path = tmp_path / "older.yaml"
    path.write_text(OLDER)
    forms, params = read_prior(path)
    assert forms == PriorForms(angle="spline", repulsion="power4")
    np.testing.assert_allclose(params.weights, [0.5, 1, 1, 0.25, 1, 1])
    theta = np.radians(np.linspace(20.0, 170.0, 200))
    a, b = np.array([-0.06, -0.33, -0.53, 0.0, 0.85]), np.array([0.72, 0.13, -0.04, -0.87, 0.06])
    series = older_angle(a, b, theta)
    np.testing.assert_allclose(angle_curve("spline", params.angle_coeffs, theta), series, atol=0.02 * np.ptp(series))
    phi = np.linspace(-3, 3, 50)
    expected = 0.36 * (1 + np.cos(phi - 1.19)) + 0.8 * (1 + np.cos(2 * phi - 1.52))
    found = dihedral_basis("fourier", phi, 2, 0.0).values @ np.concatenate(
        [params.dihedral_cos, params.dihedral_sin[1:]]
    )
    np.testing.assert_allclose(found, expected)
    assert params.repulsion_epsilon.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("    kr: 136.3", "    kr: 136.3\n    spline_file: x.npz", "unknown key `model.priors.spline_file`"),
    ("    sigma: 3.0", "", "missing key 'sigma'"),
    ("k_dihedral: [0.36, 0.8]", "k_dihedral: [0.36]", "same length"),
    ("bond: 0.5", "bonds: 0.5", "unknown key `weights.bonds`"),
    ("kr: 136.3", "kr: stiff", "could not convert"),
])  # fmt: skip
def test_older_sections_with_mistakes(tmp_path, old, new, message):
    path = tmp_path / "older.yaml"
    path.write_text(OLDER.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_prior(path)
