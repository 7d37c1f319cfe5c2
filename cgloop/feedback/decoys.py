"""Choosing decoys: which frames, and which of their beads, say that the network should leave the prior alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.config.feedback import DecoysConfig
from cgloop.data.decoys import Decoys
from cgloop.feedback.reference import Coverage
from cgloop.train.decoys import distinct
from cgloop.validate.geometry import pair_distances


@dataclass(frozen=True, eq=False)
class Candidates:
    """Frames of one replica in one stage, in time order.

    Attributes:
        stage, replica: of what.
        steps: int [F], MD step of each.
        positions: [F, N, 3], Å.
        reason: why they are looked at.
    """

    stage: str
    replica: int
    steps: np.ndarray
    positions: np.ndarray
    reason: str


def mask_of(positions: np.ndarray, coverage: Coverage, margin_A: float, cutoff_A: float) -> np.ndarray:
    """Beads with a pair outside the distribution within the cutoff, bool [F, N]; none where a frame is not finite.

    A pair is outside when its distance lies more than the margin beyond its range in the training frames. One that is
    further apart than the cutoff is nothing that the network sees.

    Args:
        positions: [F, N, 3], Å.
        coverage: ranges of the training frames.
        margin_A: beyond these.
        cutoff_A: of the network.
    """
    i, j = np.triu_indices(coverage.n_beads, 1)
    pairs = np.stack([i, j], axis=1)
    mask = np.zeros(positions.shape[:2], bool)
    for k, frame in enumerate(positions):
        if not np.isfinite(frame).all() or not len(pairs):
            continue
        distance = pair_distances(frame[None], pairs)[0]
        beyond = np.maximum(coverage.minimum - distance, distance - coverage.maximum)
        out = (beyond > margin_A) & (distance <= cutoff_A)
        mask[k, i[out]] = mask[k, j[out]] = True
    return mask


def select_decoys(
    protein: str,
    linked: np.ndarray,
    coverage: Coverage,
    candidates: Sequence[Candidates],
    n_training: int,
    config: DecoysConfig,
    *,
    cutoff_A: float,
    min_distance_A: float,
    cycle: int,
) -> Decoys:
    """Decoys of one protein from what its MD went through.

    Of each replica the frames in which it leaves the distribution come first, and then evenly spaced ones; replicas
    take turns. Frames that are nearly the same count once, and together they are no more than the share allows.

    Args:
        protein: its name.
        linked: bool [N-1].
        coverage: of its training frames.
        candidates: by replica and stage.
        n_training: number of training frames, of which decoys may be `max_share`.
        config: bounds.
        cutoff_A: of the network.
        min_distance_A: frames in which two beads are nearer are left out: the learned force is so steep there that few
            of them would outweigh the data, and such states are to be avoided, not described.
        cycle: recorded.
    """
    rows: list[tuple[int, int, int]] = []
    frames, masks = [], []
    for number, one in enumerate(candidates):
        mask = mask_of(one.positions, coverage, config.margin_A, cutoff_A)
        outside = np.flatnonzero(mask.any(axis=1) & (_closest(one.positions) >= min_distance_A))
        order = outside[_first_then_even(len(outside))]
        own = order[distinct(one.positions[order].astype(float), config.min_rmsd_A, config.per_replica)]
        for turn, k in enumerate(own):
            rows.append((turn, number, int(k)))
            frames.append(one.positions[k])
            masks.append(mask[k])
    n = coverage.n_beads
    every = np.array(frames, np.float32).reshape(-1, n, 3)
    turns = np.array(sorted(range(len(rows)), key=lambda k: rows[k][:2]), int)
    chosen = turns[distinct(every[turns].astype(float), config.min_rmsd_A, int(config.max_share * n_training))]
    where = [(candidates[rows[k][1]], rows[k][2]) for k in chosen]
    origin = {
        "cycle": np.full(len(chosen), cycle, np.int32),
        "stage": np.array([one.stage for one, _ in where], object),
        "replica": np.array([one.replica for one, _ in where], np.int32),
        "step": np.array([one.steps[k] for one, k in where], np.int64),
        "reason": np.array([one.reason for one, _ in where], object),
    }
    mask = np.array(masks, bool).reshape(-1, n)[chosen]
    return Decoys(protein, coverage.residue_type.astype(np.int8), linked, every[chosen], mask, origin)


def _closest(positions: np.ndarray) -> np.ndarray:
    """Smallest distance of two beads in each frame [F, N, 3], Å; NaN where a frame is not finite."""
    pairs = np.stack(np.triu_indices(positions.shape[1], 1), axis=1)
    return np.array([pair_distances(frame[None], pairs).min(initial=np.inf) for frame in positions])


def _first_then_even(n: int) -> np.ndarray:
    """All of 0 … n−1: the first, the last, the middle, the middles of what is left, and so on."""
    order, spans = ([0, n - 1] if n > 1 else [0][:n]), [(0, n - 1)]
    while spans:
        first, last = spans.pop(0)
        middle = (first + last) // 2
        if last - first < 2:
            continue
        order.append(middle)
        spans += [(first, middle), (middle, last)]
    return np.array(order, int)
