"""Prior parameters by Boltzmann inversion: U = −kT ln(p / Jacobian), with Jacobian r² for bonds and sin θ for angles.

Each term is inverted on its own, as if terms were independent (D. Reith, M. Pütz, F. Müller-Plathe, J. Comput. Chem.
24, 1624 (2003), first iteration). What that misses, and everything many-body, is the network's part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.config.priors import PriorsConfig
from cgloop.data.dataset import ProteinData
from cgloop.errors import UserError
from cgloop.model.terms import PriorParams
from cgloop.priors.samples import CIS_BELOW_A, Histogram, Samples
from cgloop.priors.series import (
    cosine_basis,
    cosine_slopes,
    fit_series,
    harmonic_numbers,
    periodic_basis,
)
from cgloop.units import thermal_energy

DECIMALS = 6
"""Parameters are rounded to so many decimals, so that the readable file and the parameters are the same numbers."""

ANGLE_SMOOTHING = np.radians(2.0)
DIHEDRAL_SMOOTHING = np.radians(5.0)
"""Width of the Gaussian kernel of the density estimates: well below what the series can resolve."""

ANGLE_TAIL = 5e-4
"""Fraction of angles beyond each end of what counts as the data's range."""

WALL_KT = 3.0
"""How far the angle's potential rises, at most, above its range in the data (VALIDATION: static prior sanity)."""

WALL_WIDTH = np.radians(20.0)
"""Room that the wall takes to rise so far; where the data leave less, it rises in proportion."""

DENSITY_FLOOR = 0.01
"""Densities are known down to this part of the uniform density; below it the potential is flat."""

FLOOR_WEIGHT = 0.05
"""Weight in the fits of points without data, relative to the most probable one."""

DEFAULT_R_MIN_A = (4.8, 4.0, 3.8)
"""Smallest CA–CA distances of folded proteins per separation class: the range of repulsion where the reference has no
such pair, and its upper limit where it has, because a short trajectory of one protein sees too few close pairs."""

CONTACT_A, CONTACT_KT = 3.0, 3.0
"""Two beads that are not neighbours but two bonds or more apart must cost so much at this distance."""


@dataclass(frozen=True)
class Fit:
    """Parameters with what they were made from.

    Attributes:
        params: the prior.
        samples: the distributions.
        temperature_K: K.
        r_min_from: per separation class, where its range comes from, in words.
        angle_range: θ where the data's range begins and ends, radians; None without angles.
    """

    params: PriorParams
    samples: Samples
    temperature_K: float
    r_min_from: tuple[str, ...]
    angle_range: tuple[float, float] | None


def fit_priors(
    proteins: Sequence[ProteinData], config: PriorsConfig, temperature_K: float, cutoff_A: float
) -> PriorParams:
    """Prior parameters from reference frames.

    Args:
        proteins: frames of the train split at the temperature, nothing else.
        config: orders, ridge, strength of the repulsion, weights.
        temperature_K: of the frames, K.
        cutoff_A: of non-bonded terms; repulsion must end before it.

    Raises:
        UserError: fewer than `min_frames` frames, positions that cannot be a protein's, or too short a cutoff.
    """
    samples = Samples()
    for protein in proteins:
        samples.add(protein)
    return fit_samples(samples, config, temperature_K, cutoff_A).params


def fit_samples(samples: Samples, config: PriorsConfig, temperature_K: float, cutoff_A: float) -> Fit:
    """As `fit_priors`, from distributions."""
    if samples.n_frames < config.min_frames:
        raise UserError(
            f"{samples.n_frames} training frames at {temperature_K:g} K, the priors need {config.min_frames}",
            remedy="give more frames to `data.split.train`, or lower `priors.min_frames`",
        )
    kT = thermal_energy(temperature_K)
    bond_k, bond_r0 = fit_bond(samples, kT)
    angle_coeffs, angle_range = fit_angle(samples.angles, config.angle_order, config.ridge, kT)
    dihedral_cos, dihedral_sin = fit_dihedral(samples.dihedrals, config.dihedral_order, config.ridge, kT)
    r_min, origins = fit_repulsion(samples.smallest, config.repulsion_epsilon_kT)
    if not cutoff_A > r_min.max():
        raise UserError(
            f"`model.cutoff_A` is {cutoff_A:g}, the repulsion reaches to {r_min.max():.2f} Å",
            remedy="choose a larger cutoff",
        )
    weights = config.weights
    params = PriorParams(
        bond_k=np.round(bond_k, DECIMALS),
        bond_r0=np.round(bond_r0, DECIMALS),
        angle_coeffs=np.round(angle_coeffs, DECIMALS),
        dihedral_cos=np.round(dihedral_cos, DECIMALS),
        dihedral_sin=np.round(dihedral_sin, DECIMALS),
        repulsion_epsilon=np.round(np.full(len(r_min), config.repulsion_epsilon_kT * kT), DECIMALS),
        repulsion_r_min=np.round(r_min, DECIMALS),
        weights=np.array([weights.bond, weights.angle, weights.dihedral, weights.repulsion]),
    )
    return Fit(params, samples, temperature_K, origins, angle_range)


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


