"""Does the thermostatted dynamics have the temperature that it was asked to have?"""

import numpy as np

from cgloop.checks import Check, CheckResult, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.units import KB
from cgloop.validate.rundata import StageRun
from cgloop.validate.sample import Needs, equilibrated, in_words, replica_doubts, sampling_doubts, together
from cgloop.validate.statistics import linear_slope, longer_run_factor, mean_over_replicas

TEMPERATURE = Check(
    "nvt.temperature",
    "mean temperature in NVT",
    "",
    "at most",
    "Relative deviation of the mean kinetic temperature 2⟨K⟩/(f k_B) from the set point, pooled over replicas after "
    "equilibration; f is 3N per replica in Langevin dynamics, and 3N − 3 where the thermostat keeps the center of mass "
    "at rest (CSVR, Nosé–Hoover). A run that warms or cools by more than the limit from start to end fails as well; "
    "the row then shows that change, relative to the set point.",
)

TREND_CONFIDENCE = 0.999
"""A second way to fail needs stronger evidence than the first, or healthy runs would fail too often."""


def kinetic_temperature(kinetic: np.ndarray, degrees_of_freedom: int) -> np.ndarray:
    """2K / (dof k_B) in K, from the kinetic energy of one replica in kcal/mol."""
    return 2.0 * np.asarray(kinetic, float) / (degrees_of_freedom * KB)


def temperature_check(run: StageRun, settings: ValidateConfig) -> CheckResult:
    """Mean temperature of a complete NVT stage; see `TEMPERATURE`."""
    temperatures = [kinetic_temperature(r.series["kinetic"], run.degrees_of_freedom) for r in run.replicas]
    times = [replica.series["time_ps"] for replica in run.replicas]
    return judge_temperature(temperatures, times, run.temperature_K, settings, run.protein)


def judge_temperature(
    temperatures: list[np.ndarray],
    times_ps: list[np.ndarray],
    target_K: float,
    settings: ValidateConfig,
    subject: str,
) -> CheckResult:
    """Judge the mean temperature as `temperature_check` does, from the series of each replica.

    The error bar is Student's t over the replicas' means. The mean can hide a trend (too cold first, too hot
    later), and a trend makes the series non-stationary, which alone would only be inconclusive: therefore the
    change from start to end, by a linear fit per replica, is tested too. Where it fails it is the value of the result.
    """
    sample = equilibrated(temperatures, temperatures, settings.max_trim)
    mean, error = mean_over_replicas([part.mean() for part in sample.replicas])
    deviation, error_relative = abs(mean / target_K - 1.0), error / target_K
    limit = settings.nvt_temperature_deviation
    changes = [
        linear_slope(time, series).value * float(time[-1] - time[0])
        for time, series in zip(times_ps, temperatures, strict=True)
    ]
    change, change_error = mean_over_replicas(changes, TREND_CONFIDENCE)
    shown = f"{mean:.1f} ± {error:.1f} K for {target_K:g} K"
    measured = ""
    needs: Needs = {}
    doubts = sampling_doubts("model", sample, settings) + replica_doubts(len(temperatures), settings)
    verdict: Verdict = decide(deviation, error_relative, limit, "at most")
    moves = abs(change) - change_error > limit * target_K
    value, bar, quantity = deviation, error_relative, ""
    if moves and verdict != "fail":
        value, bar, quantity = abs(change) / target_K, change_error / target_K, "change from start to end, relative"
    if moves:
        verdict = "fail"
        shown = f"moves by {change:+.0f} ± {change_error:.0f} K from start to end, at {shown} on average"
    elif doubts:
        verdict, measured, shown = "inconclusive", shown, f"{shown}, but {in_words(doubts)}"
        needs = together(doubts)
    elif verdict == "inconclusive":
        needs = {"run_factor": longer_run_factor(limit - deviation, error_relative)}
        shown = f"{shown}: the error bar reaches across the limit of {limit:.1%}"
    return CheckResult(
        check=TEMPERATURE.name, subject=subject, value=value, error=bar, threshold=limit,
        verdict=verdict, reason=shown, measured=measured, unit=TEMPERATURE.unit, n_effective=sample.n_effective,
        detail={
            "mean_K": mean, "error_K": error, "target_K": target_K, "change_K": change,
            "change_error_K": change_error, "replica_means_K": [float(part.mean()) for part in sample.replicas],
            "trimmed_points": sample.starts, "needs": needs,
            "by_own_rule": moves,
        },
        quantity=quantity,
    )  # fmt: skip
