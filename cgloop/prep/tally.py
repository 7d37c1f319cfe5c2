"""What the force maps did, frame by frame, and the numbers that are reported of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cgloop.units import thermal_energy

BLOCKS_PER_TRAJECTORY = 10
"""Errors come from the scatter of means over so many stretches of each trajectory: longer than forces remember."""


@dataclass
class Tally:
    """Per frame and map: mean squared force component, (kcal/mol/Å)², and virial Σ x·F, kcal/mol."""

    squares: dict[str, list[np.ndarray]] = field(default_factory=dict)
    virials: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, positions: np.ndarray, mapped: Mapping[str, np.ndarray]) -> None:
        """Count frames: bead positions [F, N, 3] in Å, and forces under each map."""
        positions = positions.astype(np.float64)
        centred = positions - positions.mean(axis=1, keepdims=True)
        for name, forces in mapped.items():
            forces = forces.astype(np.float64)
            self.squares.setdefault(name, []).append((forces**2).mean(axis=(1, 2)))
            self.virials.setdefault(name, []).append((centred * forces).sum(axis=(1, 2)))


def summarise(
    tally: Tally,
    kept: np.ndarray,
    temperature_K: np.ndarray,
    replica: np.ndarray,
    held_out: np.ndarray,
    n_beads: int,
) -> dict[str, Any]:
    """Mean squared force on held-out frames, and the virial identity at each temperature, for every map.

    ⟨Σ x·F⟩ = −3 (N − 1) k_B T for exact mean forces, positions relative to the centroid. A single frame scatters by
    twenty times that, so it stands with its standard error, and decides nothing.

    Args:
        tally: all frames that were counted.
        kept: bool, one entry for each of them; F are kept.
        temperature_K, replica: [F], of kept frames, in order of time within a trajectory.
        held_out: bool [F], frames at the model's temperature that the maps were not fitted to.
        n_beads: N.
    """
    block = _blocks(temperature_K, replica)
    squares = {name: np.concatenate(parts)[kept] for name, parts in tally.squares.items()}
    virials = {name: np.concatenate(parts)[kept] for name, parts in tally.virials.items()}
    return {
        "mean_squared_force": {
            name: _mean_and_error(values[held_out], block[held_out]) for name, values in squares.items()
        },
        "held_out_frames": int(held_out.sum()),
        "virial": [
            _virial(virials, float(temperature), temperature_K == temperature, block, n_beads)
            for temperature in np.unique(temperature_K)
        ],
    }


def _virial(
    virials: Mapping[str, np.ndarray], temperature_K: float, here: np.ndarray, block: np.ndarray, n_beads: int
) -> dict[str, Any]:
    expected = -3.0 * (n_beads - 1) * thermal_energy(temperature_K)
    found = {}
    for name, values in virials.items():
        entry: dict[str, Any] = _mean_and_error(values[here], block[here])
        entry["ratio"] = entry["value"] / expected if expected else None
        entry["ratio_error"] = abs(entry["error"] / expected) if expected and entry["error"] is not None else None
        found[name] = entry
    return {"temperature_K": temperature_K, "expected": expected, "maps": found}


def _blocks(temperature_K: np.ndarray, replica: np.ndarray) -> np.ndarray:
    """A number for each frame: stretches of trajectories."""
    block = np.zeros(len(replica), int)
    _, whole = np.unique(np.stack([temperature_K, replica]), axis=1, return_inverse=True)
    for one in range(whole.max(initial=-1) + 1):
        rows = np.flatnonzero(whole == one)
        block[rows] = one * BLOCKS_PER_TRAJECTORY + np.arange(len(rows)) * BLOCKS_PER_TRAJECTORY // len(rows)
    return block


def _mean_and_error(values: np.ndarray, block: np.ndarray) -> dict[str, Any]:
    """Mean, and its standard error from block means; None where it cannot be had."""
    if not len(values):
        return {"value": None, "error": None}
    means = np.array([values[block == one].mean() for one in np.unique(block)])
    error = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None
    return {"value": float(values.mean()), "error": error}
