"""The last steps of every replica, kept in memory at full precision."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cgloop.md.evaluation import N_TERMS, Evaluation
from cgloop.units import FS_PER_PS


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


_SCALARS = ("kinetic", "kinetic_K", "min_distance_A", "max_force", "max_bond_deviation")


class Recorder:
    """A ring of the last K steps.

    What LAMMPS holds when it asks for forces is kept as it is: unwrapped positions and the velocities of the drift in
    float64, forces in float32, which is what the model computes them in. From these a run can be started again to the
    bit. The velocities at the time of the positions follow from them, in the arithmetic of the run, when they are asked
    for.
    """

    def __init__(self, n_frames: int, n_replicas: int, n_beads: int, kick: np.ndarray | None = None):
        """Args:
        n_frames: K, steps to keep.
        n_replicas, n_beads: R, N.
        kick: [N, 1], `thermostat.half_kick` of the beads, for runs that hand over the velocities of the drift.
        """
        vectors = (n_frames, n_replicas, n_beads, 3)
        self._step = np.zeros(n_frames, np.int64)
        self._drifting = np.zeros(n_frames, bool)
        self._pair_list = np.zeros(n_frames, np.int64)
        self._positions, self._velocities = np.zeros(vectors), np.zeros(vectors)
        self._forces = np.zeros(vectors, np.float32)
        self._scalars = np.zeros((n_frames, len(_SCALARS) + N_TERMS, n_replicas))
        self._kick = kick
        self._count = 0

    def push(self, snapshot: Snapshot, drift: np.ndarray | None = None, pair_list: int = 0) -> None:
        """Keep this step and forget the oldest.

        Args:
            snapshot: of all replicas.
            drift: [R, N, 3] Å/fs, the velocities that led to these positions, half a kick older than them; None
                where nothing has moved yet.
            pair_list: number of the list of pairs that the forces were computed with.
        """
        slot = self._count % len(self._step)
        evaluation = snapshot.evaluation
        self._step[slot], self._pair_list[slot] = snapshot.step, pair_list
        self._drifting[slot] = drift is not None
        self._positions[slot] = snapshot.positions
        self._velocities[slot] = snapshot.velocities if drift is None else drift
        self._forces[slot] = evaluation.forces
        scalars = self._scalars[slot]
        scalars[0], scalars[1] = snapshot.kinetic, snapshot.temperature_K
        scalars[2], scalars[3] = evaluation.min_distance_A, evaluation.max_force
        scalars[4] = evaluation.bond_deviation
        scalars[5:] = evaluation.terms.T
        self._count += 1

    def state(self) -> dict[str, np.ndarray]:
        """All that is kept; for `restore`."""
        return {
            "step": self._step, "positions": self._positions, "velocities": self._velocities, "forces": self._forces,
            "scalars": self._scalars, "drifting": self._drifting, "pair_list": self._pair_list,
            "count": np.array(self._count),
        }  # fmt: skip

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Keep what the recorder kept that gave this state."""
        self._step, self._positions, self._velocities = state["step"], state["positions"], state["velocities"]
        self._forces, self._scalars, self._count = state["forces"], state["scalars"], int(state["count"])
        self._drifting, self._pair_list = state["drifting"], state["pair_list"]

    def history(self, replica: int) -> dict[str, np.ndarray]:
        """What is kept of one replica (by its row), oldest first, under the names of the crash file.

        `half_velocities` are those of the drift, NaN where nothing had moved yet; they are left out of a run that
        has none.
        """
        size = len(self._step)
        kept = np.arange(max(0, self._count - size), self._count) % size
        positions, forces = self._positions[kept, replica], self._forces[kept, replica]
        half, drifting = self._velocities[kept, replica], self._drifting[kept]
        velocities, of_drift = half, {}
        if self._kick is not None:
            velocities = np.where(drifting[:, None, None], half + self._kick * forces.astype(float), half)
            of_drift = {"half_velocities": np.where(drifting[:, None, None], half, np.nan)}
        scalars = self._scalars[kept, :, replica]
        terms = scalars[:, len(_SCALARS) :]
        return {
            "step": self._step[kept],
            "positions": positions,
            "velocities": velocities,
            **of_drift,
            "forces": forces,
            "terms": terms,
            **{name: scalars[:, column] for column, name in enumerate(_SCALARS)},
            "total": scalars[:, 0] + terms.sum(axis=1),
            "pair_list": self._pair_list[kept],
        }
