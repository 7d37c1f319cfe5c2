"""Is the integration of second order? From short runs at constant energy with a whole, a half and a quarter step."""

import math
from itertools import pairwise

import numpy as np
from scipy import stats

from cgloop.checks import Check, CheckResult, Curve, Plot, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.ensemble import convergence_deviation
from cgloop.validate.rundata import StageRun
from cgloop.validate.sample import Doubt, in_words, replica_doubts, together
from cgloop.validate.statistics import mean_over_replicas, student_t

ORDER = Check(
    "nve.order",
    "order of the integration",
    "",
    "at most",
    "Largest deviation from 2 of the exponent with which fluctuations of total energy fall with the time step, between "
    "the time step and its half, and between that and a quarter; from the same starts, mean over replicas. A force "
    "that is not the gradient of a smooth energy lowers it. White noise of single precision is subtracted.",
)

EXPECTED = 2.0
NOISE_SHARE = 0.5
"""Where rounding is a larger part of the variance than this, what is left of it says nothing."""


def order_check(runs: dict[int, StageRun], settings: ValidateConfig) -> CheckResult:
    """Order of the integration from complete runs; see `ORDER`.

    Args:
        runs: by what the time step was divided by.
        settings: limit.
    """
    factors = sorted(runs)
    first = runs[factors[0]]
    totals = {k: {replica.number: replica.series["total"] for replica in runs[k].replicas} for k in factors}
    return judge_order(
        [first.timestep_fs / k * factors[0] for k in factors],
        [[totals[k][number] for k in factors] for number in sorted(totals[factors[0]])],
        settings,
        first.protein,
    )


def without_starts(nvt: StageRun) -> CheckResult:
    """The result where there was nowhere to start from: a failure of the model only if no replica survived NVT.

    Args:
        nvt: the dynamics from whose end these runs start.
    """
    survivors = sum(not one.limit and one.steps_done >= one.steps_asked > 0 for one in nvt.replicas)
    verdict: Verdict = "inconclusive" if survivors else "fail"
    reason = "no replica survived NVT, from whose end these runs start"
    if survivors:
        reason = (
            f"{survivors} of {nvt.replicas_asked} replicas survived NVT, but their state at its end, where these runs "
            "start, was not kept"
        )
    return CheckResult(
        check=ORDER.name, subject=nvt.protein, value=None, error=0.0, threshold=None, verdict=verdict, reason=reason,
        detail={"incomplete": True},
    )  # fmt: skip


def rounding_variance(series: np.ndarray) -> float:
    """Variance of the white noise on a smooth series [T], from fourth differences; these have weights 1, −4, 6, −4, 1,
    so that independent noise comes out with 70 times its variance, and what is smooth vanishes."""
    return float(np.mean(np.diff(np.asarray(series, float), 4) ** 2)) / 70.0


def judge_order(
    timesteps_fs: list[float], totals: list[list[np.ndarray]], settings: ValidateConfig, subject: str
) -> CheckResult:
    """As `order_check`.

    Args:
        timesteps_fs: the longest first.
        totals: of each replica, total energy [T] for each time step, observed at the same times, kcal/mol.
    """
    spread = np.array([[np.var(series) for series in replica] for replica in totals])
    noise = np.array([[rounding_variance(series) for series in replica] for replica in totals])
    with np.errstate(invalid="ignore", divide="ignore"):
        fluctuation = np.sqrt(spread - noise)
        steps = np.log(np.array(timesteps_fs[:-1]) / np.array(timesteps_fs[1:]))
        orders = np.log(fluctuation[:, :-1] / fluctuation[:, 1:]) / steps
    doubts = replica_doubts(len(totals), settings)
    if (hidden := noise > NOISE_SHARE * spread).any():
        text = f"rounding hides the fluctuation of {int(hidden.any(axis=1).sum())} of {len(totals)} replicas"
        doubts.append(Doubt(text, {}))
    means, errors = zip(*(mean_over_replicas(column) for column in orders.T), strict=True)
    deviations = np.abs(np.array(means) - EXPECTED)
    worst = int(np.argmax(np.where(np.isfinite(deviations), deviations, math.inf)))
    value, error, limit = float(deviations[worst]), float(errors[worst]), settings.nve_order_deviation
    verdict: Verdict = decide(value, error, limit, "at most")
    shown = (
        f"order {means[worst]:.3f} ± {errors[worst]:.2g} from {timesteps_fs[worst]:g} to {timesteps_fs[worst + 1]:g} fs"
    )
    measured = ""
    if doubts:
        verdict, measured, shown = "inconclusive", shown, f"{shown}, but {in_words(doubts)}"
    elif verdict == "inconclusive":
        doubts = [Doubt("the error bar reaches across the limit", {"replicas": 2.0 * len(totals)})]
        shown = f"{shown}: {in_words(doubts)}"
    pairs = [f"{one:g} to {other:g} fs" for one, other in pairwise(timesteps_fs)]
    return CheckResult(
        check=ORDER.name, subject=subject, value=value, error=error, threshold=limit, verdict=verdict, reason=shown,
        measured=measured, n_effective=float(len(totals)),
        detail={
            "orders": dict(zip(pairs, means, strict=True)), "errors": dict(zip(pairs, errors, strict=True)),
            "timesteps_fs": timesteps_fs, "fluctuations_kcal_per_mol": fluctuation,
            "rounding_kcal_per_mol": np.sqrt(noise),
            "convergence_deviations": [
                convergence_deviation(dict(zip(timesteps_fs, replica, strict=True))) for replica in totals
            ],
            "p_value": _chance(value, error, limit, len(totals)),
            "needs": together(doubts) if verdict == "inconclusive" else {},
        },
        plot=_plot(timesteps_fs, fluctuation),
    )  # fmt: skip


def _chance(value: float, error: float, limit: float, replicas: int) -> float | None:
    """One-sided chance of such a deviation if the true one were at the limit; None if that cannot be told."""
    if not (replicas > 1 and math.isfinite(value) and 0 < error < math.inf):
        return None
    return float(stats.t.sf((value - limit) * student_t(replicas - 1) / error, replicas - 1))


def _plot(timesteps_fs: list[float], fluctuation: np.ndarray) -> Plot:
    """Logarithms, in which an order is a slope."""
    x = np.log10(timesteps_fs)
    with np.errstate(divide="ignore"):
        logs = np.log10(fluctuation)
    mean = logs.mean(axis=0)
    expected = mean[0] + EXPECTED * (x - x[0])
    return Plot(
        "points", "log10 of the time step (fs)", "log10 of the fluctuation of energy (kcal/mol)",
        [
            *(Curve(f"replica {row}", "model", x.tolist(), one.tolist()) for row, one in enumerate(logs)),
            Curve("second order", "reference", x.tolist(), expected.tolist()),
        ],
    )  # fmt: skip
