"""Boltzmann inversion of bonds, angles and dihedrals, one distribution at a time."""

import numpy as np

from cgloop.errors import UserError
from cgloop.priors.forms import angle_basis, dihedral_basis
from cgloop.priors.samples import CIS_BELOW_A, Histogram, Samples
from cgloop.priors.series import fit_linear

ANGLE_SMOOTHING = np.radians(2.0)
DIHEDRAL_SMOOTHING = np.radians(5.0)
"""Width of the Gaussian kernel of the density estimates: well below what the series can resolve."""

ANGLE_TAIL = 5e-4
"""Fraction of angles beyond each end of what counts as the data's range."""

WALL_KT = 3.0
"""How far the angle's potential rises, at most, above its range in the data (VALIDATION: static prior sanity)."""

WALL_WIDTH = np.radians(20.0)
"""Room that the wall takes to rise so far; where the data leave less, it rises in proportion."""

WALL_SHARE = 0.25
"""Part of the wall's mean slope that a spline has at least everywhere outside the data's range."""

DENSITY_FLOOR = 0.01
"""Densities are known down to this part of the uniform density; below it the potential is flat."""

FLOOR_WEIGHT = 0.05
"""Weight in the fits of points without data, relative to the most probable one."""


def fit_bond(samples: Samples, kT: float) -> tuple[np.ndarray, np.ndarray]:
    """k (kcal/mol/Å²) and r0 (Å) of U = ½ k (r − r0)² from mean m and variance v of the bond lengths.

    p(r) ∝ r² exp(−U/kT) is, to second order about its maximum, a normal distribution with 1/v = k/kT + 2/m² and
    k (m − r0) = 2 kT/m. Without bonds, k = 0.

    Raises:
        UserError: bonds that are all shorter than any trans peptide's, or do not vary.
    """
    if samples.n_bonds == 0 and samples.n_cis == 0:
        return np.asarray(0.0), np.asarray(3.8)
    if samples.n_bonds == 0:
        raise UserError(
            f"no CA–CA bond is longer than {CIS_BELOW_A} Å",
            remedy="check the unit of the coordinates: Å is expected",
        )
    mean, variance = samples.bond_mean, samples.bond_variance
    if not variance > 1e-8 * mean**2:
        raise UserError("CA–CA bonds do not vary: the reference is not a thermal ensemble")
    k = kT / variance - 2.0 * kT / mean**2
    return np.asarray(k), np.asarray(mean - 2.0 * kT / (k * mean))


def fit_angle(
    angles: Histogram, size: int, ridge: float, kT: float, form: str = "fourier"
) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Coefficients (kcal/mol) of the angle's potential, and the data's range of θ (radians).

    Beyond the data's range the target is a wall, rising along a parabola by `WALL_KT` to the end of [0, π]. Series and
    splines are held to it by inequalities: outside the range the slope never points away from the data, so there is no
    second minimum (a spline rises by at least `WALL_SHARE` of the wall: it never ends flat), and nothing is more than
    `WALL_KT` above the range of the potential in the data.

    Args:
        angles: the distribution.
        size: order of the series, or intervals of the spline.
        ridge: weight of the curvature.
        kT: kcal/mol.
        form: "fourier", "harmonic" or "spline".
    """
    if angles.total == 0:
        return np.zeros(2 if form == "harmonic" else size + (1 if form == "fourier" else 3)), None
    theta = angles.centres
    target, density, inside = angle_target(angles, kT)
    first, last = np.flatnonzero(inside)[[0, -1]]
    data_range = (float(theta[first]), float(theta[last]))
    if form == "harmonic":
        return fit_harmonic_angle(theta[inside], target[inside], density[inside], kT), data_range
    weights = np.where(inside, np.maximum(density / density.max(), FLOOR_WEIGHT), FLOOR_WEIGHT)
    basis = angle_basis(form, theta, size, ridge)
    rows, bounds = angle_limits(angles, form, size, kT)
    try:
        return fit_linear(basis.values, target, weights, basis.penalty, rows, bounds), data_range
    except ValueError:
        # Data much narrower than an interval of the spline: it confines them, but cannot stay below the ceiling.
        rows, bounds = angle_limits(angles, form, size, kT, ceiling=False)
        return fit_linear(basis.values, target, weights, basis.penalty, rows, bounds), data_range


def angle_limits(
    angles: Histogram, form: str, size: int, kT: float, ceiling: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and bounds of the inequalities rows·c ≥ bounds of `fit_angle`; with `ceiling` also the limits of walls."""
    theta = angles.centres
    target, _, inside = angle_target(angles, kT)
    first, last = np.flatnonzero(inside)[[0, -1]]
    basis = angle_basis(form, theta, size, 0.0)
    highest = np.ptp(target[inside]) + WALL_KT * kT
    least_below, least_above = np.zeros(first), np.zeros(len(theta) - last - 1)
    if form == "spline":
        for least, end, edge, part in (
            (least_below, 0.0, theta[first], theta[:first]),
            (least_above, np.pi, theta[last], theta[last + 1 :]),
        ):
            # Per unit of cos θ, in which the spline is one: the least of the wall rises evenly.
            room = max(abs(np.cos(end) - np.cos(edge)), 1.0 - np.cos(WALL_WIDTH))
            least[:] = WALL_SHARE * WALL_KT * kT * np.sin(part) / room
    # Rows of "at least": falling below the range, rising above it, both ends under the ceiling over every point inside.
    rows = [-basis.slopes[:first], basis.slopes[last + 1 :]]
    bounds = [least_below, least_above]
    for end in (0.0, np.pi) if ceiling else ():
        rows.append(basis.values[inside] - angle_basis(form, np.array([end]), size, 0.0).values)
        bounds.append(np.full(int(inside.sum()), -highest))
    return np.concatenate(rows), np.concatenate(bounds)


