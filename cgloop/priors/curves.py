"""`curves.json`: what the fits saw and what they made of it, for plots."""

from typing import Any

import numpy as np

from cgloop.model.potentials import SWITCH_FROM
from cgloop.model.terms import KEY_NAMES, N_SEPARATION_CLASSES, PriorParams
from cgloop.priors.bonded import angle_target, dihedral_target
from cgloop.priors.forms import angle_curve, dihedral_curve, repulsion_shape
from cgloop.priors.inversion import CONTACT_A, Fit
from cgloop.priors.samples import Histogram
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
        "keys": _keys(fit),
        "pairs": _pairs(fit),
        "sanity": sanity(fit, kT),
    }


def _common(fit: Fit) -> PriorParams:
    """With one set of bonded parameters."""
    return fit.params if fit.common is None else fit.common


def _far_forms(fit: Fit) -> list[str]:
    """The form of each separation class."""
    return ["wca"] * (N_SEPARATION_CLASSES - 1) + [fit.forms.repulsion]


def sanity(fit: Fit, kT: float) -> dict[str, Any]:
    """Numbers of VALIDATION's static check: amplitude of the angle term, cost of contacts; energies in kT."""
    theta, params = fit.samples.angles.centres, _common(fit)
    energy = angle_curve(fit.forms.angle, params.angle_coeffs, theta)
    ratio = CONTACT_A / params.repulsion_r_min
    shape = [float(repulsion_shape(form, x)) for form, x in zip(_far_forms(fit), ratio, strict=True)]
    contact = params.repulsion_epsilon * shape
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
    params = _common(fit)
    energy = 0.5 * params.bond_k * (r - params.bond_r0) ** 2
    density = histogram.density()
    with np.errstate(divide="ignore"):
        reference = np.where(density > 0, -kT * np.log(density / r**2), np.nan)
    shown = slice(*_span(histogram))
    return _curve("bond", "r", "Å", r, histogram, reference, energy, r**2, kT, shown)


def _angle(fit: Fit, kT: float) -> dict[str, Any]:
    histogram, theta = fit.samples.angles, fit.samples.angles.centres
    energy = angle_curve(fit.forms.angle, _common(fit).angle_coeffs, theta)
    reference = np.full(len(theta), np.nan)
    if histogram.total:
        target, _, inside = angle_target(histogram, kT)
        reference = np.where(inside, target, np.nan)
    return _curve("angle", "θ", "degree", theta, histogram, reference, energy, np.sin(theta), kT)


def _dihedral(fit: Fit, kT: float) -> dict[str, Any]:
    histogram, phi = fit.samples.dihedrals, fit.samples.dihedrals.centres
    energy = _dihedral_energy(fit, _common(fit), phi)
    reference = np.full(len(phi), np.nan)
    if histogram.total:
        target, _, known = dihedral_target(histogram, kT)
        reference = np.where(known, target, np.nan)
    return _curve("dihedral", "φ", "degree", phi, histogram, reference, energy, np.ones(len(phi)), kT)


def _repulsion(fit: Fit) -> list[dict[str, Any]]:
    out = []
    for kind, form in enumerate(_far_forms(fit)):
        histogram = fit.samples.distances[kind]
        r, r_min = histogram.centres, fit.params.repulsion_r_min[kind]
        shown = (r > 0.6 * r_min) & (r < 12.0)
        energy = fit.params.repulsion_epsilon[kind] * repulsion_shape(form, r / r_min)
        out.append(
            {
                "term": "repulsion",
                "separation": class_key(kind, fit.forms),
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


def _dihedral_energy(fit: Fit, params: PriorParams, phi: np.ndarray) -> np.ndarray:
    return dihedral_curve(params.dihedral_cos, params.dihedral_sin, params.dihedral_spline, fit.forms.dihedral, phi)


def _keys(fit: Fit) -> list[dict[str, Any]]:
    """Bonded potentials of every key that has samples of its own, on every fourth point of the grids."""
    if fit.forms.keyed == "global":
        return []
    names, samples, params = KEY_NAMES[fit.forms.keyed], fit.samples, fit.params
    theta, phi = samples.angles.centres[::4], samples.dihedrals.centres[::4]
    out: list[dict[str, Any]] = [
        {"term": "bond", "key": name, "samples": int(n), "k": _round(k), "r0": _round(r0)}
        for name, (n, _, _), k, r0 in zip(names, samples.key_bonds, params.bond_k, params.bond_r0, strict=True)
        if n
    ]
    for name, counts, coefficients in zip(names, samples.key_angles, params.angle_coeffs, strict=True):
        if counts.any():
            energy = angle_curve(fit.forms.angle, coefficients, theta)
            out.append(_key_curve("angle", name, counts, theta, energy))
    for row, counts in enumerate(samples.key_dihedrals):
        if counts.any():
            own = PriorParams(
                *(v[row] if len(np.shape(v)) and len(v) == len(samples.key_dihedrals) else v for v in params)
            )
            name = f"{names[row // len(names)]}-{names[row % len(names)]}"
            out.append(_key_curve("dihedral", name, counts, phi, _dihedral_energy(fit, own, phi)))
    return out


def _key_curve(term: str, key: str, counts: np.ndarray, grid: np.ndarray, energy: np.ndarray) -> dict[str, Any]:
    return {
        "term": term,
        "key": key,
        "unit": "degree",
        "samples": int(counts.sum()),
        "grid": _round(grid * DEGREES_PER_RADIAN),
        "fitted": _round(energy - energy.min()),
    }


def _pairs(fit: Fit) -> list[dict[str, Any]]:
    """Terms between charged residues and between residue types, if there are any."""
    out: list[dict[str, Any]] = []
    if fit.forms.electrostatics:
        strength, length = fit.params.electrostatics
        r = np.arange(3.0, 12.01, 0.1)
        energy = strength * np.exp(-r / length) / r
        out.append(
            {
                "term": "electrostatics",
                "unit": "Å",
                "grid": _round(r),
                "fitted": _round(energy),
                "debye_length_A": _round(length),
                "about": f"two like unit charges; switched off between {SWITCH_FROM:g} of the cutoff and the cutoff",
            }
        )
    if fit.forms.contacts:
        out.append(
            {
                "term": "contact",
                "residues": list(KEY_NAMES["residue"]),
                "energy": _round(fit.params.contact_energy),
                "contacts": _round(fit.samples.contacts[0] + fit.samples.contacts[0].T),
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
