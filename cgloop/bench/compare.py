"""Two files of measurements against each other: what became slower, and what is noise. NumPy and SciPy alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from cgloop.bench.record import Measurement, Record
from cgloop.errors import UserError

Verdict = Literal["worse", "better", "no difference shown", "small", "too few repeats"]


@dataclass(frozen=True)
class Change:
    """One measurement before and after.

    Attributes:
        before, after: it.
        ratio: of the geometric means, after over before; `low` and `high` its 95 % interval, NaN without one.
        p: of Welch's test, corrected for the number of comparisons (Holm 1979); NaN where there is none.
        verdict: `worse` and `better` are significant and larger than the threshold, `small` is significant only.
    """

    before: Measurement
    after: Measurement
    ratio: float
    low: float
    high: float
    p: float
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """All measurements that both files have.

    Attributes:
        changes: in order of the first file.
        only_before, only_after: labels of measurements that one file has.
        caveats: what makes the comparison weak, in words.
    """

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    caveats: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        return tuple(one for one in self.changes if one.verdict == "worse")


def compare(
    before: Record, after: Record, *, force: bool = False, alpha: float = 0.05, threshold: float = 0.05
) -> Comparison:
    """Compare what both files measured.

    Args:
        before, after: the files.
        force: also where they are of different hardware.
        alpha: chance that anything is called a change although nothing is one.
        threshold: relative change below which a significant change is called small.

    Raises:
        UserError: different hardware, and not forced; or nothing in common.
    """
    caveats = []
    if before.machine.kind != after.machine.kind or not before.machine.cores:
        what = f"{before.machine.words} and {after.machine.words}"
        if not force:
            raise UserError(
                f"measured on different hardware, or it is not recorded: {what}",
                remedy="compare files of one machine; --force does it nevertheless",
            )
        caveats.append(f"forced: the hardware is not the same: {what}")
    pairs = [(one, other) for one in before.measurements if (other := after.find(one.key)) is not None]
    if not pairs:
        raise UserError("the two files have no measurement in common")
    changes = _judge([_measure(*pair) for pair in pairs], alpha, threshold)
    compared = [one for pair in pairs for one in pair if len(one.values) > 1]
    if any(not one.independent for one in compared):
        caveats.append(
            "repeats within one process do not show how processes differ from each other (layout of memory, what else "
            "the machine did): a change that is small beside that may be none"
        )
    if (gap := _difference_of_load(before, after)) > 0.5:
        caveats.append(f"other work kept {gap:.1f} cores more busy in one than in the other: times may tell of that")
    return Comparison(
        tuple(changes),
        tuple(one.label for one in before.measurements if after.find(one.key) is None),
        tuple(one.label for one in after.measurements if before.find(one.key) is None),
        tuple(caveats),
    )


def _difference_of_load(before: Record, after: Record) -> float:
    found = []
    for record in (before, after):
        loads = [record.load] if record.load else [load for one in record.measurements for load in one.load]
        busy = [load.others_cores for load in loads if load.others_cores is not None]
        if not busy:
            return 0.0
        found.append(float(np.mean(busy)))
    return abs(found[0] - found[1])


def welch(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float, float]:
    """Ratio of geometric means, its 95 % interval, and p, by Welch's t test of the logarithms.

    Times vary by factors, so that logarithms have about the same spread at any length. Two values each are enough for
    the test, which then finds only what is large.
    """
    a, b = np.log(np.asarray(before, float)), np.log(np.asarray(after, float))
    difference = float(b.mean() - a.mean())
    if min(len(a), len(b)) < 2:
        return math.exp(difference), math.nan, math.nan, math.nan
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    error = math.sqrt(parts.sum())
    # What is counted, not timed, has no scatter: then any difference is one.
    if error <= 1e-12:
        return math.exp(difference), math.exp(difference), math.exp(difference), float(abs(difference) < 1e-9)
    freedom = parts.sum() ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = stats.t.ppf(0.975, freedom) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return math.exp(difference), math.exp(difference - half), math.exp(difference + half), p


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction; NaN are no tests and stay."""
    values = np.asarray(p_values, float)
    corrected = values.copy()
    tested = np.flatnonzero(~np.isnan(values))
    largest = 0.0
    for rank, i in enumerate(tested[np.argsort(values[tested], kind="stable")]):
        largest = max(largest, min(1.0, (len(tested) - rank) * values[i]))
        corrected[i] = largest
    return [float(one) for one in corrected]


def _measure(before: Measurement, after: Measurement) -> Change:
    if min(*before.values, *after.values) <= 0 or before.better == "neither":
        return Change(before, after, math.nan, math.nan, math.nan, math.nan, "too few repeats")
    return Change(before, after, *welch(before.values, after.values), "no difference shown")


def _judge(changes: list[Change], alpha: float, threshold: float) -> list[Change]:
    judged = []
    for one, p in zip(changes, holm([each.p for each in changes]), strict=True):
        verdict: Verdict = "no difference shown"
        if math.isnan(p):
            verdict = "too few repeats"
        elif p < alpha:
            verdict = "small"
            if abs(math.log(one.ratio)) > math.log1p(threshold):
                verdict = "worse" if (one.ratio > 1) == (one.before.better == "lower") else "better"
        judged.append(Change(one.before, one.after, one.ratio, one.low, one.high, p, verdict))
    return judged
