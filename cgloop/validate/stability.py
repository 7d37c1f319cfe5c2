"""Does the simulation stay within the limits of a healthy one, for as long as it was asked to?"""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from cgloop.checks import Check, CheckResult, Verdict
from cgloop.config.md import MonitorConfig
from cgloop.config.validate import ValidateConfig
from cgloop.units import FS_PER_NS, FS_PER_PS
from cgloop.validate.geometry import distant_pairs, pair_distances
from cgloop.validate.nvt import kinetic_temperature
from cgloop.validate.rundata import Replica, StageRun, sound

SURVIVAL = Check(
    "stability.survival",
    "survival in NVT and NVE",
    "",
    "at least",
    "Time that a replica stayed inside all limits over the time asked for, smallest over all replicas of NVT and NVE. "
    "Limits: everything finite, non-bonded distance, CA–CA bond, force on a bead, temperature (1 ps running mean and "
    "instantaneous value), jumps of the energy (which the MD alone sees, at every step), and beads that move. The MD's "
    "own record and the trajectory must agree on it.",
)

RUNNING_MEAN_PS = 1.0
RUNNING_MEAN_POINTS = 20
"""The MD takes its running mean from every step; from few observations it would scatter much more, so that the
window is longer where the record is sparse."""
FROZEN_A = 1e-4
"""Between two frames of a trajectory thermal motion moves beads by tenths of an Å; less than this is no motion."""


def temperature_limit(temperature_K: float, degrees_of_freedom: int, quantile: float) -> float:
    """Instantaneous kinetic temperature that a healthy replica exceeds with probability `quantile`.

    Kinetic energy is Gamma distributed with shape dof/2 and scale kT, so that T has mean T₀ and scale 2T₀/dof.
    """
    return float(stats.gamma.isf(quantile, degrees_of_freedom / 2, scale=2 * temperature_K / degrees_of_freedom))


def mean_temperature_limit(temperature_K: float, degrees_of_freedom: int, limits: MonitorConfig) -> float:
    """Running mean of the kinetic temperature over 1 ps that a healthy replica does not exceed.

    The mean smooths the exchange of kinetic and potential energy, but not that with the bath: like the total energy
    of a harmonic system it is Gamma distributed with shape dof. For small proteins its quantile is beyond the ratio
    that the config allows, and is the limit then.
    """
    healthy = float(stats.gamma.isf(limits.temperature_quantile, degrees_of_freedom, scale=1 / degrees_of_freedom))
    return temperature_K * max(limits.max_temperature_ratio, healthy)


def first_violation(
    run: StageRun, replica: Replica, bonds_A: np.ndarray, linked: np.ndarray, limits: MonitorConfig
) -> tuple[float, str] | None:
    """Time and name of the first limit that a replica breaks, from its records alone.

    Args:
        run: the stage.
        replica: one of its replicas.
        bonds_A: reference length of every bond, [number of linked pairs].
        linked: bool [N-1].
        limits: the same limits that the MD was run with.

    Returns:
        (time in ps since production began, name), or None.
    """
    candidates = [*_in_series(run, replica, limits), *_in_frames(run, replica, bonds_A, linked, limits)]
    # Of several limits broken at once the first one listed is the most telling.
    return min(candidates, key=lambda candidate: candidate[0], default=None)


def _in_series(run: StageRun, replica: Replica, limits: MonitorConfig) -> Iterator[tuple[float, str]]:
    series = replica.series
    time = np.asarray(series["time_ps"], float)
    if not len(time):
        return
    ceiling = temperature_limit(run.temperature_K, run.degrees_of_freedom, limits.temperature_quantile)
    hot = mean_temperature_limit(run.temperature_K, run.degrees_of_freedom, limits)
    spacing = float(np.median(np.diff(time))) if len(time) > 1 else RUNNING_MEAN_PS
    window = max(RUNNING_MEAN_POINTS, round(RUNNING_MEAN_PS / max(spacing, 1e-9)))
    temperature = kinetic_temperature(series["kinetic"], run.degrees_of_freedom)
    running = np.full(len(time), -np.inf)
    if len(time) >= window:
        running[window - 1 :] = np.convolve(temperature, np.full(window, 1 / window), "valid")
    broken = {
        "non-finite": ~np.all([sound(name, values) for name, values in series.items()], axis=0),
        "min_distance": ~(series["min_distance_A"] >= limits.min_distance_A),
        "bond": ~(series["max_bond_deviation"] <= limits.max_bond_deviation),
        "max_force": ~(series["max_force"] <= limits.max_force),
        "temperature_mean": ~(running <= hot),
        "temperature_instant": ~(temperature <= ceiling),
    }
    for name, where in broken.items():
        if where.any():
            yield float(time[np.argmax(where)]), name


