"""Do the forces conserve energy?"""

import math

import numpy as np
from scipy import stats

from cgloop.checks import Check, CheckResult, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.units import thermal_energy
from cgloop.validate.rundata import StageRun
from cgloop.validate.sample import Doubt, Needs, in_words, replica_doubts, together
from cgloop.validate.statistics import (
    Slope,
    linear_slope,
    longer_run_factor,
    mean_over_replicas,
)

PS_PER_NS = 1000.0
RUNAWAY_CONFIDENCE = 0.999
"""For a verdict from one replica alone. Stricter than an error bar: short series underestimate their correlation."""

DRIFT = Check(
    "nve.drift",
    "energy drift in NVE",
    "kcal/mol/ns",
    "at most",
    "Magnitude of the mean over replicas of the slope of a linear fit of total energy against time. Limited in "
    "kcal/mol/ns, in kT/ns per degree of freedom (3N − 3 per replica), and relative to the standard deviation of "
    "kinetic energy over the length of the run; the tightest of the three is the threshold. One replica that drifts "
    "significantly beyond it fails too; the row then shows its slope.",
)


def drift_check(run: StageRun, settings: ValidateConfig) -> CheckResult:
    """Energy drift of a complete NVE stage; see `DRIFT`."""
    return judge_drift(
        [replica.series["time_ps"] for replica in run.replicas],
        [replica.series["total"] for replica in run.replicas],
        [replica.series["kinetic"] for replica in run.replicas],
        run.temperature_K,
        run.degrees_of_freedom,
        settings,
        run.protein,
    )


def judge_drift(
    times_ps: list[np.ndarray],
    totals: list[np.ndarray],
    kinetics: list[np.ndarray],
    temperature_K: float,
    degrees_of_freedom: int,
    settings: ValidateConfig,
    subject: str,
) -> CheckResult:
    """Judge the drift as `drift_check` does, from series per replica.

    All three limits are linear in the slope, so that they are one comparison against the tightest. Slopes of
    opposite sign may cancel in the mean, but not unnoticed: they widen the error bar, and each replica is held
    against the limit with its own fit error.

    Args:
        times_ps, totals, kinetics: [T] each, ps and kcal/mol.
        temperature_K: for kT.
        degrees_of_freedom: of one replica.
    """
    slopes = [_per_ns(linear_slope(time, total)) for time, total in zip(times_ps, totals, strict=True)]
    mean, error = mean_over_replicas([slope.value for slope in slopes])
    fluctuation = _kinetic_per_length(times_ps, kinetics)
    limits = {
        "kcal/mol/ns": settings.nve_drift_kcal_per_mol_per_ns,
        "kT/ns per degree of freedom": settings.nve_drift_kT_per_ns_per_dof
        * thermal_energy(temperature_K) * degrees_of_freedom,
        "fluctuation of kinetic energy": settings.nve_drift_over_kinetic_fluctuation * fluctuation,
    }  # fmt: skip
    tightest = min(limits, key=lambda name: limits[name])
    limit = limits[tightest]
    verdict: Verdict = decide(abs(mean), error, limit, "at most")
    shown = f"{mean:+.3g} ± {error:.2g} kcal/mol/ns, limit {limit:.3g} ({tightest})"
    runaways = [i for i, s in enumerate(slopes) if abs(s.value) - _runaway_error(s, len(slopes)) > limit]
    n_effective = sum(slope.n_effective for slope in slopes)
    measured = ""
    needs: Needs = {}
    doubts = replica_doubts(len(slopes), settings)
    if not n_effective >= settings.min_effective_samples:
        text = f"{n_effective:.1f} effective samples, {settings.min_effective_samples:g} are needed"
        doubts.append(Doubt(text, {"run_factor": settings.min_effective_samples / n_effective}))
    # The number that decides: the mean slope, unless nothing moves or one replica alone fails.
    value: float | None = abs(mean)
    bar, quantity = error, f"limit: {tightest}"
    if not fluctuation > 0:
        verdict, shown, value = "fail", "the kinetic energy does not fluctuate: nothing moves", None
    elif runaways:
        steepest = max(runaways, key=lambda i: abs(slopes[i].value))
        if verdict != "fail":
            value, bar = abs(slopes[steepest].value), _runaway_error(slopes[steepest], len(slopes))
            quantity = f"replica {steepest}, {quantity}"
        verdict = "fail"
        shown += f"; replica {steepest} drifts by {slopes[steepest].value:+.3g} kcal/mol/ns"
    elif doubts:
        verdict, measured, shown = "inconclusive", shown, f"{shown}, but {in_words(doubts)}"
        needs = together(doubts)
    elif verdict == "inconclusive":
        # The error of a slope falls with the length to the power 3/2.
        needs = {"run_factor": longer_run_factor(limit - abs(mean), error) ** (1 / 3)}
        shown += ": the error bar reaches across the limit"
    return CheckResult(
        check=DRIFT.name, subject=subject, value=value, error=bar, threshold=limit, verdict=verdict,
        reason=shown, measured=measured, unit=DRIFT.unit, n_effective=n_effective, quantity=quantity,
        detail={
            "mean_slope": mean, "mean_slope_error": error,
            "slopes": [s.value for s in slopes], "slope_errors": [s.standard_error for s in slopes],
            "limits_kcal_per_mol_per_ns": limits,
            "kT_per_ns_per_dof": abs(mean) / (thermal_energy(temperature_K) * degrees_of_freedom),
            "drift_over_kinetic_fluctuation": abs(mean) / fluctuation if fluctuation > 0 else math.inf,
            "needs": needs,
            "by_own_rule": bool(runaways) or not fluctuation > 0,
        },
    )  # fmt: skip


def _runaway_error(slope: Slope, n_replicas: int) -> float:
    """Half-width of the interval that a single replica's slope must leave; Student t, Bonferroni over replicas."""
    freedom = max(slope.n_effective - 2.0, 1.0)
    return float(stats.t.ppf(1 - (1 - RUNAWAY_CONFIDENCE) / (2 * n_replicas), freedom)) * slope.standard_error


def _per_ns(slope: Slope) -> Slope:
    return Slope(slope.value * PS_PER_NS, slope.standard_error * PS_PER_NS, slope.n_effective)


def _kinetic_per_length(times_ps: list[np.ndarray], kinetics: list[np.ndarray]) -> float:
    """Standard deviation of kinetic energy over the length of the run, mean over replicas, kcal/mol/ns."""
    ratios = [
        float(np.std(kinetic)) / max(float(time[-1] - time[0]) / PS_PER_NS, 1e-12)
        for time, kinetic in zip(times_ps, kinetics, strict=True)
    ]
    mean = float(np.mean(ratios))
    return mean if math.isfinite(mean) else math.nan
