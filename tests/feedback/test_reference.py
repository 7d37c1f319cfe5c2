"""Coverage of the training data, against SciPy and brute force."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from cgloop.data.dataset import DatasetReader
from cgloop.feedback import reference
from cgloop.feedback.distribution import load_distribution
from cgloop.feedback.reference import coverage_of


def test_ranges_are_those_of_scipy(coverage, dataset_dir):
    training = DatasetReader.open(dataset_dir).load("cln025", split="train", temperature_K=320)
    distances = np.array([pdist(frame.astype(float)) for frame in training.positions])
    np.testing.assert_allclose(coverage.minimum, distances.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(coverage.maximum, distances.max(axis=0), rtol=1e-6)
    np.testing.assert_allclose(coverage.mean, distances.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(coverage.deviation, distances.std(axis=0), rtol=1e-5)
    assert coverage.n_frames == len(training.positions)
    assert coverage.what == "training"


def test_blocks_do_not_matter(protein, monkeypatch):
    whole = coverage_of(protein, "reference")
    monkeypatch.setattr(reference, "BLOCK_DISTANCES", 100)
    np.testing.assert_allclose(coverage_of(protein, "reference").mean, whole.mean, rtol=1e-12)


def test_pairs_are_found_in_either_order(coverage, protein):
    from_frames = np.linalg.norm(
        protein.select(split="train").positions[:, 3] - protein.select(split="train").positions[:, 8], axis=-1
    )
    assert coverage.pair(3, 8) == coverage.pair(8, 3)
    assert coverage.pair(3, 8)["min"] == pytest.approx(from_frames.min(), rel=1e-5)


def test_training_frames_are_inside_and_a_stretched_one_is_outside(coverage, protein):
    frames = protein.select(split="train").positions[:5].astype(float)
    assert coverage.outside(frames).max() < 1e-5
    moved = frames[:1].copy()
    moved[0, 0] += 100.0
    far = np.linalg.norm(moved[0, 1:] - moved[0, 0], axis=-1)
    expected = max(far[j - 1] - coverage.pair(0, j)["max"] for j in range(1, 10))
    assert coverage.outside(moved)[0] == pytest.approx(expected)
    moved[0, 3] = np.nan
    assert np.isnan(coverage.outside(moved)[0])


def test_a_protein_that_is_not_in_the_data_set(dataset_dir):
    assert load_distribution(dataset_dir, "1l2y") is None
