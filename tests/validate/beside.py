"""What lies beside the trajectories of a synthetic run: static checks, losses, and short runs for the order.

The energy function of a synthetic chain is harmonic in bonds, angles and dihedrals about the native structure, with
a soft repulsion of pairs: scans are this energy on a grid, and its forces are against differences of itself.
"""

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from cgloop.units import KB

STEP_A = 1e-4
STIFFNESS = {"bond": 50.0, "angle": 20.0, "dihedral": 5.0}
"""kT per Å² or rad²; of a dihedral, of 1 − cos."""
CONTACT_A = 5.0
ORDER_REPLICAS = 3
ORDER_STEPS = 1000
STEP_FACTORS = (1, 2, 4)
MODES = 20
PERIODS_FS = (60.0, 600.0)


def network(x: np.ndarray, native: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy in kT and forces [N, 3] of springs between all beads, at rest in the native structure."""
    rest = np.linalg.norm(native[:, None] - native, axis=2)
    apart = x[:, None] - x
    distance = np.linalg.norm(apart, axis=2) + np.eye(len(x))
    off = np.where(np.eye(len(x), dtype=bool), 0.0, distance - rest)
    return float(0.25 * (off**2).sum()), -((off / distance)[:, :, None] * apart).sum(axis=1)


def static_of(native: np.ndarray, temperature_K: float) -> dict[str, Any]:
    """Contents of `static.json` for the harmonic chain."""
    kT, rng = KB * temperature_K, np.random.default_rng(0)
    frame = native + 0.3 * rng.normal(size=native.shape)
    energy, forces = network(frame, native)
    rms = float(np.sqrt(np.mean(forces**2)))
    worst = 0.0
    for _ in range(12):
        direction = rng.normal(size=frame.shape)
        direction /= np.linalg.norm(direction)
        ahead, behind = (network(frame + sign * STEP_A * direction, native)[0] for sign in (1, -1))
        worst = max(worst, abs((forces * direction).sum() + (ahead - behind) / (2 * STEP_A)) / rms)
    turn, place = Rotation.random(random_state=1).as_matrix(), rng.permutation(len(frame))
    moved = {
        "rotation": (network(frame @ turn.T, native), lambda found: found @ turn),
        "translation": (network(frame + 50.0, native), lambda found: found),
        "permutation": (network(frame[place], native[place]), lambda found: found[np.argsort(place)]),
    }
    return {
        "protein": "chain", "temperature_K": temperature_K, "kT_kcal_per_mol": kT, "energy": "prior+ml",
        "scans": scans(kT),
        "gradient": {"max_relative": worst, "frames": 1, "directions": 12, "step_A": STEP_A},
        "symmetry": {
            name: {"energy": abs(found[0] - energy) / max(energy, len(frame)),
                   "forces": float(np.abs(back(found[1]) - forces).max()) / rms}
            for name, (found, back) in moved.items()
        },
        "overlaps": [
            {"beads": [1, 6], "before_A": 0.3, "after_A": 5.1, "smallest_after_A": 4.6},
        ],
    }  # fmt: skip


def scans(kT: float) -> list[dict[str, Any]]:
    """One scan of each term; `known` is where a Boltzmann distribution of the term has its samples."""
    bond, angle, dihedral = (
        np.linspace(3.0, 4.6, 81),
        np.radians(np.arange(40.0, 179.0)),
        np.radians(np.arange(-180, 180, 5)),
    )
    pair = np.linspace(2.0, 12.0, 101)
    terms = {
        "bond": (bond, STIFFNESS["bond"] * (bond - 3.8) ** 2, "Å"),
        "angle": (angle, STIFFNESS["angle"] * (angle - 1.8) ** 2, "rad"),
        "dihedral": (dihedral, STIFFNESS["dihedral"] * (1 - np.cos(dihedral - 1.0)), "rad"),
        "pair": (pair, np.where(pair < CONTACT_A, 4.0 * ((CONTACT_A / pair) ** 4 - 1), 0.0), "Å"),
    }
    found = []
    for term, (grid, energy, unit) in terms.items():
        scan = {"term": term, "key": "all", "grid": grid.tolist(), "unit": unit, "energy": (kT * energy).tolist()}
        if term != "pair":
            known = energy <= 8.0
            scan["known"] = known.tolist()
            scan["reference_range"] = float(kT * energy[known].max())
        found.append(scan)
    return found


def history_of(seed: int, epochs: int = 40) -> dict[str, Any]:
    """Losses that have come to rest."""
    rng, epoch = np.random.default_rng(seed), np.arange(1, epochs + 1)
    losses = [level + 10 * np.exp(-epoch / 4.0) + 0.05 * rng.normal(size=epochs) for level in (80.0, 82.0)]
    return {
        "columns": {
            "epoch": epoch.tolist(), "train_loss": losses[0].tolist(), "validation_loss": losses[1].tolist(),
        }
    }  # fmt: skip


def force_errors_of(forces: dict[str, Any], beads: int = 10) -> dict[str, np.ndarray]:
    """Deviations of independent frames whose root mean squares are those of `forces.json`."""
    rng, count = np.random.default_rng(7), forces["n_frames"]
    model, prior = (
        3 * beads * forces[name] ** 2 * rng.gamma(50.0, 1 / 50.0, count) for name in ("rmse_full", "rmse_prior")
    )
    where = np.zeros(count, int)
    return {"protein": where, "replica": where, "components": where + 3 * beads, "model": model, "prior": prior}


def order_totals(rng: np.random.Generator, timestep_fs: float, kT: float) -> list[dict[int, np.ndarray]]:
    """Of each replica, the total energy [T] by what the time step was divided by, observed after each whole step.

    Velocity Verlet conserves ½ v² + ½ ω² (1 − ω² dt²/4) x² of a harmonic mode exactly, so that the energy itself moves
    by ω² dt²/4 times the mode's potential energy. The white noise is single precision's.
    """
    time = timestep_fs * np.arange(1, ORDER_STEPS + 1)
    found = []
    for _ in range(ORDER_REPLICAS):
        omega = 2 * np.pi / rng.uniform(*PERIODS_FS, MODES)
        energy, phase = rng.gamma(1.0, kT, MODES), rng.uniform(0, 2 * np.pi, MODES)
        potential = energy * np.cos(omega * time[:, None] + phase) ** 2
        found.append(
            {
                k: energy.sum() + (potential @ (omega * timestep_fs / k) ** 2) / 4 + 1e-6 * rng.normal(size=len(time))
                for k in STEP_FACTORS
            }
        )
    return found
