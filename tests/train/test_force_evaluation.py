"""Metrics of forces against closed forms."""

import numpy as np
import pytest

from cgloop.train.evaluate import (
    ForceTally,
    evaluate_forces,
    metric_sums,
    metrics_of,
    rmse_difference,
    trajectory_blocks,
)
from cgloop.train.loader import FrameSet


@pytest.fixture(scope="module")
def frames(make_protein):
    return FrameSet(
        [make_protein("long", "0 7 4 7 0", frames=40, noise=1.0), make_protein("short", "7 2", frames=12, seed=2)], 9.0
    )


def force_metrics(predicted, reference):
    return metrics_of(metric_sums(predicted, reference).sum(axis=0))


def difference(a, b, reference, block, seed):
    squares = [np.bincount(block, weights=np.sum((x - reference) ** 2, axis=1)) for x in (a, b)]
    return rmse_difference(np.stack(squares), 3.0 * np.bincount(block), seed)


def test_metrics_of_known_deviations():
    reference = np.array([[3.0, 0, 0], [0, 4, 0]])
    predicted = np.array([[3.0, 3, 0], [0, 2, 0]])
    metrics = force_metrics(predicted, reference)
    assert metrics["rmse"] == pytest.approx(np.sqrt((9 + 4) / 6))
    assert metrics["mae"] == pytest.approx(5 / 6)
    assert metrics["cosine"] == pytest.approx((np.sqrt(0.5) + 1) / 2)
    mean = 7 / 6
    spread = (3 - mean) ** 2 + (4 - mean) ** 2 + 4 * mean**2
    assert metrics["r2"] == pytest.approx(1 - 13 / spread)


def test_no_prediction_has_no_direction():
    reference = np.array([[1.0, -1, 0], [0, 2, -2]])
    metrics = force_metrics(np.zeros((2, 3)), reference)
    assert metrics["cosine"] is None
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(reference**2)))
    assert metrics["r2"] == pytest.approx(0.0)
    assert force_metrics(reference, reference) == {"rmse": 0.0, "mae": 0.0, "cosine": pytest.approx(1.0), "r2": 1.0}


def test_cosine_and_r2_agree_with_numpy_correlation():
    random = np.random.default_rng(0)
    reference = random.standard_normal((500, 3))
    predicted = 0.6 * reference + 0.3 * random.standard_normal((500, 3))
    metrics = force_metrics(predicted, reference)
    cosines = np.einsum("ij,ij->i", predicted, reference)
    cosines /= np.linalg.norm(predicted, axis=1) * np.linalg.norm(reference, axis=1)
    assert metrics["cosine"] == pytest.approx(cosines.mean())
    assert metrics["r2"] == pytest.approx(1 - np.var(predicted - reference) / np.var(reference), abs=1e-3)


def test_blocks_are_runs_of_one_trajectory(frames):
    block = trajectory_blocks(frames, per_trajectory=4)
    # Four trajectories of the first protein with 10 frames each, four of the second with 3.
    assert len(np.unique(block)) == 4 * 4 + 4 * 3
    assert (np.diff(block) >= 0).all()
    for value in np.unique(block):
        members = block == value
        assert len(np.unique(frames.protein[members])) == len(np.unique(frames.replica[members])) == 1