def fit_angle(angles: Histogram, order: int, ridge: float, kT: float) -> tuple[np.ndarray, tuple[float, float] | None]:
    """Coefficients a_n (kcal/mol) of U(θ) = Σ a_n cos nθ, and the data's range of θ (radians).

    Beyond the data's range the target is a wall, rising along a parabola by `WALL_KT` to the end of [0, π]. The fit is
    held to it by inequalities: outside the range the slope never points away from the data, so there is no second
    minimum, and nothing is more than `WALL_KT` above the range of the potential in the data.
    """
    if angles.total == 0:
        return np.zeros(order + 1), None
    theta = angles.centres
    target, density, inside = angle_target(angles, kT)
    first, last = np.flatnonzero(inside)[[0, -1]]
    basis, slopes = cosine_basis(theta, order), cosine_slopes(theta, order)
    ceiling = np.ptp(target[inside]) + WALL_KT * kT
    # Rows of "at least": falling below the range, rising above it, both ends under the ceiling over every point inside.
    rows = [-slopes[:first], slopes[last + 1 :]]
    bounds = [np.zeros(first), np.zeros(len(theta) - last - 1)]
    for end in (0.0, np.pi):
        rows.append(basis[inside] - cosine_basis(np.array([end]), order))
        bounds.append(np.full(int(inside.sum()), -ceiling))
    weights = np.where(inside, np.maximum(density / density.max(), FLOOR_WEIGHT), FLOOR_WEIGHT)
    coefficients = fit_series(
        basis, target, weights, harmonic_numbers(order + 1, order), ridge, np.concatenate(rows), np.concatenate(bounds)
    )
    return coefficients, (float(theta[first]), float(theta[last]))


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
    """Coefficients a_n and b_n (kcal/mol, n = 0 … order) of U(φ) = Σ a_n cos nφ + b_n sin nφ.

    Where the reference never goes the target is flat at its highest known value, and inequalities keep the fit there
    above every point that is within kT of the minimum.
    """
    if dihedrals.total == 0:
        return np.zeros(order + 1), np.zeros(order + 1)
    target, density, known = dihedral_target(dihedrals, kT)
    basis = periodic_basis(dihedrals.centres, order)
    low, unknown = basis[target < kT], basis[~known]
    rows = (unknown[:, None, :] - low[None, ::4, :]).reshape(-1, basis.shape[1])
    weights = np.maximum(density / density.max(), FLOOR_WEIGHT)
    harmonics = harmonic_numbers(basis.shape[1], order)
    coefficients = fit_series(basis, target, weights, harmonics, ridge, rows, np.zeros(len(rows)))
    return coefficients[: order + 1], np.concatenate([[0.0], coefficients[order + 1 :]])


def dihedral_target(dihedrals: Histogram, kT: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The potential to fit (kcal/mol, zero at its minimum), the smoothed density (1/rad), and where it is known."""
    density = _kernel(dihedrals.centres, DIHEDRAL_SMOOTHING, periodic=True) @ dihedrals.density()
    floor = DENSITY_FLOOR / (2.0 * np.pi)
    potential = -kT * np.log(np.maximum(density, floor))
    return potential - potential.min(), density, density > floor


def fit_repulsion(smallest: np.ndarray, epsilon_kT: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """r_min (Å) per separation class, and in words where each comes from.

    It is the smallest distance of the reference, above which the repulsion is zero, so that it counts nothing twice
    that the network learns; at most `DEFAULT_R_MIN_A`, and at least so much that U(3 Å) is 3 kT.
    """
    # ε [(r_m/r)⁶ − 1]² = CONTACT_KT kT at r = CONTACT_A
    least = CONTACT_A * (1.0 + np.sqrt(CONTACT_KT / epsilon_kT)) ** (1.0 / 6.0) + 10.0**-DECIMALS
    values, origins = [], []
    for found, default in zip(smallest, DEFAULT_R_MIN_A, strict=True):
        value, origin = float(found), "smallest distance in the reference"
        if not np.isfinite(found):
            value, origin = default, "default: the reference has no such pair"
        elif found > default:
            value, origin = default, f"default: the reference's smallest distance is {found:.3f}"
        if value < least:
            value, origin = least, f"raised so that U({CONTACT_A:g} Å) is {CONTACT_KT:g} kT; was {value:.3f}"
        values.append(value)
        origins.append(origin)
    return np.array(values), tuple(origins)


def _kernel(grid: np.ndarray, width: float, periodic: bool) -> np.ndarray:
    """Gaussian kernels [G, G] that keep the sum over the grid; cut at ends that are not periodic."""
    apart = np.abs(grid[:, None] - grid[None, :])
    if periodic:
        apart = np.minimum(apart, 2.0 * np.pi - apart)
    kernel = np.exp(-0.5 * (apart / width) ** 2)
    return kernel / kernel.sum(axis=0)
