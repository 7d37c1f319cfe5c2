"""Molecules of heavy atoms that fluctuate and hydrogens that are rigidly bonded to them."""

import numpy as np


def moving_molecule(n_heavy: int, n_frames: int, random: np.random.Generator) -> tuple[np.ndarray, set[frozenset[int]]]:
    """Heavy atoms 1.5 Å apart along a line that vibrate and tumble, each with one to three rigid hydrogens.

    Returns:
        positions: float64 [frames, atoms, 3], Å.
        groups: indices of a heavy atom and its hydrogens, as sets.
    """
    columns, groups = [], set()
    for heavy in range(n_heavy):
        place = np.array([1.5 * heavy, 0.3 * (heavy % 2), 0.0]) + random.normal(0, 0.05, (n_frames, 3))
        members = [len(columns)]
        columns.append(place)
        for _ in range(random.integers(1, 4)):
            direction = random.normal(size=(n_frames, 3))
            members.append(len(columns))
            columns.append(place + 1.09 * direction / np.linalg.norm(direction, axis=1, keepdims=True))
        groups.add(frozenset(members))
    positions = np.stack(columns, axis=1)
    return positions + random.normal(0, 10, (n_frames, 1, 3)), groups


def correlated_forces(n_atoms: int, n_frames: int, random: np.random.Generator) -> np.ndarray:
    """Forces of random springs between atoms, plus independent noise; float64 [frames, atoms, 3]."""
    forces = random.normal(0, 5, (n_frames, n_atoms, 3))
    for _ in range(3 * n_atoms):
        i, j = random.choice(n_atoms, 2, replace=False)
        pull = random.normal(0, random.uniform(1, 20), (n_frames, 3))
        forces[:, i] += pull
        forces[:, j] -= pull
    return forces
