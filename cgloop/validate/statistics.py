"""Error bars: Student t over replicas, jackknife over replicas, fitted slopes, blocks of a reference."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cgloop.validate.equilibration import statistical_inefficiency

CONFIDENCE = 0.95


def student_t(degrees_of_freedom: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided factor of Student's t distribution; infinite without degrees of freedom."""
    if degrees_of_freedom < 1:
        return math.inf
    return float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom))


def mean_over_replicas(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Mean and half-width of its confidence interval, from one value per independent replica.

    The half-width is t(R − 1) · s / √R; infinite for a single replica.
    """
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return mean, math.inf
    return mean, student_t(len(array) - 1, confidence) * float(array.std(ddof=1)) / math.sqrt(len(array))


def jackknife_error(statistic: Callable[[list[int]], np.ndarray], replicas: int) -> np.ndarray:
    """95 % half-widths of a statistic by leaving out one replica at a time.

    Standard error √((R − 1)/R · Σ (θ₋ᵢ − θ̄)²) (Efron & Stein, Ann. Statist. 9, 586, 1981), times t(R − 1).

    Args:
        statistic: array of values from the numbers of the replicas that are used.
        replicas: how many there are; infinite errors for fewer than 2.
    """
    everyone = list(range(replicas))
    if replicas < 2:
        return np.full(np.shape(statistic(everyone)), math.inf)
    return jackknife_half_width(np.array([statistic([r for r in everyone if r != i]) for i in everyone]))


def jackknife_half_width(left_out: np.ndarray) -> np.ndarray:
    """The same from values [R, …] that leave out one replica each; infinite for fewer than 2."""
    replicas = len(left_out)
    if replicas < 2:
        return np.full(left_out.shape[1:], math.inf)
    spread = ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)
    return student_t(replicas - 1) * np.sqrt((replicas - 1) / replicas * spread)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p-values that several tests together leave, in the order given; each is compared with the level of one test.

    The k-th smallest of m is multiplied by m − k + 1, and is at least as large as those before it: the chance that any
    true hypothesis is rejected is at most the level, however the tests depend on each other. One that is no number
    stays so, counts as a test, and rejects nothing else.

    Source: S. Holm, Scand. J. Statist. 6, 65 (1979).
    """
    values = np.asarray(p_values, float)
    adjusted = np.full(len(values), np.nan)
    # Numbers that are none come last.
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return adjusted


@dataclass(frozen=True)
class Slope:
    """A straight line through a time series.

    Attributes:
        value: unit of the series per unit of time.
        standard_error: of `value`, with the residuals' statistical inefficiency.
        n_effective: number of points over that inefficiency.
    """

    value: float
    standard_error: float
    n_effective: float


def linear_slope(time: np.ndarray, series: np.ndarray) -> Slope:
    """Least-squares slope; its error is the textbook one for white noise times √g of the residuals.

    Args:
        time: [T], at least 3 points.
        series: [T].
    """
    t = np.asarray(time, float) - float(np.mean(time))
    y = np.asarray(series, float) - float(np.mean(series))
    slope = float(t @ y / (t @ t))
    residual = y - slope * t
    # A line fitted through rounding noise leaves residuals without meaning: they have no correlation time.
    flat = np.abs(residual).max() <= 1e-12 * max(1.0, float(np.abs(series).max()))
    g = 1.0 if flat else statistical_inefficiency([residual])
    error = math.sqrt(float(residual @ residual) / max(len(t) - 2, 1) / float(t @ t) * g)
    return Slope(slope, error, len(t) / g)


@dataclass(frozen=True)
class CircularBlocks:
    """Evenly spaced blocks of consecutive frames.

    The frames of all replicas, one replica after the other, are closed to a ring, so that every frame is in
    equally many blocks and no random number is needed. The ring is cut wherever a block begins or ends: a block is
    a run of consecutive pieces, and sums over blocks are differences of running sums over pieces.

    Attributes:
        cuts: int [pieces], ascending, the first is 0: where each piece begins.
        first, last: int [blocks], a block is made of the pieces from `first` to before `last`, round the end if
            `last` is not larger.
    """

    cuts: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, total: int, length: int, count: int) -> "CircularBlocks":
        """`count` blocks of `length` out of `total` frames."""
        starts = (np.arange(count) * total / count).astype(int)
        ends = (starts + length) % total
        cuts = np.unique(np.concatenate([[0], starts, ends]))
        return cls(cuts, np.searchsorted(cuts, starts), np.searchsorted(cuts, ends))

    def sums(self, pieces: np.ndarray) -> np.ndarray:
        """Of every block [blocks, …], from what each piece [pieces, …] adds."""
        running = np.concatenate([np.zeros_like(pieces[:1]), np.cumsum(pieces, axis=0)])
        around = self.last <= self.first
        sums = running[self.last] - running[self.first]
        sums[around] += running[-1]
        return np.asarray(sums)


def longer_run_factor(distance_to_limit: float, error: float) -> float:
    """How many times longer a run must be until its error bar no longer reaches the limit.

    From error ∝ 1/√length at an unchanged value. Infinite for a value on the limit or an infinite error.
    """
    if not distance_to_limit or not math.isfinite(error):
        return math.inf
    return (error / abs(distance_to_limit)) ** 2
