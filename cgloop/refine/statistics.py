"""What tells whether a refinement goes the right way: distances, crossings, overfitting, force error, free energies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import wasserstein_distance

from cgloop.refine.result import Distances
from cgloop.validate.observables import Frames
from cgloop.validate.statistics import jackknife_half_width, student_t

FOLDED, UNFOLDED = 0.7, 0.3
"""A chain crosses into a basin when its share of native contacts rises above the one, or falls below the other."""

ENOUGH_CROSSINGS = 10
"""In each direction, over all chains, for populations of basins to be determined."""

FEWEST_PARTS = 3
"""Of two lineages nobody knows how far a third one would be from them."""

BLOCKS = 10
"""Consecutive blocks of each trajectory that are the unit of the error of a paired force error. Most of it is noise of
single frames: it does not depend on where in the ensemble a lineage is."""


def distances(frames: Frames, reference: Frames) -> Distances:
    """Return how far an ensemble is from the reference, both with at least one frame."""
    q = None if np.isnan(reference.q).any() else float(wasserstein_distance(frames.q, reference.q))
    contacts = np.abs(frames.contacts.mean(axis=0) - reference.contacts.mean(axis=0))
    return Distances(
        rmsd_A=float(wasserstein_distance(frames.rmsd, reference.rmsd)),
        q=q,
        rg_A=float(wasserstein_distance(frames.rg, reference.rg)),
        contacts=float(contacts.mean()) if len(contacts) else 0.0,
    )


@dataclass
class Crossings:
    """Counts how often chains cross between the folded and the unfolded basin.

    Attributes:
        basin: int8 [R], 1 folded, -1 unfolded, 0 not known yet.
        folded, unfolded: crossings into each basin so far.
    """

    basin: np.ndarray
    folded: int = 0
    unfolded: int = 0

    @classmethod
    def of(cls, chains: int) -> "Crossings":
        """Return counts of zero for so many chains."""
        return cls(np.zeros(chains, np.int8))

    def add(self, q: np.ndarray, sound: np.ndarray) -> None:
        """Follow the chains through a block: share of native contacts [R, K], and which frames are sound."""
        for k in range(q.shape[1]):
            now = np.where(q[:, k] > FOLDED, 1, np.where(q[:, k] < UNFOLDED, -1, 0)) * sound[:, k]
            self.folded += int(((now == 1) & (self.basin == -1)).sum())
            self.unfolded += int(((now == -1) & (self.basin == 1)).sum())
            self.basin = np.where(now != 0, now, self.basin).astype(np.int8)

    def forget(self, chains: np.ndarray) -> None:
        """Chains that start again elsewhere have not crossed."""
        self.basin[chains] = 0

    @property
    def enough(self) -> bool:
        """Whether chains crossed often enough in both directions to determine populations."""
        return min(self.folded, self.unfolded) >= ENOUGH_CROSSINGS


def mean_and_half_width(values: np.ndarray, parts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the mean of values [F] and its 95 % half-width, from the means of independent parts.

    Args:
        values: of frames.
        parts: rows of each part that has frames; the half-width of fewer than `FEWEST_PARTS` is infinite.
    """
    parts = [rows for rows in parts if len(rows)]
    means, sizes = (np.array(x, float) for x in zip(*((values[p].mean(), len(p)) for p in parts), strict=True))
    mean = float((means * sizes).sum() / sizes.sum())
    if len(parts) < FEWEST_PARTS:
        return mean, np.inf
    # Of a ratio of sums; weights are the sizes.
    share = sizes / sizes.sum()
    variance = len(parts) / (len(parts) - 1) * float((share**2 * (means - mean) ** 2).sum())
    return mean, student_t(len(parts) - 1) * float(np.sqrt(variance))


def overfitting(
    training: np.ndarray,
    training_lineages: Sequence[np.ndarray],
    validation: np.ndarray,
    validation_lineages: Sequence[np.ndarray],
) -> tuple[float, float]:
    """Return G = ⟨βΔU⟩_validation − ⟨βΔU⟩_training and its 95 % half-width, from β (U_θ − U_start) of the frames.

    The partition function is the same in both and drops out. G grows where energies of training frames are lowered in
    a way that those of other frames are not.
    """
    seen, seen_error = mean_and_half_width(training, training_lineages)
    other, other_error = mean_and_half_width(validation, validation_lineages)
    return other - seen, float(np.hypot(seen_error, other_error))


def force_rise(start: np.ndarray, now: np.ndarray, replica: np.ndarray) -> tuple[float, float, float]:
    """Return the force RMSE now, its relative rise over the start, and the rise's 95 % half-width, which is paired.

    Args:
        start, now: mean squared deviation of a component of each frame [F], (kcal/mol/Å)².
        replica: int [F], trajectory of each frame, in order of time.
    """
    before, after = float(start.mean()), float(now.mean())
    rows = [np.flatnonzero(replica == number) for number in np.unique(replica)]
    blocks = [block for part in rows for block in np.array_split(part, BLOCKS)]
    _, error = mean_and_half_width(now - start, blocks)
    # √(1 + d/before) − 1 with d the difference of the means, and its derivative times the error.
    rise = float(np.sqrt(after / before) - 1.0)
    return float(np.sqrt(after)), rise, error / (2.0 * float(np.sqrt(before * after)))


def free_energy(forward: np.ndarray, backward: np.ndarray) -> float:
    """Return β (F_1 − F_0) by the acceptance ratio of C. H. Bennett, J. Comput. Phys. 22, 245 (1976).

    Args:
        forward: β (U_1 − U_0) on frames of ensemble 0.
        backward: β (U_0 − U_1) on frames of ensemble 1.
    """
    shift = np.log(len(forward) / len(backward))

    def imbalance(f: float) -> float:
        return float(expit(-(forward - f + shift)).sum() - expit(-(backward + f - shift)).sum())

    low = float(min(forward.min(), (-backward).min())) - 50.0
    high = float(max(forward.max(), (-backward).max())) + 50.0
    return float(brentq(imbalance, low, high, xtol=1e-10))


def free_energies(
    forward: np.ndarray, forward_sound: np.ndarray, backward: np.ndarray, backward_sound: np.ndarray
) -> np.ndarray:
    """Return β (F_1 − F_0) without each chain in turn, and last with all: [R + 1].

    Args:
        forward, backward: as of `free_energy`, by chain, [R, K].
        forward_sound, backward_sound: which frames count, bool [R, K].
    """
    found = []
    for left_out in range(len(forward) + 1):
        some = np.arange(len(forward)) != left_out
        ahead, back = forward[some][forward_sound[some]], backward[some][backward_sound[some]]
        found.append(free_energy(ahead, back) if len(ahead) and len(back) else np.nan)
    return np.array(found)


def entropy_change(
    change: np.ndarray, lineages: Sequence[np.ndarray], free_energy_change: np.ndarray
) -> tuple[float, float]:
    """Return by how much the relative entropy of held-out frames changed, and its 95 % half-width.

    ΔS = ⟨β (U_θ − U_0)⟩_reference − β (F_θ − F_0); negative is better.

    Args:
        change: β (U_θ − U_0) of the frames [F].
        lineages: rows of each.
        free_energy_change: as `free_energies` returns it, added up over rounds.
    """
    mean, error = mean_and_half_width(change, lineages)
    spread = float(jackknife_half_width(free_energy_change[:-1]))
    return mean - float(free_energy_change[-1]), float(np.hypot(error, spread))
