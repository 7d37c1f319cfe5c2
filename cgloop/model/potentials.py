"""The functions of one coordinate that prior terms are made of. Energies in kcal/mol, lengths in Å, angles in radians.

Each takes an array of any shape. Coefficients have their number last; axes before it, if any, are those of the
coordinate, so that one function serves common parameters and parameters per residue type. All are finite, with finite
derivatives, for every finite input.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

LINEAR_BELOW = 0.5
"""Below this fraction of its range a repulsion goes on as a straight line, so that overlaps have finite forces."""

STRAIGHT = 1.0 - 1e-4
"""Beyond this |cos θ| (0.8° from straight) θ goes on as a straight line in cos θ: arccos has no slope at ±1."""

DAMPED_FROM = math.radians(165.0)
"""Angle from which on the dihedrals that it belongs to are damped; angles of folded proteins stay below it."""

COULOMB_LINEAR_BELOW_A = 2.0
"""Below this distance electrostatics goes on as a straight line."""

SWITCH_FROM = 0.75
"""Terms that do not end by themselves are switched off between this fraction of the cutoff and the cutoff."""

CONTACT_INNER_A, CONTACT_OUTER_A = 5.0, 9.0
"""A contact counts fully below the first distance and not at all beyond the second."""


def harmonic(x: jax.Array, k: jax.Array, x0: jax.Array) -> jax.Array:
    """½ k (x − x0)²."""
    return 0.5 * k * (x - x0) ** 2


def cosine_series(cosine: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Σ a_n cos nθ as a polynomial in cos θ (Chebyshev recursion): no 1/sin θ appears in the force."""
    previous, current = jnp.ones_like(cosine), cosine
    energy = coefficients[..., 0] * previous
    for n in range(1, coefficients.shape[-1]):
        energy = energy + coefficients[..., n] * current
        previous, current = current, 2.0 * cosine * current - previous
    return energy


def harmonic_angle(cosine: jax.Array, coefficients: jax.Array) -> jax.Array:
    """½ k (θ − θ0)² with k, θ0 = coefficients; θ within 0.8° of 0 and π is linear in cos θ (`STRAIGHT`)."""
    inside = jnp.clip(cosine, -STRAIGHT, STRAIGHT)
    theta = jnp.arccos(inside) - (cosine - inside) / jnp.sqrt(1.0 - STRAIGHT**2)
    return harmonic(theta, coefficients[..., 0], coefficients[..., 1])


