"""Distances of samples against closed forms, quadrature and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm, wasserstein_distance

from cgloop.validate.distances import (
    ContactMap,
    Disagreement,
    Divergence,
    Surface,
    Wasserstein,
    between,
    bins_of,
    jensen_shannon,
)

QUANTILES = norm.ppf((np.arange(4000) + 0.5) / 4000)


def wasserstein(x, y):
    return between(Wasserstein.of(x, y), x, y)[0]


@given(st.floats(-5, 5), st.floats(0.1, 3))
def test_wasserstein_of_a_shift_is_the_shift(shift, width):
    assert wasserstein(width * QUANTILES + shift, width * QUANTILES) == pytest.approx(abs(shift), abs=2e-3)


def test_wasserstein_of_gaussians_of_different_widths():
    # |σ₁ − σ₂| √(2/π).
    assert wasserstein(2 * QUANTILES, QUANTILES) == pytest.approx(np.sqrt(2 / np.pi), rel=1e-3)
    assert wasserstein(QUANTILES, QUANTILES) == 0
    assert wasserstein(np.ones(5), np.ones(3)) == 0


@given(st.integers(0, 10**6))
def test_wasserstein_agrees_with_scipy_within_its_grid(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.gamma(2, size=rng.integers(1, 300)), rng.normal(size=rng.integers(1, 300))
    metric = Wasserstein.of(x, y)
    assert between(metric, x, y)[0] == pytest.approx(wasserstein_distance(x, y), abs=metric.spacing)


def test_divergence_of_gaussians_by_quadrature():
    p, q = norm(0, 1), norm(1.5, 1.7)

    def integrand(x):
        a, b = p.pdf(x), q.pdf(x)
        return 0.5 * (a * np.log2(2 * a / (a + b)) + b * np.log2(2 * b / (a + b)))

    expected = quad(integrand, -20, 20, limit=200)[0]
    edges = np.linspace(-10, 12, 441)
    assert jensen_shannon(np.diff(p.cdf(edges)), np.diff(q.cdf(edges))) == pytest.approx(expected, abs=2e-4)


@given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_divergence_is_the_square_of_scipys_distance(p, q):
    p, q = np.array(p, float), np.array(q, float)
    if not p.sum() or not q.sum():
        assert np.isnan(jensen_shannon(p, q))
        return
    value = jensen_shannon(p, q)
    assert value == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2)) ** 2, abs=1e-9)
    assert jensen_shannon(q, p) == pytest.approx(value)
    assert -1e-12 <= value <= 1 + 1e-12


def test_divergence_of_classes_counts_every_coordinate_alike():
    """Three coordinates in two classes: the first class agrees, the second is disjoint, a third is left out."""
    metric = Divergence(np.array([0, 0, 1, 2]), 2, np.array([2.0, 1.0, 0.0]))
    model = np.array([[0, 1, 0, 0], [1, 0, 0, 0]])
    reference = np.array([[1, 1, 1, 1], [0, 0, 1, 1]])
    assert between(metric, model, reference)[0] == pytest.approx(1 / 3)
    summaries = metric.summaries(model, np.array([0, 1]))
    assert summaries.sum(axis=0).tolist() == [[2, 2], [2, 0], [2, 0]]


def maps(p, frames=1000):
    """Contacts [frames, len(p)] with exactly these probabilities."""
    return (np.arange(frames)[:, None] < np.round(np.array(p) * frames)).astype(np.uint8)


def contact_differences(p, q):
    return between(ContactMap.of(maps(p), maps(q)), maps(p), maps(q))


def test_contact_differences_by_hand():
    p, q = [0.9, 0.5, 0.0, 0.2, 0.0], [0.8, 0.7, 0.01, 0.2, 0.0]
    mad, one_minus_r = contact_differences(p, q)
    # The third pair is below 0.05 in both maps.
    assert mad == pytest.approx((0.1 + 0.2 + 0.0) / 3)
    assert one_minus_r == pytest.approx(1 - np.corrcoef([0.9, 0.5, 0.2], [0.8, 0.7, 0.2])[0, 1])


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ([0.0, 0.0, 0.0], [0.9, 0.5, 0.3], [0.5667, 1.0]),
        ([1.0, 1.0], [1.0, 1.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_contact_maps_without_variation(p, q, expected):
    """They have no correlation with others; that of parts counts as 0, so that noise and errors are numbers."""
    assert between(ContactMap(np.arange(len(p))), maps(p), maps(q)) == pytest.approx(expected, abs=1e-3)
    mad, one_minus_r = contact_differences(p, q)
    assert mad == pytest.approx(expected[0], abs=1e-3)
    assert np.isnan(one_minus_r) if mad else one_minus_r == 0.0


def test_disagreement_is_the_models_alone():
    model = np.array([[True, False], [True, True]])
    assert between(Disagreement(), model, np.zeros((5, 2), bool)) == pytest.approx([0.25])


def surface(counts, kT=0.6):
    return Surface(len(counts), kT, 4.0, np.array(counts, float))


def frames_of(counts, elsewhere=0):
    return np.repeat(np.arange(len(counts) + 1), [*counts, elsewhere])


def test_surfaces_that_differ_by_a_constant_are_the_same():
    metric = surface([100, 50, 10])
    mae, rmse, divergence, missed = between(metric, frames_of([200, 100, 20]), frames_of([100, 50, 10]))
    assert [mae, rmse, divergence, missed] == pytest.approx([0, 0, 0, 0], abs=1e-12)
    # Frames elsewhere are no error of the surface, but of the distribution.
    mae, _, divergence, _ = between(metric, frames_of([200, 100, 20], 320), frames_of([100, 50, 10]))
    assert mae == pytest.approx(0, abs=1e-12)
    assert divergence > 0.3


def test_surface_by_hand():
    """Two states with 3:1 in the reference and 1:1 in the model: ΔΔF = kT ln 3, shared by the shift as 1:3."""
    mae, rmse, _, _ = between(surface([300, 100]), frames_of([5, 5]), frames_of([300, 100]))
    gap = 0.6 * np.log(3)
    assert mae == pytest.approx(2 * 0.75 * 0.25 * gap)
    assert rmse == pytest.approx(np.sqrt(0.75 * 0.25) * gap)


def test_model_in_one_state_or_elsewhere_is_far_off():
    metric = surface([100, 100, 100, 100])
    mae, _, _, missed = between(metric, frames_of([50, 0, 0, 0]), frames_of([100] * 4))
    assert (mae, missed) == (pytest.approx(3.0), 0.75)
    mae, _, divergence, missed = between(metric, frames_of([0, 0, 0, 0], 50), frames_of([100] * 4))
    assert [mae, divergence, missed] == pytest.approx([4.0, 1.0, 1.0])


def test_states_above_the_cutoff_do_not_count():
    counts = [100_000, 50]
    assert surface(counts).counted.tolist() == [True, False]
    assert surface([100_000, 500]).counted.tolist() == [True, True]


def test_values_beyond_the_bins_are_in_the_last_ones():
    assert bins_of(np.array([-1.0, 0.0, 0.49, 0.5, 1.99, 2.0, 9.0]), [0.0, 0.5, 1.0, 1.5, 2.0]).tolist() == [
        0, 0, 0, 1, 3, 3, 3
    ]  # fmt: skip
