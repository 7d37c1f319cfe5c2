"""Prior energy terms: bonds, angles, dihedrals and a short-ranged repulsion. Energies in kcal/mol, lengths in Å.

Each term gives one energy per bond, angle, dihedral or directed edge; `hybrid.py` sums them over replicas or beads.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model import geometry
from cgloop.model.graph import Graph

PRIOR_TERM_NAMES = ("bond", "angle", "dihedral", "repulsion")
TERM_NAMES = (*PRIOR_TERM_NAMES, "ml")

SEPARATION_CLASSES = ((2, 2), (3, 5), (6, None))
"""First and last separation along the chain of the three classes of repulsion; None: no end, and other chains."""

LINEAR_BELOW = 0.5
"""Below this fraction of r_min the repulsion goes on as a straight line, so that overlaps have finite forces."""


class PriorParams(NamedTuple):
    """Parameters of the prior, a pytree of arrays (any float dtype; computed with in that of the positions).

    Attributes:
        bond_k: [] kcal/mol/Å², in U = ½ k (r − r0)².
        bond_r0: [] Å.
        angle_coeffs: [order + 1] kcal/mol, in U(θ) = Σ a_n cos nθ.
        dihedral_cos: [order + 1] kcal/mol, a_n in U(φ) = Σ a_n cos nφ + b_n sin nφ.
        dihedral_sin: [order + 1] kcal/mol, b_n; b_0 has no effect.
        repulsion_epsilon: [3] kcal/mol, for separations 2, 3 to 5, and 6 or more.
        repulsion_r_min: [3] Å, where the repulsion ends.
        weights: [4] factors on the energies of bond, angle, dihedral, repulsion; 1 is right.
    """

    bond_k: np.ndarray
    bond_r0: np.ndarray
    angle_coeffs: np.ndarray
    dihedral_cos: np.ndarray
    dihedral_sin: np.ndarray
    repulsion_epsilon: np.ndarray
    repulsion_r_min: np.ndarray
    weights: np.ndarray


def zero_prior() -> PriorParams:
    """A prior without energy, for models that are `ml-only`."""
    zero = np.zeros((), dtype=np.float32)
    series = np.zeros(1, dtype=np.float32)
    return PriorParams(
        bond_k=zero,
        bond_r0=zero + np.float32(3.8),
        angle_coeffs=series,
        dihedral_cos=series,
        dihedral_sin=series,
        repulsion_epsilon=np.zeros(3, dtype=np.float32),
        repulsion_r_min=np.ones(3, dtype=np.float32),
        weights=np.ones(4, dtype=np.float32),
    )


def bond_potential(r: jax.Array, params: PriorParams) -> jax.Array:
    """½ k (r − r0)² for lengths r in Å."""
    return 0.5 * params.bond_k * (r - params.bond_r0) ** 2


def angle_potential(cosine: jax.Array, params: PriorParams) -> jax.Array:
    """Σ a_n cos nθ as a polynomial in cos θ (Chebyshev recursion): no 1/sin θ appears in the force."""
    coefficients = params.angle_coeffs
    previous, current = jnp.ones_like(cosine), cosine
    energy = coefficients[0] * previous
    for n in range(1, coefficients.shape[0]):
        energy = energy + coefficients[n] * current
        previous, current = current, 2.0 * cosine * current - previous
    return energy


def dihedral_potential(cosine: jax.Array, sine: jax.Array, params: PriorParams) -> jax.Array:
    """Σ a_n cos nφ + b_n sin nφ from cos φ and sin φ, by the addition theorem."""
    energy = params.dihedral_cos[0] * jnp.ones_like(cosine)
    cos_n, sin_n = cosine, sine
    for n in range(1, params.dihedral_cos.shape[0]):
        energy = energy + params.dihedral_cos[n] * cos_n + params.dihedral_sin[n] * sin_n
        cos_n, sin_n = cosine * cos_n - sine * sin_n, sine * cos_n + cosine * sin_n
    return energy


def repulsion_potential(r: jax.Array, epsilon: jax.Array, r_min: jax.Array) -> jax.Array:
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


def separation_class(separation: jax.Array) -> jax.Array:
    """Index into `SEPARATION_CLASSES`; bonded neighbours (separation 1) get 0 and are masked elsewhere."""
    return (separation >= SEPARATION_CLASSES[1][0]).astype(jnp.int32) + (separation >= SEPARATION_CLASSES[2][0])


def bond_energies(params: PriorParams, positions: jax.Array, graph: Graph) -> jax.Array:
    """Energies [B] of the bonds, weight included, 0 where masked."""
    params = cast_prior(params, positions.dtype)
    lengths = geometry.bond_lengths(positions, graph.bonds)
    return params.weights[0] * jnp.where(graph.bond_mask, bond_potential(lengths, params), 0.0)


def angle_energies(params: PriorParams, positions: jax.Array, graph: Graph) -> jax.Array:
    """Energies [A] of the angles, weight included, 0 where masked."""
    params = cast_prior(params, positions.dtype)
    cosines = geometry.angle_cosines(positions, graph.angles)
    return params.weights[1] * jnp.where(graph.angle_mask, angle_potential(cosines, params), 0.0)


def dihedral_energies(params: PriorParams, positions: jax.Array, graph: Graph) -> jax.Array:
    """Energies [D] of the dihedrals, weight included, 0 where masked."""
    params = cast_prior(params, positions.dtype)
    cosines, sines = geometry.dihedral_cosines_sines(positions, graph.dihedrals)
    return params.weights[2] * jnp.where(graph.dihedral_mask, dihedral_potential(cosines, sines, params), 0.0)


def repulsion_energies(params: PriorParams, lengths: jax.Array, graph: Graph) -> jax.Array:
    """Energies [E] of the directed edges: half of the pair's energy each, since both directions are listed.

    Args:
        params: the prior.
        lengths: [E] Å, of the edges.
        graph: its separations and edge mask are used; bonded neighbours have no repulsion.
    """
    params = cast_prior(params, lengths.dtype)
    kind = separation_class(graph.separation)
    pair = repulsion_potential(lengths, params.repulsion_epsilon[kind], params.repulsion_r_min[kind])
    counted = graph.edge_mask & (graph.separation >= SEPARATION_CLASSES[0][0])
    return 0.5 * params.weights[3] * jnp.where(counted, pair, 0.0)


def cast_prior(params: PriorParams, dtype) -> PriorParams:
    """The prior with all parameters in one floating-point type."""
    return PriorParams(*(jnp.asarray(value, dtype=dtype) for value in params))
