"""Distances between two samples of frames, from sums over frames.

Every distance here is a function of summaries that add up over frames: histograms, contact counts. So the summary of a
model without one replica, or of a block of the reference and of all the rest, is a sum or a difference of summaries
that were made once, and 200 blocks of a reference cost little more than one pass over its frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

CONTACT_PROBABILITY = 0.05
FLAT = 1e-9
"""Contact probabilities that differ by no more do not vary."""

GRID_POINTS = 2048
"""Of the distribution functions that the Wasserstein distance compares."""


class Metric(Protocol):
    """K distances between two samples of features, [F, …] each; 0 for equal ones, larger is worse."""

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Sums [parts, …] over the frames of consecutive parts.

        Args:
            features: [F, …].
            starts: int [parts], ascending, the first is 0: where each part begins; none is empty.
        """
        ...

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """[…, K] from summaries [parts…, …], broadcast against each other over the parts."""
        ...


def between(metric: Metric, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distances [K] of two samples of features."""
    start = np.zeros(1, int)
    return metric.distances(metric.summaries(model, start)[0], metric.summaries(reference, start)[0])


def part_of_frame(n_frames: int, starts: np.ndarray) -> np.ndarray:
    """int [F], the number of the part that each frame belongs to."""
    return np.repeat(np.arange(len(starts)), np.diff([*starts, n_frames]))


@dataclass(frozen=True)
class Wasserstein:
    """Wasserstein-1 distance of scalar features, ∫ |F₁ − F₂| dx of the distribution functions.

    On a grid: each value is shared between the two points beside it in proportion to its nearness, which keeps means
    exactly, and with them the distance of shifted distributions.

    Attributes:
        low, high: ends of the grid; all values must lie between them.
    """

    low: float
    high: float

    @classmethod
    def of(cls, *samples: np.ndarray) -> "Wasserstein":
        """On a grid that holds all these values."""
        return cls(
            float(min(sample.min(initial=np.inf) for sample in samples)),
            float(max(sample.max(initial=-np.inf) for sample in samples)),
        )

    @property
    def spacing(self) -> float:
        return (self.high - self.low) / (GRID_POINTS - 1)

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        part = part_of_frame(len(features), starts)
        place = (np.asarray(features, float) - self.low) / (self.spacing or 1.0)
        left = np.clip(place.astype(int), 0, GRID_POINTS - 2)
        weight = place - left
        size = len(starts) * GRID_POINTS
        counts = np.bincount(part * GRID_POINTS + left, 1.0 - weight, size)
        counts += np.bincount(part * GRID_POINTS + left + 1, weight, size)
        return counts.reshape(len(starts), GRID_POINTS)

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        difference = np.cumsum(_normalised(model) - _normalised(reference), axis=-1)
        return self.spacing * np.abs(difference).sum(axis=-1)[..., None]


def _normalised(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return counts / counts.sum(axis=-1, keepdims=True)


def jensen_shannon(counts: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Jensen–Shannon divergence of histograms along the last axis, base 2: 0 for equal, 1 for disjoint ones.

    ½ D(P‖M) + ½ D(Q‖M) with M = ½ (P + Q) (Lin, IEEE Trans. Inf. Theory 37, 145, 1991). It is the square of what
    scipy calls `jensenshannon`.
    """
    p, q = _normalised(counts), _normalised(others)
    middle = 0.5 * (p + q)

    def part(one: np.ndarray) -> np.ndarray:
        # 0 · log 0 counts as 0; a histogram without counts is NaN, and stays so.
        safe = np.where(one == 0, 1.0, one / np.where(middle == 0, 1.0, middle))
        return np.asarray((one * np.log2(safe)).sum(axis=-1))

    return 0.5 * (part(p) + part(q))


@dataclass(frozen=True, eq=False)
class Divergence:
    """Mean Jensen–Shannon divergence of classes of coordinates; features are bin numbers [F, C].

    Attributes:
        class_of: int [C], the class of each coordinate; its coordinates share a histogram.
        n_bins: of each histogram.
        weights: [classes], what each class counts in the mean; 0 for one that is left out.
    """

    class_of: np.ndarray
    n_bins: int
    weights: np.ndarray

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        n_classes, parts = len(self.weights), len(starts)
        part = part_of_frame(len(features), starts)
        cell = (part[:, None] * n_classes + self.class_of) * self.n_bins + features
        counts = np.bincount(cell.ravel(), minlength=parts * n_classes * self.n_bins)
        return counts.reshape(parts, n_classes, self.n_bins).astype(float)

    def by_class(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Divergence of each class, […, classes], whatever its weight."""
        return jensen_shannon(model, reference)

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        counted = self.weights > 0
        values = self.by_class(model[..., counted, :], reference[..., counted, :])
        return np.asarray(values @ self.weights[counted] / self.weights.sum())[..., None]


@dataclass(frozen=True, eq=False)
class ContactMap:
    """Mean absolute difference and 1 − Pearson r of contact probabilities; features are contacts uint8 [F, P].

    Over pairs with p > 0.05 in either sample. A map without variation among its pairs has no correlation with another:
    r counts as 1 if both are the same. If not, it is NaN where the map of a whole sample is flat, and counts as 0
    where only that of a part is, which happens to short ones by chance.

    Attributes:
        columns: int, the pairs that are ever in contact; of all others both probabilities are 0.
        flat: one of the whole samples has a map without variation.
    """

    columns: np.ndarray
    flat: bool = False

    @classmethod
    def of(cls, model: np.ndarray, reference: np.ndarray) -> "ContactMap":
        """For pairs that are in contact in one of the samples [F, P]."""
        p, q = model.mean(axis=0), reference.mean(axis=0)
        columns = np.flatnonzero((p > 0) | (q > 0))
        present = (p > CONTACT_PROBABILITY) | (q > CONTACT_PROBABILITY)
        return cls(columns, any(np.ptp(x[present]) <= FLAT if present.any() else True for x in (p, q)))

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Number of frames with each contact, and last the number of frames."""
        sums = np.add.reduceat(features[:, self.columns], starts, axis=0, dtype=float)
        return np.concatenate([sums, np.diff([*starts, len(features)])[:, None]], axis=1)

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        model, reference = np.broadcast_arrays(model, reference)
        p, q = model[..., :-1] / model[..., -1:], reference[..., :-1] / reference[..., -1:]
        present = (p > CONTACT_PROBABILITY) | (q > CONTACT_PROBABILITY)
        count = present.sum(axis=-1)
        safe = np.maximum(count, 1)
        difference = np.where(present, np.abs(p - q), 0.0)
        dp, dq = (
            np.where(present, x - np.where(present, x, 0.0).sum(axis=-1, keepdims=True) / safe[..., None], 0.0)
            for x in (p, q)
        )
        spread = np.sqrt((dp**2).sum(axis=-1) * (dq**2).sum(axis=-1))
        same = (difference <= 1e-8).all(axis=-1)
        flat = (count < 2) | (spread <= 1e-12)
        without = np.where(same, 1.0, np.nan if self.flat else 0.0)
        r = np.where(flat, without, (dp * dq).sum(axis=-1) / np.where(flat, 1.0, spread))
        return np.stack([difference.sum(axis=-1) / safe, 1.0 - r], axis=-1)


@dataclass(frozen=True)
class Disagreement:
    """1 − mean of the model's features bool [F, D]; the reference decided what they mean, and does not enter again."""

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        agreeing = np.add.reduceat(features.sum(axis=1), starts, dtype=float)
        return np.stack([agreeing, features.shape[1] * np.diff([*starts, len(features)])], axis=1)

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        value = 1.0 - model[..., 0] / model[..., 1]
        return np.broadcast_to(value, np.broadcast_shapes(value.shape, reference.shape[:-1]))[..., None]


@dataclass(frozen=True, eq=False)
class Surface:
    """Free-energy surfaces over states; features are state numbers int [F], the last state is "elsewhere".

    F = −kT ln p. States count that the reference visits with a free energy up to the cutoff above its minimum, each
    with its probability there as weight: rare states, which a short run visits by chance, decide little. The surfaces
    are shifted to the same mean over the states that both visit. A state that only one of them visits is an error of
    the size of the cutoff, and no error is larger, so that a model that sits in one state is far off everywhere else.

    Attributes:
        n_states: without "elsewhere".
        kT: kcal/mol.
        cutoff: kcal/mol above the minimum.
        target: counts [n_states] of the whole reference, which say what counts.
    """

    n_states: int
    kT: float
    cutoff: float
    target: np.ndarray = field(repr=False)

    def free_energy(self, counts: np.ndarray) -> np.ndarray:
        """−kT ln of counts, kcal/mol up to a constant; infinite where there are none."""
        with np.errstate(divide="ignore"):
            return np.asarray(-self.kT * np.log(counts[..., : self.n_states]))

    @property
    def counted(self) -> np.ndarray:
        """bool [n_states], states within the cutoff in the reference."""
        energy = self.free_energy(self.target)
        return np.asarray(energy - energy.min() <= self.cutoff)

    def summaries(self, features: np.ndarray, starts: np.ndarray) -> np.ndarray:
        size = self.n_states + 1
        part = part_of_frame(len(features), starts)
        counts = np.bincount(part * size + features, minlength=len(starts) * size)
        return counts.reshape(len(starts), size).astype(float)

    def distances(self, model: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Mean absolute and root mean square difference [kcal/mol], Jensen–Shannon divergence with "elsewhere" as a
        state, and the fraction of the states that count which the model never visits."""
        model, reference = np.broadcast_arrays(model, reference)
        counted = self.counted
        weight = self.target[counted] / self.target[counted].sum()
        mine, theirs = (self.free_energy(counts)[..., counted] for counts in (model, reference))
        both = np.isfinite(mine) & np.isfinite(theirs)
        difference = np.where(both, np.where(both, mine, 0.0) - np.where(both, theirs, 0.0), 0.0)
        shared = np.where(both, weight, 0.0).sum(axis=-1, keepdims=True)
        shift = (weight * difference).sum(axis=-1, keepdims=True) / np.where(shared > 0, shared, 1.0)
        error = np.where(both, np.minimum(np.abs(difference - shift), self.cutoff), self.cutoff)
        return np.stack(
            [
                error @ weight,
                np.sqrt(error**2 @ weight),
                jensen_shannon(model, reference),
                (~np.isfinite(mine)).mean(axis=-1),
            ],
            axis=-1,
        )


def bins_of(values: np.ndarray, edges: Sequence[float] | np.ndarray) -> np.ndarray:
    """Bin numbers of values between evenly spaced edges; the first and last bin take what lies beyond."""
    edges = np.asarray(edges, float)
    spacing = (edges[-1] - edges[0]) / (len(edges) - 1)
    return np.clip(((np.asarray(values, float) - edges[0]) / spacing).astype(np.int64), 0, len(edges) - 2)
