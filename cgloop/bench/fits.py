"""Laws of scaling fitted to measured rates, each with an interval of confidence. NumPy and SciPy alone.

All fits are least squares of the logarithm of the rate, since times on computers vary by a factor: log r = c + log g(n)
with the one parameter of the law in g, the speedup over one device. The interval is the set of parameters whose sum of
squares, minimised over c, is below (1 + t²/ν) times the least one, t of Student with ν = N − 2 degrees of freedom
(Bates & Watts, Nonlinear Regression Analysis and Its Applications, 1988, section 6.1): for a linear law it is the usual
interval.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

LEVEL = 0.95
FEW_COUNTS, FEW_FREEDOM = 3, 3
"""Numbers of devices, and degrees of freedom, below which a fit says little."""
MISFIT_P = 0.01


@dataclass(frozen=True)
class Law:
    """A law of scaling with one parameter.

    Attributes:
        name, parameter: for people.
        mode: "strong" (a fixed amount of work) or "weak" (work in proportion to devices) scaling.
        speedup: of n devices over one, by (n, parameter).
        domain: of the parameter by the largest n: outside the speedup would not be positive.
    """

    name: str
    parameter: str
    mode: str
    speedup: Callable[[np.ndarray, float], np.ndarray]
    domain: Callable[[float], tuple[float, float]]


def _serial_domain(most: float) -> tuple[float, float]:
    # A negative share is a speedup of more than n: caches, or noise; it is shown, not forbidden.
    return -0.999 / max(most - 1.0, 1.0), 1.0 + 1.0 / most


AMDAHL = Law(
    "Amdahl", "serial fraction", "strong", lambda n, s: 1.0 / (s + (1.0 - s) / n), _serial_domain
)  # Amdahl 1967: a fixed amount of work, of which the fraction s is not shared
GUSTAFSON = Law(
    "Gustafson", "serial fraction", "weak", lambda n, s: s + (1.0 - s) * n,
    lambda most: (-5.0, 1.0 + 0.999 / max(most - 1.0, 1.0)),
)  # fmt: skip  # Gustafson 1988: work grows with n, and a fraction s of the time does not shrink
POWER = Law("power law", "exponent", "both", lambda n, a: n**a, lambda most: (-3.0, 4.0))
LAWS = (AMDAHL, GUSTAFSON, POWER)


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        law: which.
        value, low, high: its parameter and interval; NaN where there is none.
        base: the smallest number of devices, to which speedups are relative.
        rates: of `base` devices at the value and at both ends of the interval, in the unit of the data.
        scatter: standard deviation of the logarithm of a rate.
        n_rates, n_counts: measurements, and different numbers of devices.
        misfit_p: chance that points on this law scatter about it as much as these, beside their repeats; None without
            repeats or with too few numbers of devices.
        warnings: in words.
    """

    law: Law
    value: float
    low: float
    high: float
    base: float
    rates: tuple[float, float, float]
    scatter: float
    n_rates: int
    n_counts: int
    misfit_p: float | None
    warnings: tuple[str, ...]

    def at(self, devices: Sequence[float] | np.ndarray) -> np.ndarray:
        """[n, 3]: expected rate of so many devices, and at both ends of the interval of the parameter, in order."""
        n = np.asarray(devices, float) / self.base
        ends = zip(self.rates, (self.value, self.low, self.high), strict=True)
        each = [rate * self.law.speedup(n, one) for rate, one in ends]
        bounds = np.sort(np.array(each[1:]), axis=0)
        return np.stack([each[0], bounds[0], bounds[1]], axis=1)


def fit(law: Law, devices: Sequence[float], rates: Sequence[float], level: float = LEVEL) -> Fit:
    """Fit a law to rates.

    Args:
        law: of `LAWS`.
        devices: number of devices of each measurement.
        rates: things done per time, all positive; repeats are further entries.
        level: of the interval.

    Raises:
        ValueError: fewer than two different numbers of devices, or rates that are not positive.
    """
    n, log_rate = np.asarray(devices, float), np.log(np.asarray(rates, float))
    counts = np.unique(n)
    if len(counts) < 2 or not np.isfinite(log_rate).all():
        raise ValueError("a fit needs positive rates at two numbers of devices")
    low, high = law.domain(counts[-1] / counts[0])
    n_relative = n / counts[0]

    def squares(value: float) -> float:
        rest = log_rate - np.log(law.speedup(n_relative, value))
        return float(((rest - rest.mean()) ** 2).sum())

    value = _minimum(squares, low, high)
    least, freedom = squares(value), len(n) - 2
    ends = (math.nan, math.nan)
    if freedom >= 1:
        # Rounding alone leaves something: an interval is never empty.
        limit = max(least, 1e-24) * (1.0 + stats.t.ppf(0.5 + level / 2, freedom) ** 2 / freedom)
        ends = (_crossing(squares, value, low, limit), _crossing(squares, value, high, limit))
    rates_at = tuple(float(np.exp((log_rate - np.log(law.speedup(n_relative, one))).mean())) for one in (value, *ends))
    misfit = _misfit(n, log_rate, least)
    return Fit(
        law, value, ends[0], ends[1], base=float(counts[0]), rates=(rates_at[0], rates_at[1], rates_at[2]),
        scatter=math.sqrt(least / freedom) if freedom >= 1 else math.nan, n_rates=len(n), n_counts=len(counts),
        misfit_p=misfit, warnings=_warnings(len(counts), freedom, misfit, counts[0], value, law),
    )  # fmt: skip


