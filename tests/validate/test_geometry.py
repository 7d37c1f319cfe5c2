"""Observables of frames against MDAnalysis and closed forms."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cgloop.validate import geometry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from MDAnalysis.analysis.rms import rmsd as mda_rmsd


@given(st.integers(0, 10**6), st.integers(4, 30))
@settings(max_examples=30, deadline=None)
def test_rmsd_agrees_with_mdanalysis(seed, n):
    rng = np.random.default_rng(seed)
    native, frames = rng.normal(size=(n, 3)), rng.normal(size=(3, n, 3)) * 2 + 100
    rmsd, mirror = geometry.kabsch_rmsd(frames, native)
    assert rmsd == pytest.approx([mda_rmsd(x, native, center=True, superposition=True) for x in frames], abs=1e-6)
    reflected = native * [1, 1, -1]
    assert mirror == pytest.approx([mda_rmsd(x, reflected, center=True, superposition=True) for x in frames], abs=1e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_observables_do_not_change_with_rotation_and_translation(seed):
    rng = np.random.default_rng(seed)
    native, frame = rng.normal(size=(12, 3)) * 5, rng.normal(size=(1, 12, 3)) * 5
    turned = Rotation.random(random_state=seed).apply(frame[0])[None] + rng.normal(size=3) * 500
    for before, after in zip(geometry.kabsch_rmsd(frame, native), geometry.kabsch_rmsd(turned, native), strict=True):
        assert after == pytest.approx(before, abs=1e-6)
    assert geometry.radius_of_gyration(turned) == pytest.approx(geometry.radius_of_gyration(frame))


def test_mirror_image_swaps_the_two_rmsd(chain):
    _, native, trajectories = chain
    rmsd, mirror = geometry.kabsch_rmsd(trajectories[0][:50], native)
    swapped = geometry.kabsch_rmsd(trajectories[0][:50] * [-1, 1, 1], native)
    assert swapped[0] == pytest.approx(mirror, abs=1e-6)
    assert swapped[1] == pytest.approx(rmsd, abs=1e-6)
    assert (mirror > rmsd).all()


def test_rmsd_of_a_structure_to_itself_is_zero(chain):
    _, native, _ = chain
    rmsd, mirror = geometry.kabsch_rmsd(native[None] + 7.0, native)
    assert rmsd[0] == pytest.approx(0, abs=1e-6)
    assert mirror[0] == pytest.approx(2.814, abs=0.001)


def test_not_a_number_stays_so():
    frames = np.zeros((2, 5, 3))
    frames[0] = np.arange(15).reshape(5, 3)
    assert np.isfinite(geometry.radius_of_gyration(frames)).all()
    frames[1, 2, 0] = np.nan
    rmsd, mirror = geometry.kabsch_rmsd(frames, frames[0])
    assert np.isfinite([rmsd[0], mirror[0]]).all()
    assert np.isnan([rmsd[1], mirror[1]]).all()
    assert np.isnan(geometry.radius_of_gyration(frames)[1])


def test_gyration_of_two_beads():
    assert geometry.radius_of_gyration(np.array([[[0.0, 0, 0], [4.0, 0, 0]]]))[0] == pytest.approx(2.0)


def test_pairs_respect_separation_and_breaks():
    assert geometry.distant_pairs(np.ones(5, bool), 4).tolist() == [[0, 4], [0, 5], [1, 5]]
    linked = np.array([True, False, True])
    assert geometry.distant_pairs(linked, 4).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_native_contacts_are_the_close_pairs(chain):
    _, native, _ = chain
    pairs = geometry.distant_pairs(np.ones(9, bool), 4)
    contacts = geometry.native_contacts(native, pairs, 8.0)
    distance = np.linalg.norm(native[:, None] - native[None], axis=2)
    expected = [(i, j) for i in range(10) for j in range(i + 4, 10) if distance[i, j] < 8.0]
    assert [tuple(pair) for pair in contacts.pairs] == expected
    assert len(expected) == 10


def test_fraction_native_is_best_and_hummers_formula():
    native = np.array([[0.0, 0, 0], [6.0, 0, 0]])
    contacts = geometry.native_contacts(native, np.array([[0, 1]]), 8.0)
    for distance in (5.0, 7.2, 7.5, 30.0):
        q = geometry.fraction_native(np.array([[[0.0, 0, 0], [distance, 0, 0]]]), contacts, 5.0, 1.2)
        assert q[0] == pytest.approx(1 / (1 + np.exp(5.0 * (distance - 1.2 * 6.0))), abs=1e-12)


def test_fraction_native_without_contacts_is_undefined():
    none = geometry.native_contacts(np.zeros((3, 3)), np.zeros((0, 2), int), 8.0)
    assert np.isnan(geometry.fraction_native(np.zeros((4, 3, 3)), none, 5.0, 1.2)).all()
