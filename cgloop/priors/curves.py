"""`curves.json`: what the fits saw and what they made of it, for plots."""

from typing import Any

import numpy as np

from cgloop.model.terms import SEPARATION_CLASSES
from cgloop.priors.inversion import CONTACT_A, Fit, angle_target, dihedral_target
from cgloop.priors.samples import Histogram
from cgloop.priors.series import cosine_basis, periodic_basis
from cgloop.priors.tables import class_key
from cgloop.units import DEGREES_PER_RADIAN, thermal_energy

DIGITS = 5


def curves(fit: Fit) -> dict[str, Any]:
    """Per term: grid, density of the reference, reference and fitted potential, density implied by the fit.

    Potentials in kcal/mol, zero at their minimum; null where the reference says nothing. The implied density is
    exp(−U/kT) times the Jacobian of this term alone: couplings between terms and the network are not in it.
    """
    kT = thermal_energy(fit.temperature_K)
    return {
        "temperature_K": fit.temperature_K,
        "kT_kcal_per_mol": kT,
        "energy_unit": "kcal/mol",
        "terms": [_bond(fit, kT), _angle(fit, kT), _dihedral(fit, kT), *_repulsion(fit)],
        "sanity": sanity(fit, kT),
    }


def sanity(fit: Fit, kT: float) -> dict[str, Any]:
    """Numbers of VALIDATION's static check: amplitude of the angle term, cost of contacts; energies in kT."""
    theta = fit.samples.angles.centres
    energy = cosine_basis(theta, len(fit.params.angle_coeffs) - 1) @ fit.params.angle_coeffs
    contact = fit.params.repulsion_epsilon * ((fit.params.repulsion_r_min / CONTACT_A) ** 6 - 1.0) ** 2
    found: dict[str, Any] = {
        "angle_amplitude_kT": _round(np.ptp(energy) / kT),
        "repulsion_at_3_A_kT": _round(contact / kT),
    }
    if fit.angle_range is not None:
        first, last = fit.angle_range
        target, _, inside = angle_target(fit.samples.angles, kT)
        rises = np.diff(energy[theta >= last]).min(initial=0.0), -np.diff(energy[theta <= first]).max(initial=0.0)
        found.update(
            angle_range_degrees=_round(np.array(fit.angle_range) * DEGREES_PER_RADIAN),
            angle_reference_range_kT=_round(np.ptp(target[inside]) / kT),
            angle_turns_down_outside=bool(min(rises) < -1e-3 * kT),
        )
    return found


def _bond(fit: Fit, kT: float) -> dict[str, Any]:
    histogram, r = fit.samples.bonds, fit.samples.bonds.centres
    energy = 0.5 * fit.params.bond_k * (r - fit.params.bond_r0) ** 2
    density = histogram.density()
    with np.errstate(divide="ignore"):
        reference = np.where(density > 0, -kT * np.log(density / r**2), np.nan)
    shown = slice(*_span(histogram))
    return _curve("bond", "r", "Å", r, histogram, reference, energy, r**2, kT, shown)


def _angle(fit: Fit, kT: float) -> dict[str, Any]:
    histogram, theta = fit.samples.angles, fit.samples.angles.centres
    energy = cosine_basis(theta, len(fit.params.angle_coeffs) - 1) @ fit.params.angle_coeffs
    reference = np.full(len(theta), np.nan)
    if histogram.total:
        target, _, inside = angle_target(histogram, kT)
        reference = np.where(inside, target, np.nan)
    return _curve("angle", "θ", "degree", theta, histogram, reference, energy, np.sin(theta), kT)


def _dihedral(fit: Fit, kT: float) -> dict[str, Any]:
    histogram, phi = fit.samples.dihedrals, fit.samples.dihedrals.centres
    order = len(fit.params.dihedral_cos) - 1
    energy = periodic_basis(phi, order) @ np.concatenate([fit.params.dihedral_cos, fit.params.dihedral_sin[1:]])
    reference = np.full(len(phi), np.nan)
    if histogram.total:
        target, _, known = dihedral_target(histogram, kT)
        reference = np.where(known, target, np.nan)
    return _curve("dihedral", "φ", "degree", phi, histogram, reference, energy, np.ones(len(phi)), kT)


def _repulsion(fit: Fit) -> list[dict[str, Any]]:
    out = []
    for kind in range(len(SEPARATION_CLASSES)):
        histogram = fit.samples.distances[kind]
        r, r_min = histogram.centres, fit.params.repulsion_r_min[kind]
        shown = (r > 0.6 * r_min) & (r < 12.0)
        energy = fit.params.repulsion_epsilon[kind] * ((r_min / np.minimum(r, r_min)) ** 6 - 1.0) ** 2
        out.append(
            {
                "term": "repulsion",
                "separation": class_key(kind),
                "coordinate": "r",
                "unit": "Å",
                "samples": histogram.total,
                "grid": _round(r[shown]),
                "density": _round(histogram.density()[shown]),
                "density_unit": "1/Å",
                "reference": None,
                "fitted": _round(energy[shown]),
                "implied_density": None,
            }
        )
    return out


def _curve(
    term: str,
    coordinate: str,
    unit: str,
    grid: np.ndarray,
    histogram: Histogram,
    reference: np.ndarray,
    energy: np.ndarray,
    jacobian: np.ndarray,
    kT: float,
    shown: slice = slice(None),
) -> dict[str, Any]:
    scale = DEGREES_PER_RADIAN if unit == "degree" else 1.0
    energy = energy - energy.min()
    implied = np.exp(-energy / kT) * jacobian
    implied /= implied.sum() * histogram.width
    lowest = np.nanmin(reference) if np.isfinite(reference).any() else 0.0
    return {
        "term": term,
        "coordinate": coordinate,
        "unit": unit,
        "samples": histogram.total,
        "grid": _round(grid[shown] * scale),
        "density": _round(histogram.density()[shown] / scale),
        "density_unit": f"1/{unit}",
        "reference": _round((reference - lowest)[shown]),
        "fitted": _round(energy[shown]),
        "implied_density": _round(implied[shown] / scale),
    }


def _span(histogram: Histogram, margin: int = 10) -> tuple[int, int]:
    """First and last bin to show: those with counts, and a margin."""
    filled = np.flatnonzero(histogram.counts)
    if not len(filled):
        return 0, len(histogram.counts)
    return max(int(filled[0]) - margin, 0), int(filled[-1]) + margin + 1


def _round(values: Any) -> Any:
    """Plain numbers of a few significant digits; NaN becomes None."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [_round(value) for value in array]
    return float(f"{array:.{DIGITS}g}") if np.isfinite(array) else None
