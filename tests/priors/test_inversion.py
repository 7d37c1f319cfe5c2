"""Boltzmann inversion against potentials that are known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_chains import KT, draw, protein_of, random_chain

from cgloop.config.priors import PriorsConfig
from cgloop.errors import UserError
from cgloop.priors.bonded import WALL_KT, angle_target, dihedral_target, fit_angle, fit_bond, fit_dihedral
from cgloop.priors.inversion import DEFAULT_R_MIN_A, fit_priors, fit_repulsion
from cgloop.priors.samples import Histogram, Samples
from cgloop.priors.series import cosine_basis, periodic_basis

SIZE = 200_000


@pytest.mark.parametrize(("k", "r0"), [(190.0, 3.85), (20.0, 3.7)])
def test_bond_of_a_known_harmonic(k, r0):
    lengths = draw(lambda r: 0.5 * k * (r - r0) ** 2, lambda r: r**2, 2.0, 6.0, SIZE)
    samples = Samples(n_bonds=SIZE, bond_mean=lengths.mean(), bond_variance=lengths.var())
    found_k, found_r0 = fit_bond(samples, KT)
    assert abs(found_k / k - 1.0) < 4.0 * np.sqrt(2.0 / SIZE)
    assert abs(found_r0 - r0) < 4.0 * np.sqrt(KT / k / SIZE)
    # Without the Jacobian the soft one would be off by many standard errors.
    assert abs(lengths.mean() - r0) > 5.0 * np.sqrt(KT / k / SIZE)


def histogram_of(values, low, high):
    histogram = Histogram.between(low, high, 360)
    histogram.add(values)
    return histogram


@pytest.mark.parametrize("coefficients", [[0.0, 0.6, 0.4], [0.0, -0.3, 0.5, 0.2], [0.0, 0.0, 0.0]])
def test_angle_of_a_known_series(coefficients):
    """Broad potentials come back; the walls at the very ends of the data leave a trace in the coefficients."""
    true = np.array(coefficients)
    order = len(true) - 1

    def energy(theta):
        return cosine_basis(theta, order) @ true

    angles = histogram_of(draw(energy, np.sin, 0.0, np.pi, SIZE), 0.0, np.pi)
    found, _ = fit_angle(angles, 6, 1e-3, KT)
    np.testing.assert_allclose(found[1:], [*true[1:], *[0.0] * (6 - order)], atol=0.04)
    apart = cosine_basis(angles.centres, 6) @ found - energy(angles.centres)
    apart -= np.average(apart, weights=angles.counts)
    assert np.sqrt(np.average(apart**2, weights=angles.counts)) < 0.03 * KT


def test_deep_angle_is_right_where_the_data_are():
    true = np.array([0.0, 1.2, 2.0, -0.9, 0.1])

    def energy(theta):
        return cosine_basis(theta, 4) @ true

    values = draw(energy, np.sin, 0.0, np.pi, SIZE)
    angles = histogram_of(values, 0.0, np.pi)
    found, (first, last) = fit_angle(angles, 6, 1e-3, KT)
    assert np.ptp(energy(angles.centres)) > 8 * KT
    middle = (angles.centres > np.quantile(values, 0.01)) & (angles.centres < np.quantile(values, 0.99))
    apart = (cosine_basis(angles.centres, 6) @ found - energy(angles.centres))[middle]
    assert np.std(apart) < 0.15 * KT
    assert first < np.quantile(values, 0.01) < np.quantile(values, 0.99) < last


def test_angle_jacobian_matters():
    """Random directions have the density sin θ: the potential is flat, and without the Jacobian it would not be."""
    angles = histogram_of(draw(np.zeros_like, np.sin, 0.0, np.pi, SIZE), 0.0, np.pi)
    found, _ = fit_angle(angles, 4, 1e-3, KT)
    energy = cosine_basis(angles.centres, 4) @ found
    assert np.ptp(energy[(angles.centres > 0.3) & (angles.centres < 2.8)]) < 0.1 * KT


def check_angle(angles, order, ridge=1e-3):
    coefficients, (first, last) = fit_angle(angles, order, ridge, KT)
    theta = np.linspace(0.0, np.pi, 721)
    energy = cosine_basis(theta, order) @ coefficients
    target, _, inside = angle_target(angles, KT)
    assert np.isfinite(energy).all()
    assert np.diff(energy[theta < first]).max(initial=-1.0) < 1e-2 * KT
    assert np.diff(energy[theta > last]).min(initial=1.0) > -1e-2 * KT
    assert np.ptp(energy) < np.ptp(target[inside]) + (WALL_KT + 0.1) * KT
    return theta, energy


@pytest.mark.parametrize("order", [2, 3, 4, 6, 8, 10])
@pytest.mark.parametrize("width_degrees", [3.0, 8.0, 15.0])
def test_angle_never_turns_down_outside_the_data(order, width_degrees):
    width = np.radians(width_degrees)
    values = np.random.default_rng(0).normal(np.radians(100.0), width, 20_000)
    theta, energy = check_angle(histogram_of(values, 0.0, np.pi), order)
    assert abs(np.degrees(theta[energy.argmin()]) - 100.0) < max(20.0, width_degrees) + 60.0 / order


@settings(max_examples=60, deadline=None)
@given(
    centres=st.lists(st.floats(0.2, 3.0), min_size=1, max_size=3),
    width=st.floats(0.005, 0.4),
    order=st.integers(1, 10),
    ridge=st.sampled_from([0.0, 1e-3, 1.0]),
    size=st.sampled_from([50, 5000]),
)
def test_angle_of_anything_is_confining(centres, width, order, ridge, size):
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(centre, width, size) for centre in centres])
    check_angle(histogram_of(np.clip(values, 0.01, np.pi - 0.01), 0.0, np.pi), order, ridge)


@pytest.mark.parametrize(
    ("cosines", "sines"), [([0.0, 0.5, 0.0, 0.3], [0.0, 0.2, -0.4, 0.0]), ([0.0, 0.0], [0.0, 0.0])]
)
def test_dihedral_of_a_known_series(cosines, sines):
    order = len(cosines) - 1
    true = np.array([*cosines, *sines[1:]])

    def energy(phi):
        return periodic_basis(phi, order) @ true

    dihedrals = histogram_of(draw(energy, np.ones_like, -np.pi, np.pi, SIZE), -np.pi, np.pi)
    found_cos, found_sin = fit_dihedral(dihedrals, 5, 1e-3, KT)
    np.testing.assert_allclose(found_cos[1 : order + 1], cosines[1:], atol=0.02)
    np.testing.assert_allclose(found_sin[: order + 1], sines, atol=0.02)
    assert np.abs(np.concatenate([found_cos[order + 1 :], found_sin[order + 1 :]])).max(initial=0.0) < 0.02


@settings(max_examples=40, deadline=None)
@given(
    centres=st.lists(st.floats(-3.1, 3.1), min_size=1, max_size=3),
    width=st.floats(0.02, 1.0),
    order=st.integers(1, 10),
    ridge=st.sampled_from([1e-5, 1e-3, 1.0]),
)
def test_dihedral_of_anything_stays_high_where_there_are_no_data(centres, width, order, ridge):
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(centre, width, 3000) for centre in centres])
    dihedrals = histogram_of((values + np.pi) % (2 * np.pi) - np.pi, -np.pi, np.pi)
    cosines, sines = fit_dihedral(dihedrals, order, ridge, KT)
    energy = periodic_basis(dihedrals.centres, order) @ np.concatenate([cosines, sines[1:]])
    target, _, known = dihedral_target(dihedrals, KT)
    assert np.isfinite(energy).all()
    if not known.all():
        # Every fourth of the low points is held below; between them the series is smooth.
        assert energy[~known].min() > energy[target < KT][::4].max() - 1e-2 * KT


def repulsion(r, epsilon, r_min):
    return epsilon * ((r_min / r) ** 6 - 1.0) ** 2 if r < r_min else 0.0


@pytest.mark.parametrize("epsilon_kT", [0.5, 4.0, 10.0])
@pytest.mark.parametrize("smallest", [[4.7, 3.6, 3.7], [9.0, 8.0, 7.0], [np.inf, np.inf, np.inf], [4.0, 2.5, 3.1]])
def test_repulsion_is_strong_at_contact_and_zero_on_the_data(smallest, epsilon_kT):
    r_min, origins = fit_repulsion(np.array(smallest), epsilon_kT)
    for found, value, default, origin in zip(smallest, r_min, DEFAULT_R_MIN_A, origins, strict=True):
        assert repulsion(3.0, epsilon_kT, value) >= 3.0
        assert value <= max(default, value * origin.startswith("raised"))
        if not origin.startswith("raised"):
            assert value <= found
        assert ("no such pair" in origin) == (found == np.inf)


def config(**settings):
    return PriorsConfig(min_frames=10, **settings)


def test_small_proteins_have_no_angles_or_dihedrals():
    for n_beads, n_series in ((1, 0), (2, 0), (3, 1), (4, 2)):
        prior = fit_priors([protein_of(random_chain(n_beads, 50))], config(), 320.0, 12.0)
        assert prior.angle_coeffs.shape == (9,)
        assert prior.dihedral_cos.shape == prior.dihedral_sin.shape == (5,)
        assert prior.angle_coeffs.any() == (n_series >= 1)
        assert prior.dihedral_cos.any() == (n_series == 2)
        assert (prior.bond_k > 0) == (n_beads > 1)


def test_all_proteins_count_equally_per_frame():
    long, short = protein_of(random_chain(6, 40, 1)), protein_of(random_chain(6, 20, 2), name="other")
    both = fit_priors([long, short], config(), 320.0, 12.0)
    joined = protein_of(np.concatenate([long.positions, short.positions]))
    for one, other in zip(both, fit_priors([joined], config(), 320.0, 12.0), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_weights_and_strength_come_from_the_config():
    chosen = config(repulsion_epsilon_kT=2.5, weights={"bond": 2.0, "repulsion": 0.0})
    prior = fit_priors([protein_of(random_chain(6, 40))], chosen, 320.0, 12.0)
    np.testing.assert_array_equal(prior.weights, [2.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(prior.repulsion_epsilon, 2.5 * KT, rtol=1e-6)


def test_bad_input():
    chain = random_chain(6, 40)
    with pytest.raises(UserError, match="40 training frames at 320 K, the priors need 100"):
        fit_priors([protein_of(chain)], PriorsConfig(), 320.0, 12.0)
    with pytest.raises(UserError, match="unit"):
        fit_priors([protein_of(chain / 10.0)], config(), 320.0, 12.0)
    with pytest.raises(UserError, match="do not vary"):
        fit_priors([protein_of(np.repeat(chain[:1, :2], 40, axis=0))], config(), 320.0, 12.0)
    with pytest.raises(UserError, match=r"cutoff_A.* is 3"):
        fit_priors([protein_of(chain)], config(), 320.0, 3.0)
