"""The forms of prior terms as linear bases for fits, and as curves for plots; NumPy, float64.

The same functions as in `cgloop.model.potentials`, where the energy is computed.
"""

from dataclasses import dataclass

import numpy as np

from cgloop.config.priors import PriorsConfig
from cgloop.model.terms import PriorForms
from cgloop.priors.series import cosine_basis, cosine_slopes, harmonic_numbers, periodic_basis


def forms_of(config: PriorsConfig) -> PriorForms:
    """The forms that a config asks for."""
    return PriorForms(
        angle=config.angle_form,
        dihedral=config.dihedral_form,
        repulsion=config.repulsion_form,
        keyed=config.keyed,
        electrostatics=config.electrostatics.enabled,
        electrostatics_separation=config.electrostatics.min_separation,
        contacts=config.contacts.enabled,
        repulsion_separation=config.repulsion_separation,
    )


@dataclass(frozen=True)
class Basis:
    """A potential that is linear in its coefficients, on a grid.

    Attributes:
        values, slopes: [G, C], and their derivative by the angle.
        penalty: [M, C]; Σ (penalty·c)² approximates ridge times the integral of the squared second derivative.
    """

    values: np.ndarray
    slopes: np.ndarray
    penalty: np.ndarray


def angle_basis(form: str, theta: np.ndarray, size: int, ridge: float) -> Basis:
    """Of the angle forms that are linear.

    Args:
        form: "fourier" or "spline".
        theta: [G], rad.
        size: order of the series, or intervals of the spline.
        ridge: weight of the penalty.
    """
    if form == "fourier":
        penalty = _series_penalty(size + 1, size, ridge)
        return Basis(cosine_basis(theta, size), cosine_slopes(theta, size), penalty)
    width = 2.0 / size
    place = (np.cos(theta) + 1.0) / width
    first = np.clip(np.floor(place), 0, size - 1).astype(int)
    values, slopes = _spline_rows(place - first, first[:, None] + np.arange(4), size + 3)
    penalty = np.sqrt(ridge * width * 2.0 / np.pi) / width**2 * np.diff(np.eye(size + 3), 2, axis=0)
    return Basis(values, -np.sin(theta)[:, None] / width * slopes, penalty)


def dihedral_basis(form: str, phi: np.ndarray, size: int, ridge: float) -> Basis:
    """Of both dihedral forms; arguments as of `angle_basis`, φ in [−π, π]. Series: cosines, then sines from n = 1."""
    if form == "fourier":
        orders = np.arange(size + 1)
        slopes = np.concatenate([cosine_slopes(phi, size), (orders * np.cos(np.outer(phi, orders)))[:, 1:]], axis=1)
        return Basis(periodic_basis(phi, size), slopes, _series_penalty(2 * size + 1, size, ridge))
    width = 2.0 * np.pi / size
    place = (phi + np.pi) / width
    first = np.floor(place).astype(int)
    values, slopes = _spline_rows(place - first, (first[:, None] + np.arange(4)) % size, size)
    identity = np.eye(size)
    curvature = np.roll(identity, 1, axis=1) - 2.0 * identity + np.roll(identity, -1, axis=1)
    return Basis(values, slopes / width, np.sqrt(ridge * width / np.pi) / width**2 * curvature)


def _series_penalty(columns: int, order: int, ridge: float) -> np.ndarray:
    return np.diag(np.sqrt(ridge) * harmonic_numbers(columns, order).astype(float) ** 2)


def _spline_rows(u: np.ndarray, index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Uniform cubic B-splines and their derivative by u at u in [0, 1] of an interval, as rows [G, size]."""
    v = 1.0 - u
    values = np.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], axis=1) / 6.0
    slopes = np.stack([-(v**2), 3 * u**2 - 4 * u, -3 * v**2 + 4 * v, u**2], axis=1) / 2.0
    out = np.zeros((2, len(u), size))
    for column in range(4):
        for table, part in zip(out, (values, slopes), strict=True):
            np.add.at(table, (np.arange(len(u)), index[:, column]), part[:, column])
    return out[0], out[1]


def angle_curve(form: str, coefficients: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Energy (kcal/mol) at angles θ (rad)."""
    if form == "harmonic":
        return 0.5 * coefficients[0] * (theta - coefficients[1]) ** 2
    size = len(coefficients) - (1 if form == "fourier" else 3)
    return angle_basis(form, theta, size, 0.0).values @ coefficients


def dihedral_curve(
    cosines: np.ndarray, sines: np.ndarray, spline: np.ndarray, form: str, phi: np.ndarray
) -> np.ndarray:
    """Energy (kcal/mol) at dihedral angles φ (rad)."""
    if form == "spline":
        return dihedral_basis(form, phi, len(spline), 0.0).values @ spline
    return periodic_basis(phi, len(cosines) - 1) @ np.concatenate([cosines, sines[1:]])


def repulsion_shape(form: str, ratio: np.ndarray) -> np.ndarray:
    """Energy over ε as a function of r over r_min (σ of power laws), without the straight line at overlap."""
    if form == "wca":
        return (np.minimum(ratio, 1.0) ** -6.0 - 1.0) ** 2
    if form == "lj":
        return ratio**-12.0 - 2.0 * ratio**-6.0
    return ratio ** -float(form.removeprefix("power"))
