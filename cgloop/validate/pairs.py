"""Distances of beads that are far apart along the chain, by how far."""

import numpy as np

from cgloop.checks import Check
from cgloop.validate.local import DIVERGENCE, Coordinates, divergence_view
from cgloop.validate.observables import Protein
from cgloop.validate.structure import StructuralCheck, Target, View

DISTANCES = Check(
    "pair.distances",
    "CA–CA distances",
    "",
    "at most",
    f"{DIVERGENCE}CA–CA distances in declared bins, of pairs at least four apart along the chain, by separation, "
    "mean over pairs, at most 1,000 evenly chosen ones; separations with too few effective samples are left out.",
)

NARROW_SEPARATION = 8
"""Up to here each separation is a class; beyond, classes double in width."""


def separation_classes(protein: Protein) -> tuple[np.ndarray, list[str]]:
    """Class of each measured pair [P'] by separation along the chain: 4, 5, … 8, 9–16, 17–32, …, other chains."""
    i, j = protein.measured_pairs.T
    piece = np.concatenate([[0], np.cumsum(~protein.linked)])
    separation = j - i
    width = np.where(separation > NARROW_SEPARATION, np.ceil(np.log2(np.maximum(separation, 1) / NARROW_SEPARATION)), 0)
    low = np.where(width > 0, NARROW_SEPARATION * 2.0 ** (width - 1) + 1, separation).astype(int)
    high = np.where(width > 0, NARROW_SEPARATION * 2.0**width, separation).astype(int)
    # Between linked pieces there is no separation along a chain: the class before all others.
    low, high = (np.where(piece[i] == piece[j], bound, 0) for bound in (low, high))
    known, class_of = np.unique(np.stack([low, high], axis=1), axis=0, return_inverse=True)
    names = ["other chain" if b == 0 else f"{a}" if a == b else f"{a}–{b}" for a, b in known.tolist()]
    return class_of.ravel(), [f"|i − j| = {name}" if name != "other chain" else name for name in names]


def _view(target: Target) -> View:
    width = target.settings.pair_bin_A
    farthest = max((float(frames.distances.max(initial=0.0)) for frames in target.frames), default=0.0)
    # As far as the reference reaches; the last bin takes what is farther in a model.
    edges = width * np.arange(int(np.ceil(farthest / width)) + 2)
    coordinates = Coordinates(
        "distances", lambda frames: frames.distances, edges, *separation_classes(target.protein), together=True
    )
    return divergence_view(target, coordinates, target.settings.pair_divergence)


COMPARISONS = (StructuralCheck(DISTANCES, _view),)
