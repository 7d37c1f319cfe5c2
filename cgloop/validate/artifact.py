"""Checks of the model itself, from the JSON that parity and training wrote, and of energy minimization."""

import math
from dataclasses import dataclass, replace
from typing import Any

from cgloop.checks import Check, CheckResult, decide
from cgloop.config.validate import ParityConfig, ValidateConfig

SUBJECT = "model"
"""Subject of checks that belong to the artifact and not to a protein."""

PARITY_FORCES = Check(
    "parity.forces",
    "forces in LAMMPS against JAX",
    "",
    "at most",
    "Largest absolute difference of a force component between the exported artifact inside LAMMPS and the model in "
    "JAX, over all test cases, relative to the RMS force. In two cases NumPy evaluates the model in float64, without a "
    "compiler.",
)
PARITY_ENERGY = Check(
    "parity.energy",
    "energy in LAMMPS against JAX",
    "",
    "at most",
    "Largest difference of the potential energy between the exported artifact inside LAMMPS and the model in JAX, "
    "over all test cases, relative to the larger of its magnitude and N kT.",
)
FORCE_ERROR = Check(
    "forces.error",
    "force error on held-out frames",
    "kcal/mol/Å",
    "reported",
    "Root mean square error of force components on held-out frames, to be read against the prior terms alone: what "
    "they already do is not the model's merit.",
)
MINIMIZED = Check(
    "minimize.converged",
    "energy minimization",
    "kcal/mol/Å",
    "at most",
    "Largest force on a bead after minimization, over replicas. Everything must be finite, and no energy may rise; the "
    "row shows the force, or the rise where that is what fails. How far the structure moved (RMSD after superposition) "
    "does not decide: above a limit it is a caution.",
)

ENERGY_ROUNDING = 1e-5
"""Relative; a minimization that starts in its minimum may end above it by the rounding of float32 energies."""


def parity_checks(parity: dict[str, Any], limits: ParityConfig | None = None) -> list[CheckResult]:
    """The two parity checks from the contents of `parity.json`.

    Args:
        parity: `{"force": {"value", "limit"}, "energy": …, "cases": […], "frames": n, "verdict"}`.
        limits: default: those written in the file.
    """
    force_limit, energy_limit = (limits.force_limit, limits.energy_limit) if limits else (None, None)
    results = [
        _parity(parity, PARITY_FORCES, "force", "max_force_difference_over_rms", force_limit),
        _parity(parity, PARITY_ENERGY, "energy", "energy_difference_relative", energy_limit),
    ]
    # The file may know of a failure that neither number shows, such as a case that did not run.
    if parity.get("verdict") != "pass" and all(result.verdict == "pass" for result in results):
        # No number decided this, so that none is shown as if it had.
        results[0].verdict, results[0].value = "fail", None
        results[0].reason = f"the comparison ended with `{parity.get('verdict', 'no verdict')}`"
    return results


def _parity(parity: dict[str, Any], check: Check, kind: str, key: str, limit: float | None) -> CheckResult:
    section = parity.get(kind) or {}
    cases = {str(case.get("name")): number(case.get(key)) for case in parity.get("cases") or []}
    values = [number(section.get("value")), *cases.values()]
    value = math.nan if any(math.isnan(v) for v in values) else max(values)
    threshold = number(section.get("limit")) if limit is None else limit
    verdict = decide(value, 0.0, threshold, check.direction)
    worst = max(cases, key=lambda name: (math.isnan(cases[name]), cases[name]), default="")
    where = f", largest in case `{worst}`" if worst else ""
    return CheckResult(
        check=check.name, subject=SUBJECT, value=value, error=0.0, threshold=threshold, verdict=verdict,
        reason=f"{value:.2g} over {len(cases)} cases and {parity.get('frames', 0)} frames{where}", unit=check.unit,
        detail={"cases": cases, "frames": parity.get("frames")}, inputs={"file": "parity.json"},
    )  # fmt: skip


