"""A small protein of which the forces are known in closed form."""

import numpy as np

from cgloop.data.dataset import SPLITS, ProteinData

BOND_K, BOND_LENGTH = 20.0, 3.8
WELL_DEPTH, WELL_CENTRE, WELL_WIDTH = 2.0, 6.0, 1.0


def known_forces(positions: np.ndarray, linked: np.ndarray) -> np.ndarray:
    """Forces [F, N, 3] of harmonic bonds and a Gaussian well −D exp(−(r−r0)²/2w²) between all other pairs."""
    n = positions.shape[1]
    i, j = np.triu_indices(n, 1)
    bonded = (j == i + 1) & linked[i]
    vector = positions[:, j] - positions[:, i]
    r = np.linalg.norm(vector, axis=-1)
    well = WELL_DEPTH * np.exp(-((r - WELL_CENTRE) ** 2) / (2 * WELL_WIDTH**2)) * (r - WELL_CENTRE) / WELL_WIDTH**2
    slope = np.where(bonded, BOND_K * (r - BOND_LENGTH), well)
    pull = (slope / r)[..., None] * vector
    forces = np.zeros_like(positions)
    for k in range(len(i)):
        forces[:, i[k]] += pull[:, k]
        forces[:, j[k]] -= pull[:, k]
    return forces


def toy_protein(
    name: str = "toy", types: str = "0 7 4 7 0", frames: int = 40, noise: float = 0.0, seed: int = 1
) -> ProteinData:
    """A bent chain whose beads shake around their places, four trajectories, with noise on the forces."""
    residue_type = np.array(types.split(), np.int8)
    n = len(residue_type)
    random = np.random.default_rng(seed)
    angle = np.arange(n) * 1.1
    native = np.stack([2.6 * np.cos(angle), 2.6 * np.sin(angle), 2.5 * np.arange(n)], axis=1)
    # Neighbours of this helix are 3.78 Å apart.
    positions = (native + 0.25 * random.standard_normal((frames, n, 3))).astype(np.float32)
    linked = np.ones(n - 1, bool)
    forces = known_forces(positions.astype(np.float64), linked)
    forces += noise * random.standard_normal(forces.shape)
    replica = (np.arange(frames) * 4 // frames).astype(np.int32)
    split = np.array([SPLITS[s] for s in ("train", "train", "validation", "test")], np.int8)[replica]
    return ProteinData(
        name=name,
        residue_type=residue_type,
        chain=np.zeros(n, np.int16),
        resid=np.arange(1, n + 1, dtype=np.int32),
        native=native.astype(np.float32),
        linked=linked,
        positions=positions,
        forces=forces.astype(np.float32),
        temperature_K=np.full(frames, 300.0, np.float32),
        replica=replica,
        source_frame=np.arange(frames, dtype=np.int32),
        split=split,
    )
