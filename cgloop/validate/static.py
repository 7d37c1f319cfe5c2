"""Is the energy function itself sound, before anything is simulated? From the numbers in `static.json`."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult, Curve, Plot, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.artifact import SUBJECT, number
from cgloop.validate.trajectory import read_json

FILE = "static.json"

PRIOR = Check(
    "static.prior",
    "sanity of the prior",
    "",
    "at most",
    "Number of faults found in scans of all bond, angle, dihedral and pair terms through the model's energy function, "
    "and in minimizations: energies that are not finite; a minimum outside the range of the data that is not well "
    "above the lowest one inside; an angle term that is stiffer over that range than the data's free energy and a "
    "margin; pairs whose repulsion at 3 Å is weak, or that attract each other below contact; beads put onto each "
    "other that minimization does not separate.",
)
GRADIENT = Check(
    "static.gradient",
    "forces against differences of the energy",
    "",
    "at most",
    "Largest difference between the force along a random direction of all coordinates and the central difference of "
    "the energy, relative to the RMS force, in float64 on held-out frames.",
)
SYMMETRY = Check(
    "static.symmetry",
    "invariance of the energy",
    "",
    "at most",
    "Largest change of the energy (relative) or of a force component (relative to the RMS force) when a frame is "
    "turned, shifted or its beads are renumbered, forces turned and renumbered back; in float64 on held-out frames.",
)

CONTACT_PROBE_A = 3.0
"""Where VALIDATION asks what a contact costs: closer than any two CA atoms that are not bonded."""
ROUNDING = 1e-9
SHOWN_KT = 15.0
"""Plots end at so many kT above the minimum."""


def read_static(folder: Path, settings: ValidateConfig) -> list[CheckResult]:
    """The three checks from `static.json` of a folder; undecided if it is not there, as beside older results of parity.

    Raises UserError if it is damaged.
    """
    path, remedy = folder / FILE, "run `cgloop parity` again"
    if path.exists():
        return static_checks(read_json(path, remedy), settings)
    reason = f"not measured: no {FILE} beside the result of parity, which is older; {remedy}"
    return [
        CheckResult(one.name, SUBJECT, None, 0.0, None, "inconclusive", reason, inputs={"file": FILE})
        for one in (PRIOR, GRADIENT, SYMMETRY)
    ]


def static_checks(static: dict[str, Any], settings: ValidateConfig) -> list[CheckResult]:
    """The three checks, from the contents of `static.json`."""
    return [prior_check(static, settings), gradient_check(static, settings), symmetry_check(static, settings)]


def prior_check(static: dict[str, Any], settings: ValidateConfig) -> CheckResult:
    """See `PRIOR`; a model without a prior is asked for the separation of beads alone."""
    kT, scans = number(static.get("kT_kcal_per_mol")), static.get("scans") or []
    faults = [fault for scan in scans for fault in scan_faults(scan, kT, settings)]
    faults += overlap_faults(static.get("overlaps") or [], settings)
    if not scans and static.get("energy") != "ml-only":
        faults.append("no term was scanned")
    what = f"{len(scans)} scans and {len(static.get('overlaps') or [])} overlaps"
    return CheckResult(
        check=PRIOR.name, subject=SUBJECT, value=float(len(faults)), error=0.0, threshold=0.0,
        verdict="fail" if faults else "pass", reason="; ".join(faults[:3]) if faults else f"no fault in {what}",
        detail={"faults": faults, "scans": len(scans), "overlaps": static.get("overlaps")},
        inputs={"file": FILE}, plot=_plot(scans, kT),
    )  # fmt: skip


def scan_faults(scan: dict[str, Any], kT: float, settings: ValidateConfig) -> list[str]:
    """What is wrong with one scan, a phrase for each fault.

    Args:
        scan: `term`, `key`, `grid`, `energy`, `known`, `reference_range`, as `static.json` has them.
        kT: kcal/mol.
        settings: limits.
    """
    name = f"{scan['term']} {scan['key']}"
    grid, energy = np.array(scan["grid"], float), np.array([number(value) for value in scan["energy"]])
    if not np.isfinite(energy).all() or not kT > 0:
        return [f"{name}: energies are not finite"]
    if scan["term"] == "pair":
        return _pair_faults(name, grid, energy, kT, settings)
    known, found = np.array(scan["known"], bool), []
    if not known.any():
        return []
    second = lowest_outside(energy, known, periodic=scan["term"] == "dihedral")
    above = (second - energy[known].min()) / kT
    if not above >= settings.static_second_minimum_kT:
        found.append(f"{name}: a minimum outside the data, {above:.1f} kT above the one inside")
    if scan["term"] == "angle" and (spread := scan.get("reference_range")) is not None:
        amplitude, limit = np.ptp(energy[known]) / kT, spread / kT + settings.static_angle_excess_kT
        if not amplitude <= limit:
            found.append(f"{name}: an amplitude of {amplitude:.1f} kT, at most {limit:.1f} for these data")
    return found


def lowest_outside(energy: np.ndarray, known: np.ndarray, *, periodic: bool) -> float:
    """The lowest local minimum among points that the data do not know; infinite if there is none.

    A point is one if no neighbour is lower; at an open end the one neighbour decides. An energy that falls on from the
    range of the data has its minimum farther out, or at the end of the scan.
    """
    left, right = np.roll(energy, 1), np.roll(energy, -1)
    if not periodic:
        left[0], right[-1] = math.inf, math.inf
    minima = (energy <= left) & (energy <= right) & ~known
    return float(energy[minima].min(initial=math.inf))


def _pair_faults(name: str, r: np.ndarray, energy: np.ndarray, kT: float, settings: ValidateConfig) -> list[str]:
    found = []
    cost = float(np.interp(CONTACT_PROBE_A, r, energy)) / kT
    if not cost >= settings.static_repulsion_kT:
        found.append(f"{name}: {cost:.1f} kT at {CONTACT_PROBE_A:g} Å, at least {settings.static_repulsion_kT:g}")
    # An energy that falls without end towards zero distance has its contact where it is lowest beyond the probe.
    beyond = r >= CONTACT_PROBE_A
    contact = int(np.argmax(beyond & (energy <= energy[beyond].min() + ROUNDING)))
    rises = np.diff(energy[: contact + 1])
    if not (rises <= ROUNDING).all():
        found.append(f"{name}: attracts from {r[int(np.argmax(rises > ROUNDING))]:.1f} Å inwards")
    return found


def overlap_faults(overlaps: list[dict[str, Any]], settings: ValidateConfig) -> list[str]:
    """Minimisations that left beads closer than the limit."""
    found, limit = [], settings.static_separated_A
    for one in overlaps:
        smallest = number(one.get("smallest_after_A"))
        if not smallest >= limit:
            beads = " and ".join(str(bead + 1) for bead in one["beads"])
            found.append(f"beads {beads} put onto each other: {smallest:.2f} Å after minimization, at least {limit:g}")
    return found


def gradient_check(static: dict[str, Any], settings: ValidateConfig) -> CheckResult:
    """See `GRADIENT`."""
    found = static.get("gradient") or {}
    value, limit = number(found.get("max_relative")), settings.static_gradient_relative
    return CheckResult(
        check=GRADIENT.name, subject=SUBJECT, value=value, error=0.0, threshold=limit,
        verdict=decide(value, 0.0, limit, "at most"),
        reason=f"{value:.2g} of the RMS force, {found.get('directions')} directions in {found.get('frames')} frames",
        detail=found, inputs={"file": FILE, "protein": static.get("protein")},
    )  # fmt: skip


def symmetry_check(static: dict[str, Any], settings: ValidateConfig) -> CheckResult:
    """See `SYMMETRY`."""
    found, limit = static.get("symmetry") or {}, settings.static_symmetry_relative
    errors = {f"{kind}, {what}": number(value) for kind, one in found.items() for what, value in one.items()}
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]), default="")
    value = errors.get(worst, math.nan)
    return CheckResult(
        check=SYMMETRY.name, subject=SUBJECT, value=value, error=0.0, threshold=limit,
        verdict=decide(value, 0.0, limit, "at most"), reason=f"{value:.2g} at most ({worst or 'not measured'})",
        detail=errors, inputs={"file": FILE, "protein": static.get("protein")},
    )  # fmt: skip


def _plot(scans: list[dict[str, Any]], kT: float) -> Plot | None:
    """All scans of common terms, each from 0 to 1 along its grid, in kT above their minimum."""
    curves: list[Curve] = []
    for scan in scans:
        energy = np.array([number(value) for value in scan["energy"]])
        grid = np.array(scan["grid"], float)
        height = (energy - np.nanmin(energy)) / kT if np.isfinite(energy).any() else energy
        low = height <= SHOWN_KT
        if len(curves) < MOST_CURVES and low.any():
            scaled = (grid - grid[0]) / (grid[-1] - grid[0])
            name = f"{scan['term']} {scan['key']}, {grid[0]:g} to {grid[-1]:g} {scan['unit']}"
            curves.append(Curve(name, "model", scaled[low].tolist(), height[low].tolist()))
    if not curves:
        return None
    return Plot("lines", "coordinate, from the first to the last of the scan", "energy (kT)", curves)


MOST_CURVES = 9
"""Of parameters by residue there are hundreds of scans; the first ones are shown."""