def fit_harmonic_angle(theta: np.ndarray, target: np.ndarray, density: np.ndarray, kT: float) -> np.ndarray:
    """k (kcal/mol/rad²) and θ0 (rad) of ½ k (θ − θ0)², the parabola nearest to the potential where the data are.

    Where that is much wider than the data, as with two basins, k = kT/variance about the mean.
    """
    mean = np.average(theta, weights=density)
    root = np.sqrt(density / density.max())
    columns = np.stack([np.ones_like(theta), theta - mean, (theta - mean) ** 2], axis=1)
    (_, slope, half), *_ = np.linalg.lstsq(columns * root[:, None], target * root, rcond=None)
    variance = np.average((theta - mean) ** 2, weights=density)
    if half > 0.4 * kT / variance:
        centre = mean - slope / (2.0 * half)
        if theta[0] <= centre <= theta[-1]:
            return np.array([2.0 * half, centre])
    return np.array([kT / max(variance, 1e-6), mean])


def angle_target(angles: Histogram, kT: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The potential to fit (kcal/mol, zero at its minimum), the smoothed density (1/rad), and which θ are in range."""
    theta = angles.centres
    kernel = _kernel(theta, ANGLE_SMOOTHING, periodic=False)
    density = kernel @ angles.density()
    cumulative = np.cumsum(angles.counts) / angles.total
    first = int(np.searchsorted(cumulative, ANGLE_TAIL))
    last = int(np.searchsorted(cumulative, 1.0 - ANGLE_TAIL))
    inside = (np.arange(len(theta)) >= first) & (np.arange(len(theta)) <= last)
    # A gap in the data has a density of zero: its potential is only known to be high.
    known = np.maximum(density, DENSITY_FLOOR / np.pi)
    # The Jacobian is smoothed as the density is: near 0 and π it changes within the kernel's width.
    potential = -kT * np.log(known / (kernel @ np.sin(theta)))
    potential -= potential[inside].min()
    potential[:first] = potential[first] + kT * _wall(theta[first] - theta[:first], theta[first])
    potential[last + 1 :] = potential[last] + kT * _wall(theta[last + 1 :] - theta[last], np.pi - theta[last])
    return potential, density, inside


def _wall(distance: np.ndarray, room: float) -> np.ndarray:
    """A parabola that rises from 0 and levels off at the end of the room, as every cosine series does there; in kT."""
    part = distance / room
    return WALL_KT * min(1.0, room / WALL_WIDTH) * part * (2.0 - part)


def fit_dihedral(dihedrals: Histogram, order: int, ridge: float, kT: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients a_n and b_n (kcal/mol, n = 0 … order) of U(φ) = Σ a_n cos nφ + b_n sin nφ."""
    coefficients = fit_dihedral_basis(dihedrals, "fourier", order, ridge, kT)
    return coefficients[: order + 1], np.concatenate([[0.0], coefficients[order + 1 :]])


def fit_dihedral_basis(dihedrals: Histogram, form: str, size: int, ridge: float, kT: float) -> np.ndarray:
    """Coefficients (kcal/mol) of a dihedral's potential in either form.

    Where the reference never goes the target is flat at its highest known value, and inequalities keep the fit there
    above every point that is within kT of the minimum.
    """
    basis = dihedral_basis(form, dihedrals.centres, size, ridge)
    if dihedrals.total == 0:
        return np.zeros(basis.values.shape[1])
    target, density, _ = dihedral_target(dihedrals, kT)
    rows, bounds = dihedral_limits(dihedrals, form, size, kT)
    weights = np.maximum(density / density.max(), FLOOR_WEIGHT)
    return fit_linear(basis.values, target, weights, basis.penalty, rows, bounds)


def dihedral_limits(dihedrals: Histogram, form: str, size: int, kT: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and bounds of the inequalities of `fit_dihedral_basis`."""
    target, _, known = dihedral_target(dihedrals, kT)
    values = dihedral_basis(form, dihedrals.centres, size, 0.0).values
    low, unknown = values[target < kT], values[~known]
    rows = (unknown[:, None, :] - low[None, ::4, :]).reshape(-1, values.shape[1])
    return rows, np.zeros(len(rows))


def dihedral_target(dihedrals: Histogram, kT: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The potential to fit (kcal/mol, zero at its minimum), the smoothed density (1/rad), and where it is known."""
    density = _kernel(dihedrals.centres, DIHEDRAL_SMOOTHING, periodic=True) @ dihedrals.density()
    floor = DENSITY_FLOOR / (2.0 * np.pi)
    potential = -kT * np.log(np.maximum(density, floor))
    return potential - potential.min(), density, density > floor


def _kernel(grid: np.ndarray, width: float, periodic: bool) -> np.ndarray:
    """Gaussian kernels [G, G] that keep the sum over the grid; cut at ends that are not periodic."""
    apart = np.abs(grid[:, None] - grid[None, :])
    if periodic:
        apart = np.minimum(apart, 2.0 * np.pi - apart)
    kernel = np.exp(-0.5 * (apart / width) ** 2)
    return kernel / kernel.sum(axis=0)
