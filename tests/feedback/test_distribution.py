"""Distance from the training data, against MDAnalysis and SciPy; the prior alone; the outbox."""

import numpy as np
import pytest
from MDAnalysis.analysis.rms import rmsd
from MDAnalysis.lib.distances import calc_dihedrals
from scipy.stats import circmean

from cgloop.feedback.distribution import in_words, load_distribution


@pytest.fixture(scope="module")
def known(dataset_dir):
    return load_distribution(dataset_dir, "cln025")


def test_scores_of_a_bent_chain(known):
    frame = known.frames.positions[7].astype(float)
    frame[9] += 6.0 * (frame[9] - frame[8]) / np.linalg.norm(frame[9] - frame[8])
    place = known.place(frame)
    bond = place["scores"]["bonds"]
    lengths = np.linalg.norm(known.frames.positions[:, 9].astype(float) - known.frames.positions[:, 8], axis=1)
    assert bond["beads"] == [8, 9]
    assert bond["z"] == pytest.approx((np.linalg.norm(frame[9] - frame[8]) - lengths.mean()) / lengths.std(), rel=1e-6)
    assert bond["unusual"] == pytest.approx(1 / 9)
    assert place["outside_A"] > 4
    assert "bond" in in_words(place, "training", tuple("ABCDEFGHIJ"))


def test_dihedrals_are_circular(known):
    quantity = known.quantities["dihedrals"]
    x = known.frames.positions
    for (a, b, c, d), mean, sd in zip(quantity.beads, quantity.mean, quantity.deviation, strict=True):
        angles = np.degrees(calc_dihedrals(x[:, a], x[:, b], x[:, c], x[:, d]))
        expected = circmean(angles, high=180, low=-180)
        assert abs((mean - expected + 180) % 360 - 180) < 1e-3
        assert 0 < sd < 180
        assert sd == pytest.approx(np.sqrt(np.mean(((angles - expected + 180) % 360 - 180) ** 2)), rel=1e-3)


def test_nearest_frame(known):
    frames = known.frames.positions.astype(float)
    moved = frames[123] + 0.3 * np.random.default_rng(0).normal(size=frames[123].shape)
    expected = [rmsd(one, moved, superposition=True) for one in frames]
    near = known.nearest(moved)
    k = int(np.argmin(expected))
    assert near["rmsd_A"] == pytest.approx(expected[k], rel=1e-5)
    assert (near["replica"], near["source_frame"]) == (known.frames.replica[k], known.frames.source_frame[k])
    assert known.place(np.full((10, 3), np.nan)) is None