def force_error_check(forces: dict[str, Any]) -> CheckResult:
    """Force error of the full model beside that of the prior alone, from the contents of `forces.json`."""
    full, prior = number(forces.get("rmse_full")), number(forces.get("rmse_prior"))
    difference = forces.get("full_minus_prior") or {}
    gain, error = number(difference.get("value", full - prior)), number(difference.get("error"))
    if full == prior:
        words = "there is nothing but the prior"
    elif gain + error < 0:
        words = "better than the prior alone"
    elif gain - error > 0:
        words = "worse than the prior alone"
    else:
        words = "not distinguishable from the prior alone"
    words = words if math.isfinite(full) else "not measured"
    return CheckResult(
        check=FORCE_ERROR.name, subject=SUBJECT, value=full, error=error, threshold=None, verdict="reported",
        reason=f"{words}: {full:.4g} against {prior:.4g} kcal/mol/Å, difference {gain:+.2g} ± {error:.1g}",
        unit=FORCE_ERROR.unit, reference=prior,
        detail={
            "rmse_zero": forces.get("rmse_zero"), "modes": forces.get("modes"), "difference": gain,
            "better_than_prior": bool(gain + error < 0), "frames": forces.get("n_frames"),
            "per_residue_type": forces.get("per_residue_type"),
        },
        inputs={"file": "forces.json", "split": forces.get("split")},
    )  # fmt: skip


@dataclass(frozen=True)
class Minimized:
    """Outcome of the minimization of one replica.

    Attributes:
        replica: id.
        energy_initial, energy_final: kcal/mol.
        max_force: largest force on a bead at the end, kcal/mol/Å.
        max_move_A, rmsd_A: largest and root-mean-square displacement of the beads after superposition, Å.
    """

    replica: int
    energy_initial: float
    energy_final: float
    max_force: float
    max_move_A: float
    rmsd_A: float = math.nan

    @property
    def rise(self) -> float:
        """By how much the energy rose, kcal/mol; negative where it fell."""
        return self.energy_final - self.energy_initial

    @property
    def rise_allowed(self) -> float:
        """Largest rise that is rounding, kcal/mol."""
        return ENERGY_ROUNDING * max(1.0, abs(self.energy_initial))


def minimize_check(
    replicas: list[Minimized],
    replicas_asked: int,
    problems: list[str],
    force_tolerance: float,
    settings: ValidateConfig,
    subject: str,
) -> CheckResult:
    """Judge the minimizations of a protein: force, energy, and that every number is finite.

    Where several of these fail the force is shown, then the energy; a missing record has no number. How far the
    structure moved says nothing about the minimizer: it is written into `detail`, and `cgloop.cautions` warns of it.

    Args:
        replicas: what was recorded.
        replicas_asked: how many there should be; a missing one is a fail.
        problems: records that could not be read.
        force_tolerance: kcal/mol/Å.
        settings: limit of the caution.
        subject: the protein.
    """
    missing = list(problems)
    if len(replicas) < replicas_asked:
        missing.append(f"{replicas_asked - len(replicas)} of {replicas_asked} replicas left no record")
    pushed = [one for one in replicas if not one.max_force <= force_tolerance]
    risen = [one for one in replicas if not one.rise <= one.rise_allowed]
    faults = [
        *(f"replica {one.replica} ends with a force of {one.max_force:.3g} kcal/mol/Å" for one in pushed),
        *(f"the energy of replica {one.replica} rose by {one.rise:.3g} kcal/mol" for one in risen),
        *missing,
    ]
    reason = "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
    largest = _largest([one.rmsd_A for one in replicas])
    # Records of older runs and of scripts of a user's own may lack it.
    moved = f"and moved by {largest:.2f} Å RMSD at most" if math.isfinite(largest) else "with no record of their RMSD"
    result = CheckResult(
        check=MINIMIZED.name, subject=subject, value=_largest([one.max_force for one in replicas]), error=0.0,
        threshold=force_tolerance, verdict="fail" if faults else "pass", unit=MINIMIZED.unit,
        reason=reason or f"{len(replicas)} replicas converged, {moved}",
        detail={
            "forces": [one.max_force for one in replicas], "energy_rises": [one.rise for one in replicas],
            "moves_A": [one.max_move_A for one in replicas],
            "max_move_A": _largest([one.max_move_A for one in replicas]),
            "rmsds_A": [one.rmsd_A for one in replicas], "max_rmsd_A": largest,
            "rmsd_caution_A": settings.minimize_caution_rmsd_A, "force_tolerance": force_tolerance,
        },
    )  # fmt: skip
    if pushed or not faults:
        return result
    if risen:
        worst = max(risen, key=lambda one: (math.isnan(one.rise), one.rise - one.rise_allowed))
        return replace(
            result, value=worst.rise, threshold=worst.rise_allowed, unit="kcal/mol", quantity="rise of the energy"
        )
    return replace(result, value=None)


def _largest(values: list[float]) -> float:
    """Return the largest value; NaN if there is none, or one is not finite."""
    return max(values) if values and all(map(math.isfinite, values)) else math.nan


def number(value: Any) -> float:
    """A float; NaN for null and for everything that is no number, so that it can never pass."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
