"""Checks of the model itself, from the JSON that parity and training wrote, and of energy minimisation."""

import math
from dataclasses import dataclass
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
    "JAX, over all test cases, relative to the RMS force.",
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
    "energy minimisation",
    "kcal/mol/Å",
    "at most",
    "Largest force on a bead after minimisation, over replicas; besides, no bead moved farther than the limit after "
    "superposition, and no energy rose.",
)

ENERGY_ROUNDING = 1e-5
"""Relative; a minimisation that starts in its minimum may end above it by the rounding of float32 energies."""


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
        results[0].verdict = "fail"
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
    """One minimised replica: energies in kcal/mol, force in kcal/mol/Å, displacement after superposition in Å."""

    replica: int
    energy_initial: float
    energy_final: float
    max_force: float
    max_move_A: float


def minimize_check(
    replicas: list[Minimized],
    replicas_asked: int,
    problems: list[str],
    force_tolerance: float,
    settings: ValidateConfig,
    subject: str,
) -> CheckResult:
    """Did every minimisation converge without tearing the protein apart?

    Args:
        replicas: what was recorded.
        replicas_asked: how many there should be; a missing one is a fail.
        problems: records that could not be read.
        force_tolerance: kcal/mol/Å.
        subject: the protein.
    """
    faults = list(problems)
    if len(replicas) < replicas_asked:
        faults.append(f"{replicas_asked - len(replicas)} of {replicas_asked} replicas left no record")
    forces = [one.max_force for one in replicas]
    value = math.nan if not forces or not all(map(math.isfinite, forces)) else max(forces)
    for one in replicas:
        if not one.max_force <= force_tolerance:
            faults.append(f"replica {one.replica} ends with a force of {one.max_force:.3g} kcal/mol/Å")
        if not one.max_move_A <= settings.minimize_max_move_A:
            faults.append(f"in replica {one.replica} a bead moved {one.max_move_A:.2f} Å")
        if not one.energy_final <= one.energy_initial + ENERGY_ROUNDING * max(1.0, abs(one.energy_initial)):
            faults.append(f"the energy of replica {one.replica} rose")
    reason = "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
    farthest = max((one.max_move_A for one in replicas), default=math.nan)
    return CheckResult(
        check=MINIMIZED.name, subject=subject, value=value, error=0.0, threshold=force_tolerance,
        verdict="fail" if faults else "pass",
        reason=reason or f"{len(replicas)} replicas converged, no bead moved more than {farthest:.2f} Å",
        unit=MINIMIZED.unit,
        detail={"forces": forces, "moves_A": [one.max_move_A for one in replicas], "max_move_A": farthest},
    )  # fmt: skip


def number(value: Any) -> float:
    """A float; NaN for null and for everything that is no number, so that it can never pass."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan
