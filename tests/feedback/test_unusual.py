"""Frames of survivors that are worth a look."""

import numpy as np

from cgloop.config.feedback import NearMissConfig
from cgloop.feedback.decoys import Candidates
from cgloop.feedback.unusual import unusual_frames
from tests.feedback.test_decoys import N, coverage_of_range


def survivor(replica, spacings):
    """A straight chain whose neighbours are so far apart, frame by frame."""
    line = np.arange(N)[:, None] * np.array([1.0, 0.0, 0.0])
    return Candidates("nvt", replica, 10 * np.arange(len(spacings)), np.stack([s * line for s in spacings]), "x")


def test_the_worst_frame_of_each_replica_the_worst_first():
    # The ends are 5 spacings apart; up to 20 Å were seen.
    runs = [survivor(0, [3.8, 4.1, 4.4, 3.9]), survivor(1, [3.8, 3.9]), survivor(2, [5.0, 4.0])]
    found = unusual_frames(runs, coverage_of_range(3.0, 20.0), NearMissConfig(outside_A=1.0), None)
    assert [(one["replica"], one["step"]) for one in found] == [(2, 0), (0, 20)]
    assert np.isclose(found[0]["outside_A"], 5.0)
    assert "5.00 Å beyond the training frames" in found[0]["reason"]
    assert found[0]["disagreement"] is None
    few = unusual_frames(runs, coverage_of_range(3.0, 20.0), NearMissConfig(outside_A=1.0, frames=1), None)
    assert few == found[:1]


def test_members_that_disagree_are_a_reason_of_their_own():
    def ratio(frames):
        return np.linspace(1.0, 4.0, len(frames))

    found = unusual_frames([survivor(0, [3.8, 3.8, 3.8])], coverage_of_range(3.0, 20.0), NearMissConfig(), ratio)
    assert [(one["step"], one["disagreement"]) for one in found] == [(20, 4.0)]
    assert "disagree 4.00 times" in found[0]["reason"]
    assert unusual_frames([survivor(0, [3.8])], coverage_of_range(3.0, 20.0), NearMissConfig(), ratio) == []


def test_a_frame_that_is_not_finite_is_the_worst():
    found = unusual_frames([survivor(0, [3.8, np.nan])], coverage_of_range(3.0, 20.0), NearMissConfig(), None)
    assert [one["step"] for one in found] == [10]
