"""Crash files with a known cause, in the layout of the recorder in `cgloop.md`.

A calm replica of CLN025 in its native structure is the background; what breaks is put on top of it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from cgloop.residues import RESIDUES, masses
from cgloop.units import KB, MVV_TO_KCAL_PER_MOL

TERMS = ("bond", "angle", "dihedral", "repulsion", "ml")
TIMESTEP_FS = 2.0
FIRST_STEP = 5000


@dataclass
class CrashFile:
    """K frames of N beads; every array may be changed before `write`."""

    protein: object
    frames: int = 40
    stage: str = "nvt"
    temperature_K: float = 320.0
    masses: np.ndarray | None = None
    degrees_of_freedom: int | None = None
    positions: np.ndarray = field(init=False)
    velocities: np.ndarray = field(init=False)
    forces: np.ndarray = field(init=False)
    terms: np.ndarray = field(init=False)
    term_forces: np.ndarray = field(init=False)
    steps: np.ndarray = field(init=False)

    def __post_init__(self):
        random = np.random.default_rng(7)
        n, native = self.protein.n_beads, self.protein.native.astype(float)
        self.types = self.protein.residue_type.astype(int)
        self.positions = native + 0.02 * random.normal(size=(self.frames, n, 3))
        mass = self.bead_masses
        thermal = np.sqrt(KB * self.temperature_K / (mass * MVV_TO_KCAL_PER_MOL))
        self.velocities = np.broadcast_to(random.normal(size=(n, 3)), (self.frames, n, 3)) * thermal[:, None]
        self.forces = 8.0 * random.normal(size=(self.frames, n, 3))
        self.terms = np.tile([5.0, 8.0, 3.0, 0.5, -20.0], (self.frames, 1))
        self.term_forces = np.zeros((len(TERMS), n, 3))
        self.term_forces[-1] = self.forces[-1]
        self.steps = FIRST_STEP + np.arange(self.frames)

    @property
    def bead_masses(self) -> np.ndarray:
        return np.asarray(masses())[np.clip(self.types, 0, 19)] if self.masses is None else self.masses

    def set_term_force(self, term: str, bead: int, force) -> None:
        """Force of one term on one bead at the last frame; the total force follows."""
        self.term_forces[TERMS.index(term), bead] = force
        self.forces[-1] = self.term_forces.sum(axis=0)

    def approach(self, i: int, j: int, start_A: float, end_A: float, steps: int) -> None:
        """Bead j moves along the line between two beads, from one distance to i to another, in the last steps."""
        line = self.positions[0, j] - self.positions[0, i]
        direction = line / np.linalg.norm(line)
        distances = np.concatenate([np.full(self.frames - steps - 1, start_A), np.linspace(start_A, end_A, steps + 1)])
        self.positions[:, j] = self.positions[:, i] + distances[:, None] * direction

    def direction(self, i: int, j: int) -> np.ndarray:
        """Unit vector from bead i to bead j at the last frame."""
        line = self.positions[-1, j] - self.positions[-1, i]
        return line / np.linalg.norm(line)

    def write(self, path: Path, limit: str, value: float, threshold: float, beads, replica: int = 3, **attributes):
        """Write the file; the path is returned."""
        names = [f"{RESIDUES[t].name} {i}" if 0 <= t < 20 else f"UNK {i}" for i, t in enumerate(self.types, start=1)]
        with h5py.File(path, "w") as file:
            file.attrs.update(
                {
                    "protein": self.protein.name, "stage": self.stage, "replica": replica, "step": int(self.steps[-1]),
                    "time_ps": float(self.steps[-1] * TIMESTEP_FS / 1000), "phase": "production",
                    "equilibration_steps": 2500, "limit": limit, "value": value, "threshold": threshold,
                    "beads": np.asarray(beads, np.int32), "residues": names, "timestep_fs": TIMESTEP_FS,
                    "temperature_K": self.temperature_K, "term_names": list(TERMS), **attributes,
                }
            )  # fmt: skip
            n = self.positions.shape[1]
            pairs = np.triu_indices(n, 2)
            distance = np.linalg.norm(self.positions[:, pairs[0]] - self.positions[:, pairs[1]], axis=-1)
            mass = self.bead_masses
            kinetic = 0.5 * MVV_TO_KCAL_PER_MOL * np.einsum("kni,kni,n->k", self.velocities, self.velocities, mass)
            freedom = self.degrees_of_freedom or 3 * len(mass) - (3 if self.stage == "nve" else 0)
            for name, values in {
                "step": self.steps, "positions": self.positions, "velocities": self.velocities.astype(np.float32),
                "forces": self.forces.astype(np.float32), "terms": self.terms,
                "kinetic": kinetic, "kinetic_K": 2 * kinetic / (freedom * KB), "masses": mass,
                "min_distance_A": distance.min(axis=1),
                "max_force": np.linalg.norm(self.forces, axis=-1).max(axis=1),
                "term_forces": self.term_forces.astype(np.float32), "residue_type": self.types.astype(np.int8),
                "native": self.protein.native, "linked": self.protein.linked,
            }.items():  # fmt: skip
                file[name] = values
        return path


def clash(protein, path: Path, replica: int = 3) -> Path:
    """TYR 1 and GLY 7 collide: 5.2 Å to 1.9 Å in 34 fs, pulled by ML (210), resisted by repulsion (35)."""
    crash = CrashFile(protein)
    crash.approach(0, 6, 5.2, 1.9, 17)
    crash.terms[:, 4] -= np.linspace(0, 40, crash.frames)
    crash.term_forces[:] = 0
    inward = crash.direction(0, 6)
    for bead, sign in ((0, 1.0), (6, -1.0)):
        crash.set_term_force("ml", bead, sign * 210 * inward)
        crash.set_term_force("repulsion", bead, -sign * 35 * inward)
    return crash.write(path, "min_distance", 1.9, 2.0, [0, 6], replica)


def broken_bond(protein, path: Path, replica: int = 3) -> Path:
    """The bond PRO 4 – GLU 5 is stretched from 3.9 to 4.8 Å in 20 fs, by ML (90) against the bond term (60)."""
    crash = CrashFile(protein)
    shift = np.zeros((crash.frames, 1))
    shift[-11:, 0] = np.linspace(0, 4.8 - np.linalg.norm(crash.positions[0, 4] - crash.positions[0, 3]), 11)
    direction = crash.positions[0, 4] - crash.positions[0, 3]
    direction /= np.linalg.norm(direction)
    crash.positions[:] = crash.positions[0]
    crash.positions[:, 4:] += shift[:, None] * direction
    crash.term_forces[:] = 0
    crash.set_term_force("ml", 4, 90 * direction)
    crash.set_term_force("ml", 3, -90 * direction)
    crash.set_term_force("bond", 4, -60 * direction)
    crash.set_term_force("bond", 3, 60 * direction)
    return crash.write(path, "bond", 4.8 / 3.87 - 1, 0.2, [3, 4], replica)


def force_explosion(protein, path: Path, term: str = "ml", replica: int = 3) -> Path:
    """The force on TRP 9 grows from 45 to 1200 kcal/mol/Å in 24 fs, 1150 of it from one term."""
    crash = CrashFile(protein)
    along = np.array([0.0, 0.0, 1.0])
    crash.forces[-13:, 8] = np.geomspace(45, 1200, 13)[:, None] * along
    crash.forces[:-13, 8] = 45 * along
    crash.term_forces[:] = 0
    crash.term_forces[TERMS.index(term), 8] = 1150 * along
    crash.term_forces[TERMS.index("angle"), 8] = 50 * along
    return crash.write(path, "max_force", 1200.0, 1000.0, [8], replica)


def non_finite(protein, path: Path, replica: int = 3) -> Path:
    """Out of the blue the ML force on ASP 3 is NaN."""
    crash = CrashFile(protein)
    crash.set_term_force("ml", 2, [np.nan] * 3)
    return crash.write(path, "non-finite", float("nan"), 0.0, [2], replica)


def heat(protein, path: Path, stage: str = "nvt", replica: int = 3) -> Path:
    """The kinetic temperature rises by a factor of 9 in 100 fs, and no energy term gives the heat."""
    crash = CrashFile(protein, frames=51, stage=stage)
    crash.velocities = crash.velocities * np.linspace(1, 3, 51)[:, None, None]
    return crash.write(path, "temperature_instant", 2800.0, 950.0, [5], replica)