def _minimum(squares: Callable[[float], float], low: float, high: float) -> float:
    grid = np.linspace(low, high, 400)[1:-1]
    best = int(np.argmin([squares(one) for one in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    return float(optimize.minimize_scalar(squares, bounds=around, method="bounded", options={"xatol": 1e-10}).x)


def _crossing(squares: Callable[[float], float], start: float, end: float, limit: float) -> float:
    """Where the sum of squares passes the limit between start and end; the end if it does not."""
    inside = start + (end - start) * (1 - 1e-9)
    if not squares(inside) > limit:
        return end
    return float(optimize.brentq(lambda one: squares(one) - limit, start, inside))


def _misfit(n: np.ndarray, log_rate: np.ndarray, least: float) -> float | None:
    """F test of the lack of fit against the scatter of repeats."""
    counts, index = np.unique(n, return_inverse=True)
    means = np.bincount(index, log_rate) / np.bincount(index)
    pure = float(((log_rate - means[index]) ** 2).sum())
    freedom = len(counts) - 2, len(n) - len(counts)
    # Repeats that differ by less than a part in ten million are no repeats of a measurement.
    if min(freedom) < 1 or not pure > 1e-14:
        return None
    return float(stats.f.sf(max(least - pure, 0.0) / freedom[0] / (pure / freedom[1]), *freedom))


def _warnings(
    n_counts: int, freedom: int, misfit: float | None, least: float, value: float, law: Law
) -> tuple[str, ...]:
    found = []
    if n_counts < FEW_COUNTS:
        found.append(f"only {n_counts} numbers of devices: any law with one parameter fits them")
    if freedom < FEW_FREEDOM:
        found.append(f"only {freedom + 2} measurements: the interval is wide or missing")
    if misfit is not None and misfit < MISFIT_P:
        found.append(f"the law does not describe the points (p = {misfit:.1g})")
    if least != 1:
        found.append(f"relative to {least:g} devices: one was not measured")
    if law is not POWER and value < 0:
        found.append("below 0: faster than in proportion, as caches or noise do")
    return tuple(found)


@dataclass(frozen=True)
class KarpFlatt:
    """The serial fraction that a measured speedup of n devices amounts to (Karp & Flatt 1990); NaN: no interval."""

    devices: float
    value: float
    low: float
    high: float


def karp_flatt(devices: Sequence[float], rates: Sequence[float], level: float = LEVEL) -> list[KarpFlatt]:
    """e = (1/S − 1/n) / (1 − 1/n) of every number of devices but the smallest.

    Where e rises with n, what grows is communication or imbalance; where it stays, a part is serial. The interval is
    that of log S: the scatter of repeats, pooled over all numbers of devices, with Student's t.
    """
    n, log_rate = np.asarray(devices, float), np.log(np.asarray(rates, float))
    counts, index, repeats = np.unique(n, return_inverse=True, return_counts=True)
    means = np.bincount(index, log_rate) / repeats
    freedom = len(n) - len(counts)
    spread = math.sqrt(((log_rate - means[index]) ** 2).sum() / freedom) if freedom >= 1 else math.nan
    half = stats.t.ppf(0.5 + level / 2, freedom) * spread if freedom >= 1 else math.nan
    found = []
    for i in range(1, len(counts)):
        relative, log_speedup = counts[i] / counts[0], means[i] - means[0]
        error = half * math.sqrt(1 / repeats[i] + 1 / repeats[0])

        def fraction(log_s: float, relative: float = relative) -> float:
            return float((math.exp(-log_s) - 1 / relative) / (1 - 1 / relative))

        found.append(
            KarpFlatt(
                float(counts[i]), fraction(log_speedup), fraction(log_speedup + error), fraction(log_speedup - error)
            )
        )
    return found
