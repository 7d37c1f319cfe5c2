"""Distances, angles and dihedrals of beads in JAX, finite with finite derivatives for any positions.

Singular points (coincident beads, collinear triples, padding) are softened instead of masked: a constant far below
any physical length is added under each root. It changes nothing that could be measured, and keeps first and second
derivatives finite in float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

SOFTENING_A2 = 1e-12
"""Added to squared lengths, Å²: lengths below 1e-6 Å count as 1e-6 Å."""

NORMAL_SOFTENING_A4 = 1e-6
"""Added to squared plane normals, Å⁴: dihedral terms fade where the angle of a 3.8 Å chain is within 1e-4 of π."""


def norm(vectors: jax.Array) -> jax.Array:
    """Softened length [...] of vectors [..., 3]."""
    return jnp.sqrt(jnp.sum(vectors * vectors, axis=-1) + SOFTENING_A2)


def edge_vectors(positions: jax.Array, senders: jax.Array, receivers: jax.Array, edge_mask: jax.Array) -> jax.Array:
    """r_ij = x_j − x_i [E, 3] Å, from receiver i to sender j; padded edges get a constant unit vector."""
    vectors = positions[senders] - positions[receivers]
    return jnp.where(edge_mask[:, None], vectors, jnp.array([1.0, 0.0, 0.0], dtype=positions.dtype))


def bond_lengths(positions: jax.Array, bonds: jax.Array) -> jax.Array:
    """Lengths [B] Å of bonds [B, 2]."""
    ends = positions[bonds]
    return norm(ends[:, 1] - ends[:, 0])


def angle_cosines(positions: jax.Array, angles: jax.Array) -> jax.Array:
    """cos θ [A] of angles [A, 3] at their middle bead."""
    beads = positions[angles]
    first, second = beads[:, 0] - beads[:, 1], beads[:, 2] - beads[:, 1]
    return jnp.sum(first * second, axis=-1) / (norm(first) * norm(second))


class Dihedrals(NamedTuple):
    """Geometry of dihedrals, each field [D].

    Attributes:
        cosine, sine: of φ, IUPAC sign (cis = 0, a right-handed helix of CA atoms near +50°). Both tend to 0 where three
            of the beads are collinear and φ is undefined.
        bend_1, bend_2: how far the angles of the first and of the last three beads are from straight, π − θ, rad.
    """

    cosine: jax.Array
    sine: jax.Array
    bend_1: jax.Array
    bend_2: jax.Array


def dihedral_geometry(positions: jax.Array, dihedrals: jax.Array) -> Dihedrals:
    """φ and the two angles of dihedrals [D, 4]."""
    beads = positions[dihedrals]
    first, axis, last = beads[:, 1] - beads[:, 0], beads[:, 2] - beads[:, 1], beads[:, 3] - beads[:, 2]
    normal_1, normal_2 = jnp.cross(first, axis), jnp.cross(axis, last)
    area_1 = jnp.sqrt(jnp.sum(normal_1 * normal_1, -1) + NORMAL_SOFTENING_A4)
    area_2 = jnp.sqrt(jnp.sum(normal_2 * normal_2, -1) + NORMAL_SOFTENING_A4)
    scale = 1.0 / (area_1 * area_2)
    return Dihedrals(
        cosine=jnp.sum(normal_1 * normal_2, -1) * scale,
        sine=norm(axis) * jnp.sum(first * normal_2, -1) * scale,
        # Near π an arccosine would have lost half of the digits.
        bend_1=jnp.arctan2(area_1, jnp.sum(first * axis, -1)),
        bend_2=jnp.arctan2(area_2, jnp.sum(axis * last, -1)),
    )