def _in_frames(
    run: StageRun, replica: Replica, bonds_A: np.ndarray, linked: np.ndarray, limits: MonitorConfig
) -> Iterator[tuple[float, str]]:
    positions = np.asarray(replica.positions, float)
    if not len(positions):
        return
    asked_ps = replica.steps_asked * run.timestep_fs / FS_PER_PS
    spacing_ps = asked_ps / max(run.frames_asked, 1)
    bonded = np.flatnonzero(linked)
    bonds = np.linalg.norm(positions[:, bonded + 1] - positions[:, bonded], axis=2)
    distances = pair_distances(positions, distant_pairs(linked, 2))
    still = np.abs(np.diff(positions, axis=0)).max(axis=(1, 2)) < FROZEN_A
    broken = {
        "non-finite": ~np.isfinite(positions).all(axis=(1, 2)),
        "bond": ~(np.abs(bonds / bonds_A - 1) <= limits.max_bond_deviation).all(axis=1),
        "min_distance": ~(distances >= limits.min_distance_A).all(axis=1),
        "frozen": np.concatenate([still, still[-1:]]) if len(still) else np.zeros(len(positions), bool),
    }
    for name, where in broken.items():
        if where.any():
            yield float((np.argmax(where) + 1) * spacing_ps), name


def survival_check(
    runs: list[StageRun], bonds_A: np.ndarray, linked: np.ndarray, limits: MonitorConfig, settings: ValidateConfig
) -> CheckResult:
    """Survival of all replicas of one protein over its dynamic stages; see `SURVIVAL`.

    A replica's survived time is the shortest of what the MD says, what is recorded, and what the records
    themselves allow. Replicas without a record survived nothing. If none broke, the time S that all survived
    together bounds the rate of crashes below 3/S with 95 % confidence (Poisson, zero events).
    """
    fractions: list[float] = []
    survived_ns = 0.0
    asked_ns = 0.0
    broken: list[str] = []
    problems = [problem for run in runs for problem in run.problems]
    for run in runs:
        steps = max((replica.steps_asked for replica in run.replicas), default=0)
        asked_ns += run.replicas_asked * steps * run.timestep_fs / FS_PER_NS
        fractions += [0.0] * max(0, run.replicas_asked - len(run.replicas))
        for replica in run.replicas:
            fraction, why = _survived(run, replica, bonds_A, linked, limits)
            fractions.append(fraction)
            survived_ns += fraction * replica.steps_asked * run.timestep_fs / FS_PER_NS
            if why:
                broken.append(f"{run.stage} replica {replica.number}: {why}")
    value = min(fractions, default=0.0)
    # 95 % upper limit of a Poisson rate after k events; 3/S for k = 0.
    bound = float(stats.chi2.ppf(0.95, 2 * (len(broken) + 1)) / 2 / survived_ns) if survived_ns else None
    verdict: Verdict = "pass" if value >= settings.survival_fraction and not problems and fractions else "fail"
    # A record that cannot be read, or is of other beads, fails whatever the others survived: no number decides then.
    shown = None if problems and value >= settings.survival_fraction else value
    if broken or problems:
        reason = "; ".join([*problems, *broken][:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
    elif verdict == "fail":
        reason = f"{sum(f == 0 for f in fractions)} of {len(fractions)} replicas left no record"
    else:
        reason = (
            f"all {len(fractions)} replicas survived, {survived_ns:.3g} ns together: "
            f"crashes are rarer than {bound:.3g} per ns (95 %)"
        )
    return CheckResult(
        check=SURVIVAL.name, subject=runs[0].protein if runs else "", value=shown, error=0.0,
        threshold=settings.survival_fraction, verdict=verdict, reason=reason, unit=SURVIVAL.unit,
        detail={
            "fractions": fractions, "mean_fraction": float(np.mean(fractions)) if fractions else 0.0,
            "survived_ns": survived_ns, "asked_ns": asked_ns, "crashes": len(broken), "broken": broken,
            "crash_rate_bound_per_ns": bound,
        },
    )  # fmt: skip


def _survived(
    run: StageRun, replica: Replica, bonds_A: np.ndarray, linked: np.ndarray, limits: MonitorConfig
) -> tuple[float, str]:
    """Fraction of the asked time, and why it ended early ("" if it did not)."""
    asked = max(replica.steps_asked, 1)
    asked_ps = asked * run.timestep_fs / FS_PER_PS
    fraction, why = min(1.0, replica.steps_done / asked), ""
    if replica.limit or fraction < 1:
        why = f"limit {replica.limit or 'unknown'} after {fraction * asked_ps:.3g} of {asked_ps:g} ps"
        fraction = min(fraction, 1.0 - 1.0 / asked)
    recorded = min(
        len(replica.positions) / max(run.frames_asked, 1),
        *(len(values) / max(run.points_asked, 1) for values in replica.series.values()),
    )
    if recorded < fraction:
        fraction, why = recorded, why or f"the record ends after {recorded * asked_ps:.3g} of {asked_ps:g} ps"
    violation = first_violation(run, replica, bonds_A, linked, limits)
    if violation and violation[0] / asked_ps < fraction:
        fraction = violation[0] / asked_ps
        why = why or f"{violation[1]} after {violation[0]:.3g} of {asked_ps:g} ps, found in its record"
    return fraction, why