def test_bootstrap_error_is_that_of_independent_blocks():
    # Mean squares of independent frames have a known standard error; blocks of them must find it.
    random = np.random.default_rng(1)
    n = 4000
    reference = np.zeros((n, 3))
    a, b = random.standard_normal((n, 3)), 2.0 * random.standard_normal((n, 3))
    found = difference(a, b, reference, np.arange(n) // 20, seed=0)
    # RMSE of N normal components of deviation s has the standard error s/sqrt(2N).
    expected = 1.96 * np.sqrt(1 + 4) / np.sqrt(2 * 3 * n)
    assert found["blocks"] == 200
    assert found["value"] == pytest.approx(-1.0, abs=0.05)
    assert found["error"] == pytest.approx(expected, rel=0.2)
    assert found == difference(a, b, reference, np.arange(n) // 20, seed=0)


def test_what_is_common_to_both_cancels_in_the_difference():
    random = np.random.default_rng(2)
    reference = 10.0 * random.standard_normal((2000, 3))
    a = 0.1 * random.standard_normal((2000, 3))
    found = difference(a, np.zeros_like(a), reference, np.arange(2000) // 20, seed=0)
    single = 1.96 * 10 / np.sqrt(2 * 6000)
    assert found["error"] < 0.1 * single


def test_correlated_frames_widen_the_error():
    random = np.random.default_rng(3)
    scale = np.repeat(random.uniform(0.5, 2.0, 100), 20)[:, None]
    a = scale * random.standard_normal((2000, 3))
    zero = np.zeros_like(a)
    in_blocks = difference(a, zero, zero, np.arange(2000) // 20, seed=0)["error"]
    as_if_independent = difference(a, zero, zero, np.arange(2000), seed=0)["error"]
    assert in_blocks > 1.5 * as_if_independent


def test_table_per_residue_type_and_bead(frames):
    random = np.random.default_rng(4)
    full = frames.reference + random.standard_normal(frames.reference.shape).astype(np.float32)
    prior = (0.5 * frames.reference).astype(np.float32)
    tally = ForceTally(frames, ["full", "prior-only", "zero"])
    for chosen in np.array_split(np.arange(frames.n_frames), 3):
        bead, _ = frames.beads.take(chosen)
        tally.add(chosen, {"full": full[bead], "prior-only": prior[bead], "zero": 0 * prior[bead]})
    table = evaluate_forces(tally, split="test", seed=0)
    assert table["split"] == "test"
    assert table["n_frames"] == 52
    assert table["frames_per_protein"] == {"long": 40, "short": 12}
    assert table["rmse_zero"] == pytest.approx(float(np.sqrt(np.mean(frames.reference.astype(float) ** 2))))
    assert table["full_minus_prior"]["value"] == pytest.approx(table["rmse_full"] - table["rmse_prior"])
    counts = {name: entry["count"] for name, entry in table["per_residue_type"].items()}
    assert counts == {"ALA": 80, "CYS": 40, "GLY": 80 + 12, "ASN": 12}
    # Weighted by their counts, the parts give the whole.
    total = sum(e["count"] * e["full"]["rmse"] ** 2 for e in table["per_residue_type"].values())
    assert np.sqrt(total / sum(counts.values())) == pytest.approx(table["rmse_full"])
    bead = table["per_bead"]["long"]
    assert bead["residues"] == ["ALA", "GLY", "CYS", "GLY", "ALA"]
    own = slice(0, 200)
    expected = np.sqrt(np.mean((full[own] - frames.reference[own]).reshape(40, 5, 3) ** 2, axis=(0, 2)))
    np.testing.assert_allclose(bead["rmse"]["full"], expected, rtol=1e-5)


def test_whole_proteins_are_resampled_where_they_are_held_out(frames):
    """Two proteins, one much better than the other: the error over proteins spans both, that over blocks does not."""
    errors = np.where(frames.protein == 0, 0.5, 3.0)[np.repeat(np.arange(frames.n_frames), frames.beads.counts)]
    full = frames.reference + errors[:, None]
    found = []
    for whole in (False, True):
        tally = ForceTally(frames, ["full", "prior-only", "zero"], whole)
        zero = np.zeros_like(full)
        tally.add(np.arange(frames.n_frames), {"full": full, "prior-only": frames.reference + 1.0, "zero": zero})
        found.append(tally.difference(seed=0))
    assert [one["resampled"] for one in found] == ["blocks of trajectories", "proteins"]
    assert found[1]["blocks"] == 2
    # A quarter of the draws each is one protein twice.
    assert found[1]["error"] == pytest.approx(0.5 * (3.0 - 0.5), rel=1e-5)
    assert found[0]["error"] < 0.5 * found[1]["error"]
