"""A model that compiles in a moment: springs along the chain and a soft pair repulsion that ends at a cutoff."""

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.md.evaluation import N_TERMS
from cgloop.md.system import System
from cgloop.model.terms import TERM_NAMES

CUTOFF_A = 9.0
STRENGTH = 6.0
STIFFNESS = 150.0
LENGTH_A = 3.8


def toy_model(positions, graph):
    """Energies [R], forces [n, 3] and terms [R, n_terms], as a bundle's function gives them."""
    n_replicas = len(graph.replica_mask)

    def total(x):
        d2 = jnp.sum((x[graph.senders] - x[graph.receivers]) ** 2, axis=1) / CUTOFF_A**2
        pairs = jnp.where(graph.edge_mask, 0.5 * STRENGTH * jnp.maximum(1.0 - d2, 0.0) ** 3, 0.0)
        ends = x[graph.bonds]
        length = jnp.sqrt(jnp.sum((ends[:, 1] - ends[:, 0]) ** 2, axis=1) + 1e-12)
        bonds = jnp.where(graph.bond_mask, 0.5 * STIFFNESS * (length - LENGTH_A) ** 2, 0.0)
        terms = jnp.zeros((n_replicas, N_TERMS))
        terms = terms.at[graph.replica[graph.bonds[:, 0]], 0].add(bonds)
        terms = terms.at[graph.replica[graph.receivers], TERM_NAMES.index("ml")].add(pairs)
        return terms.sum(), terms

    gradient, terms = jax.grad(total, has_aux=True)(positions)
    return terms.sum(axis=1), -gradient, terms


def toy_exact(system: System, frame: np.ndarray) -> tuple[np.ndarray, float]:
    """Forces [N, 3] and energy of a frame [N, 3], all pairs, in float64 NumPy."""
    forces, energy = np.zeros_like(frame), 0.0
    for i in range(len(frame)):
        for j in range(i):
            vector = frame[i] - frame[j]
            left = max(0.0, 1.0 - vector @ vector / CUTOFF_A**2)
            energy += STRENGTH * left**3
            push = 6.0 * STRENGTH * left**2 / CUTOFF_A**2 * vector
            if j == i - 1 and system.linked[j]:
                length = np.linalg.norm(vector)
                energy += 0.5 * STIFFNESS * (length - LENGTH_A) ** 2
                push = push - STIFFNESS * (length - LENGTH_A) / length * vector
            forces[i] += push
            forces[j] -= push
    return forces, energy