def angle_spline(cosine: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Cubic B-spline in cos θ on equal intervals of [−1, 1]; being a function of cos θ it is smooth at 0 and π."""
    intervals = coefficients.shape[-1] - 3
    place = (cosine + 1.0) * (0.5 * intervals)
    first = jnp.clip(jnp.floor(place), 0, intervals - 1)
    return _b_spline(place - first, first.astype(jnp.int32)[..., None] + jnp.arange(4), coefficients)


def periodic_series(cosine: jax.Array, sine: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Σ a_n cos nφ + b_n sin nφ from cos φ and sin φ, by the addition theorem."""
    energy = a[..., 0] * jnp.ones_like(cosine)
    cos_n, sin_n = cosine, sine
    for n in range(1, a.shape[-1]):
        energy = energy + a[..., n] * cos_n + b[..., n] * sin_n
        cos_n, sin_n = cosine * cos_n - sine * sin_n, sine * cos_n + cosine * sin_n
    return energy


def periodic_spline(cosine: jax.Array, sine: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Periodic cubic B-spline in φ on equal intervals of [−π, π].

    Where beads are collinear both cos φ and sin φ tend to 0 and φ has no value: the energy fades to the spline's mean
    with cos² φ + sin² φ, which is 1 to 1e-8 for every other geometry.
    """
    intervals = coefficients.shape[-1]
    square = cosine**2 + sine**2
    defined = square > 1e-12
    # Replaced before the arctangent, whose derivative at (0, 0) is not a number even where it is not used.
    phi = jnp.arctan2(jnp.where(defined, sine, 0.0), jnp.where(defined, cosine, 1.0))
    place = (phi + jnp.pi) * (intervals / (2.0 * jnp.pi))
    first = jnp.floor(place)
    index = jnp.mod(first.astype(jnp.int32)[..., None] + jnp.arange(4), intervals)
    mean = jnp.mean(coefficients, axis=-1)
    shape = _b_spline(place - first, index, coefficients) - mean
    return mean + jnp.where(defined, square, 0.0) * shape


def straight_damping(bend: jax.Array) -> jax.Array:
    """1 up to `DAMPED_FROM`, beyond it 1 − t² with t from 0 to 1 where the angle is straight; bend = π − θ in rad.

    The force of a dihedral grows as 1/sin θ of its angles: without end where three beads come to lie on a line, though
    neither energy nor angle do anything there. Times this factor of both its angles a dihedral ends there, and its
    force is bounded. Source: M. Bulacu et al., J. Chem. Theory Comput. 9, 3282 (2013), who damp at every angle; this
    form leaves the usual angles alone and is that of LAMMPS's `dihedral_style table/cut`.
    """
    t = 1.0 - jnp.minimum(bend / (math.pi - DAMPED_FROM), 1.0)
    return 1.0 - t * t


def _b_spline(u: jax.Array, index: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Σ_k B_k(u) c[index_k], the uniform cubic B-spline in the interval where u is in [0, 1].

    Source: C. de Boor, A Practical Guide to Splines, chapter IX (Springer, 2001).
    """
    shape = (*index.shape[:-1], coefficients.shape[-1])
    chosen = jnp.take_along_axis(jnp.broadcast_to(coefficients, shape), index, axis=-1)
    v = 1.0 - u
    basis = jnp.stack([v**3, 3 * u**3 - 6 * u**2 + 4, 3 * v**3 - 6 * v**2 + 4, u**3], axis=-1) / 6.0
    return jnp.sum(basis * chosen, axis=-1)


def wca(r: jax.Array, epsilon: jax.Array, r_min: jax.Array) -> jax.Array:
    """Weeks–Chandler–Andersen repulsion ε[(r_m/r)¹² − 2(r_m/r)⁶ + 1] below r_m, zero above; a straight line with
    the same value and slope below r_m/2.

    Source: J. D. Weeks, D. Chandler, H. C. Andersen, J. Chem. Phys. 54, 5237 (1971).
    """
    start = LINEAR_BELOW * r_min
    inside = jnp.clip(r, start, r_min)
    power_6 = (r_min / inside) ** 6
    energy = epsilon * (power_6 - 1.0) ** 2
    ratio_6 = LINEAR_BELOW**-6
    slope = -12.0 * epsilon * ratio_6 * (ratio_6 - 1.0) / start
    return energy + slope * jnp.minimum(r - start, 0.0)


def lennard_jones(r: jax.Array, epsilon: jax.Array, r_min: jax.Array) -> jax.Array:
    """ε[(r_m/r)¹² − 2(r_m/r)⁶], minimum −ε at r_m; a straight line below r_m/2."""
    start = LINEAR_BELOW * r_min
    power_6 = (r_min / jnp.maximum(r, start)) ** 6
    ratio_6 = LINEAR_BELOW**-6
    slope = -12.0 * epsilon * ratio_6 * (ratio_6 - 1.0) / start
    return epsilon * (power_6 - 2.0) * power_6 + slope * jnp.minimum(r - start, 0.0)


def power_law(exponent: int) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """The function ε (σ/r)^exponent of (r, ε, r_min = σ); a straight line below σ/2."""

    def potential(r: jax.Array, epsilon: jax.Array, r_min: jax.Array) -> jax.Array:
        start = LINEAR_BELOW * r_min
        slope = -exponent * epsilon * LINEAR_BELOW**-exponent / start
        return epsilon * (r_min / jnp.maximum(r, start)) ** exponent + slope * jnp.minimum(r - start, 0.0)

    return potential


def debye_hueckel(r: jax.Array, strength: jax.Array, length: jax.Array) -> jax.Array:
    """strength · exp(−r/length)/r for unit charges; a straight line below `COULOMB_LINEAR_BELOW_A`.

    Source: P. Debye, E. Hückel, Phys. Z. 24, 185 (1923).
    """
    start = COULOMB_LINEAR_BELOW_A
    inside = jnp.maximum(r, start)
    value = strength * jnp.exp(-inside / length) / inside
    slope = -strength * jnp.exp(-start / length) / start * (1.0 / start + 1.0 / length)
    return value + slope * jnp.minimum(r - start, 0.0)


def contact(r: jax.Array) -> jax.Array:
    """1 below `CONTACT_INNER_A`, 0 above `CONTACT_OUTER_A`, with two continuous derivatives."""
    return switch(r, CONTACT_INNER_A, CONTACT_OUTER_A)


def switch(r: jax.Array, start: float, end: float) -> jax.Array:
    """1 below `start`, 0 above `end`, between them 1 − 10t³ + 15t⁴ − 6t⁵ with t = (r − start)/(end − start)."""
    t = jnp.clip((r - start) / (end - start), 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)


ANGLE_FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "fourier": cosine_series,
    "harmonic": harmonic_angle,
    "spline": angle_spline,
}
"""(cos θ, coefficients) -> energy."""

REPULSION_FORMS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
    "wca": wca,
    "lj": lennard_jones,
    "power4": power_law(4),
    "power6": power_law(6),
    "power12": power_law(12),
}
"""(r, ε, r_min or σ) -> energy; all but "wca" reach to the cutoff."""
