"""Samples from known potentials, by inverting the cumulative distribution on a fine grid."""

import numpy as np

from cgloop.data.dataset import ProteinData

KT = 0.0019872067 * 320.0


def draw(energy, jacobian, low, high, size, seed=0):
    """`size` values of x in [low, high] with density ∝ jacobian(x)·exp(−energy(x)/kT)."""
    grid = np.linspace(low, high, 200_001)
    density = jacobian(grid) * np.exp(-(energy(grid) - energy(grid).min()) / KT)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return np.interp(np.random.default_rng(seed).random(size), cumulative / cumulative[-1], grid)


def protein_of(positions, linked=None, name="prot"):
    """A protein of alanines, all frames training frames at 320 K."""
    positions = np.asarray(positions, np.float32)
    n_frames, n_beads = positions.shape[:2]
    return ProteinData(
        name=name,
        residue_type=np.zeros(n_beads, np.int8),
        chain=np.zeros(n_beads, np.int16),
        resid=np.arange(n_beads, dtype=np.int32),
        native=positions[0],
        linked=np.ones(n_beads - 1, bool) if linked is None else np.asarray(linked, bool),
        positions=positions,
        forces=np.zeros_like(positions),
        temperature_K=np.full(n_frames, 320.0, np.float32),
        replica=np.zeros(n_frames, np.int32),
        source_frame=np.arange(n_frames, dtype=np.int32),
        split=np.zeros(n_frames, np.int8),
    )


def random_chain(n_beads, n_frames, seed=0):
    """Chains with bonds near 3.8 Å and otherwise random directions."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(n_frames, n_beads, 3))
    steps *= random.normal(3.8, 0.05, (n_frames, n_beads, 1)) / np.linalg.norm(steps, axis=2, keepdims=True)
    return np.cumsum(steps, axis=1)
