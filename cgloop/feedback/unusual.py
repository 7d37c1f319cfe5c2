"""Frames of replicas that survived which are far from the data, or on which an ensemble disagrees."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cgloop.config.feedback import NearMissConfig
from cgloop.feedback.decoys import Candidates
from cgloop.feedback.reference import Coverage
from cgloop.feedback.words import length, number

Disagreement = Callable[[np.ndarray], np.ndarray]
"""Frames [F, N, 3] Å to the root mean square over beads of the members' disagreement, [F], as a multiple of that on
validation frames."""


def unusual_frames(
    survivors: Sequence[Candidates], coverage: Coverage, config: NearMissConfig, disagreement: Disagreement | None
) -> list[dict[str, Any]]:
    """The frames to look at, one a replica at most, the worst first.

    Args:
        survivors: trajectories.
        coverage: ranges of the training frames.
        config: from when on a frame is unusual, and how many are listed.
        disagreement: of an ensemble, if there is one.

    Returns:
        `{stage, replica, step, outside_A, disagreement, reason}`.
    """
    found: list[dict[str, Any]] = []
    for one in survivors:
        if not len(one.positions):
            continue
        frames = one.positions
        outside = np.nan_to_num(coverage.outside(frames), nan=np.inf)
        ratio = np.zeros(len(frames)) if disagreement is None else np.nan_to_num(disagreement(frames), nan=np.inf)
        badness = np.maximum(outside / config.outside_A, ratio / config.disagreement)
        k = int(np.argmax(badness))
        if badness[k] < 1.0:
            continue
        reasons = []
        if outside[k] >= config.outside_A:
            reasons.append(f"a distance lies {length(float(outside[k]))} beyond the {coverage.what} frames")
        if ratio[k] >= config.disagreement:
            reasons.append(f"members disagree {number(float(ratio[k]))} times as much as on validation frames")
        found.append(
            {
                "stage": one.stage,
                "replica": one.replica,
                "step": int(one.steps[k]),
                "outside_A": float(outside[k]),
                "disagreement": float(ratio[k]) if disagreement is not None else None,
                "reason": " and ".join(reasons),
                "badness": float(badness[k]),
            }
        )
    found.sort(key=lambda entry: (-entry["badness"], entry["stage"], entry["replica"]))
    return [{key: value for key, value in entry.items() if key != "badness"} for entry in found[: config.frames]]
