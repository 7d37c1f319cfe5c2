"""The last steps of every replica, kept in memory, and the file that is written when one breaks a limit."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from cgloop.md.evaluation import Evaluation
from cgloop.md.monitors import Violation, offending_beads
from cgloop.md.system import System, TermForces
from cgloop.model.terms import TERM_NAMES
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.units import FS_PER_PS, MVV_TO_KCAL_PER_MOL


class Snapshot(NamedTuple):
    """All replicas at one step.

    Attributes:
        step: number of the step, from 0 at the start of the stage.
        positions: [R, N, 3] Å, unwrapped.
        velocities: [R, N, 3] Å/fs, at the same time as the positions.
        evaluation: forces, energies and diagnostics.
        kinetic: [R] kcal/mol.
        temperature_K: [R].
        alive: bool [R].
    """

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    evaluation: Evaluation
    kinetic: np.ndarray
    temperature_K: np.ndarray
    alive: np.ndarray


@dataclass(frozen=True)
class Clock:
    """Time in a stage that starts with an equilibration.

    Attributes:
        timestep_fs: of the dynamics.
        equilibration_steps: steps before production; step numbers count from the start of the stage.
        steps: of production.
    """

    timestep_fs: float
    equilibration_steps: int
    steps: int

    def production_ps(self, step: int) -> float:
        """Time of a step since production began, ps."""
        return (step - self.equilibration_steps) * self.timestep_fs / FS_PER_PS


class Recorder:
    """A ring of the last K steps."""

    def __init__(self, n_frames: int, n_replicas: int, n_beads: int):
        """Args:
        n_frames: K, steps to keep.
        n_replicas, n_beads: R, N.
        """
        vectors = (n_frames, n_replicas, n_beads, 3)
        self._step = np.zeros(n_frames, np.int64)
        self._positions = np.zeros(vectors)
        self._velocities, self._forces = np.zeros(vectors, np.float32), np.zeros(vectors, np.float32)
        # Five terms, temperature, smallest distance, largest force.
        self._scalars = np.zeros((n_frames, n_replicas, len(TERM_NAMES) + 3))
        self._count = 0

    def push(self, snapshot: Snapshot) -> None:
        """Keep this step and forget the oldest."""
        slot = self._count % len(self._step)
        evaluation = snapshot.evaluation
        self._step[slot] = snapshot.step
        self._positions[slot] = snapshot.positions
        self._velocities[slot] = snapshot.velocities
        self._forces[slot] = evaluation.forces
        scalars, n = self._scalars[slot], len(TERM_NAMES)
        scalars[:, :n] = evaluation.terms
        scalars[:, n], scalars[:, n + 1] = snapshot.temperature_K, evaluation.min_distance_A
        scalars[:, n + 2] = evaluation.max_force
        self._count += 1

    def state(self) -> dict[str, np.ndarray]:
        """All that is kept; for `restore`."""
        return {
            "step": self._step, "positions": self._positions, "velocities": self._velocities, "forces": self._forces,
            "scalars": self._scalars, "count": np.array(self._count),
        }  # fmt: skip

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Keep what the recorder kept that gave this state."""
        self._step, self._positions, self._velocities = state["step"], state["positions"], state["velocities"]
        self._forces, self._scalars, self._count = state["forces"], state["scalars"], int(state["count"])

    def history(self, replica: int) -> dict[str, np.ndarray]:
        """What is kept of one replica, oldest first, under the names of the crash file."""
        size = len(self._step)
        kept = np.arange(max(0, self._count - size), self._count) % size
        scalars, n = self._scalars[kept, replica], len(TERM_NAMES)
        return {
            "step": self._step[kept],
            "positions": self._positions[kept, replica],
            "velocities": self._velocities[kept, replica],
            "forces": self._forces[kept, replica],
            "terms": scalars[:, :n],
            "kinetic_K": scalars[:, n],
            "min_distance_A": scalars[:, n + 1],
            "max_force": scalars[:, n + 2],
        }


UNITS = {
    "positions": "angstrom", "velocities": "angstrom/fs", "forces": "kcal/mol/angstrom", "terms": "kcal/mol",
    "kinetic_K": "K", "min_distance_A": "angstrom", "max_force": "kcal/mol/angstrom",
    "term_forces": "kcal/mol/angstrom", "native": "angstrom",
}  # fmt: skip


@dataclass(frozen=True)
class CrashWriter:
    """Writes `crash_<replica>.h5` into a stage's folder.

    Attributes:
        folder: of the stage.
        stage: `minimize`, `nvt` or `nve`.
        system: the protein.
        temperature_K: target.
        clock: of the stage.
        term_forces: splits the force of the last frame.
    """

    folder: Path
    stage: str
    system: System
    temperature_K: float
    clock: Clock
    term_forces: TermForces

    def write(self, replica: int, violation: Violation, history: dict[str, np.ndarray]) -> Path:
        """Write what is known of a replica that broke a limit.

        Args:
            replica: id, which names the file.
            violation: the limit and its value.
            history: of `Recorder.history`; its last entry is the step at which the limit was broken.
        """
        system, last = self.system, {name: values[-1] for name, values in history.items()}
        speed2 = np.einsum("ni,ni->n", last["velocities"], last["velocities"])
        beads = offending_beads(
            violation.limit,
            violation.threshold,
            last["positions"],
            last["forces"],
            0.5 * MVV_TO_KCAL_PER_MOL * system.masses * speed2,
            separation_matrix(system.linked),
            build_topology(system.linked).bonds,
            system.bond_mean_A,
        )
        step = int(last["step"])
        datasets = {
            **history,
            "term_forces": self.term_forces(last["positions"]).astype(np.float32),
            "residue_type": np.asarray(system.residue_type, np.int8),
            "native": np.asarray(system.native, np.float32),
            "linked": np.asarray(system.linked, bool),
        }
        attributes = {
            "protein": system.name,
            "stage": self.stage,
            "replica": replica,
            "step": step,
            "time_ps": step * self.clock.timestep_fs / FS_PER_PS,
            "phase": "equilibration" if step < self.clock.equilibration_steps else "production",
            "equilibration_steps": self.clock.equilibration_steps,
            "limit": violation.limit,
            "value": violation.value,
            "threshold": violation.threshold,
            "beads": beads.astype(np.int32),
            "residues": [system.residue_label(bead) for bead in range(system.n_beads)],
            "timestep_fs": self.clock.timestep_fs,
            "temperature_K": self.temperature_K,
            "term_names": list(TERM_NAMES),
        }
        path = self.folder / f"crash_{replica:03d}.h5"
        with h5py.File(path, "w") as file:
            file.attrs.update(attributes)
            for name, values in datasets.items():
                file[name] = values
                if name in UNITS:
                    file[name].attrs["unit"] = UNITS[name]
        return path
