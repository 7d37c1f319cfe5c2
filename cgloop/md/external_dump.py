"""What an external run wrote, in the shapes that recorder, monitors and writers of this room use."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.errors import UserError
from cgloop.md.evaluation import N_TERMS, Evaluate, Evaluation
from cgloop.md.monitors import Limits, Monitor, Violation
from cgloop.md.observables import ObservablesWriter, StageInfo
from cgloop.md.recorder import Snapshot
from cgloop.md.system import System
from cgloop.md.thermostat import kinetic_energy
from cgloop.md.trajectory import TrajectoryWriter
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.units import KB

_HEADER_LINES, _COLUMNS = 9, 11


@dataclass(frozen=True, eq=False)
class Dense:
    """Every step of a replay: step [K], positions Å, velocities Å/fs and forces kcal/mol/Å [K, N, 3]."""

    step: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray

    def until(self, row: int) -> "Dense":
        """Up to and including a row."""
        return Dense(*(values[: row + 1] for values in vars(self).values()))

    def history(self, system: System, n_frames: int) -> dict[str, np.ndarray]:
        """The last steps as `CrashWriter.write` wants them. Energies of terms are not known here: they are NaN."""
        kept = slice(-n_frames, None)
        diagnostics = [_diagnose(self, row, system) for row in range(len(self.step))[kept]]
        speeds = self.velocities[kept]
        return {
            "step": self.step[kept],
            "positions": self.positions[kept],
            "velocities": speeds.astype(np.float32),
            "forces": self.forces[kept].astype(np.float32),
            "terms": np.full((len(speeds), N_TERMS), np.nan),
            "kinetic_K": _temperature(kinetic_energy(speeds, system.masses), 3 * system.n_beads),
            "min_distance_A": np.array([one.min_distance_A[0] for one in diagnostics]),
            "max_force": np.array([one.max_force[0] for one in diagnostics]),
        }


def read_dense(path: Path, n_beads: int) -> Dense | None:
    """Read a dump `id type xu yu zu vx vy vz fx fy fz`; a frame that breaks off is left out. None: no whole frame."""
    text = path.read_text(encoding="ascii", errors="replace") if path.is_file() else ""
    frames, steps = [], []
    for block in text.split("ITEM: TIMESTEP\n")[1:]:
        lines = block.splitlines()
        body = [line.split() for line in lines[_HEADER_LINES - 1 : _HEADER_LINES - 1 + n_beads]]
        if len(body) < n_beads or any(len(words) < _COLUMNS for words in body) or not block.endswith("\n"):
            break
        steps.append(int(lines[0]))
        frames.append([[float(word) for word in words[2:_COLUMNS]] for words in body])
    if not frames:
        return None
    table = np.array(frames)
    return Dense(np.array(steps), table[..., :3], table[..., 3:6], table[..., 6:])


def _diagnose(dense: Dense, row: int, system: System) -> Evaluation:
    positions, forces = dense.positions[row], dense.forces[row]
    apart = separation_matrix(system.linked) > 1
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonds = build_topology(system.linked).bonds
    length = np.linalg.norm(positions[bonds[:, 1]] - positions[bonds[:, 0]], axis=-1)
    finite = bool(np.isfinite(positions).all() and np.isfinite(forces).all())
    return Evaluation(
        forces=forces[None],
        terms=np.zeros((1, N_TERMS)),
        min_distance_A=np.array([distance[apart].min() if apart.any() else np.inf]),
        bond_deviation=np.array([np.abs(length / system.bond_mean_A - 1.0).max() if len(bonds) else 0.0]),
        max_force=np.array([np.linalg.norm(forces, axis=-1).max()]),
        finite=np.array([finite]),
    )


def _temperature(kinetic: np.ndarray, degrees_of_freedom: int) -> np.ndarray:
    return 2.0 * kinetic / (degrees_of_freedom * KB)


def first_violation(
    dense: Dense, system: System, limits: Limits, timestep_fs: float, degrees_of_freedom: int | None = None
) -> tuple[int, Violation] | None:
    """The first step of a replay that breaks a limit of the monitors: its row, and the limit.

    Jumps of the energy are not judged: energies of single steps are not in the dump.
    """
    monitor = Monitor(replace(limits, energy_jump=np.inf), timestep_fs, 1)
    freedom = degrees_of_freedom or 3 * system.n_beads
    for row in range(len(dense.step)):
        kinetic = kinetic_energy(dense.velocities[row][None], system.masses)
        temperature = _temperature(kinetic, freedom)
        found = monitor.check(
            _diagnose(dense, row, system), dense.positions[row][None], temperature, np.ones(1, bool), True
        )
        if found:
            return row, found[0]
    return None


def convert_outputs(
    folder: Path,
    thermo: dict[str, np.ndarray],
    system: System,
    evaluate: Evaluate,
    info: StageInfo,
    replica: int,
    out: Path,
    outcome: dict[str, Any],
) -> float:
    """Write `observables.h5` and the replica's DCD, as the in-process engine does, from what an external run left.

    Rows are taken at the frames of the trajectory; energies of terms, distances and forces are those of `evaluate`, the
    kinetic energy is LAMMPS's.

    Args:
        folder: of the run, with `trajectory.dcd`.
        thermo: of its log, with a row for every frame.
        system: the protein.
        evaluate: the model, for one replica.
        info: of the stage; the file's attributes.
        replica: its id.
        out: folder to write into.
        outcome: what became of it, attributes of its group.

    Returns:
        Largest difference of LAMMPS's potential energy and the model's, over the larger of its magnitude and N kT.

    Raises:
        UserError: no trajectory, or frames without a row of the thermo table.
    """
    frames, every = _read_frames(folder / "trajectory.dcd")
    clock = info.clock
    steps = clock.equilibration_steps + every * np.arange(1, len(frames) + 1)
    row_of = {int(step): row for row, step in enumerate(thermo.get("Step", np.zeros(0)))}
    if any(int(step) not in row_of for step in steps):
        raise UserError(
            "frames without energies", where=folder, remedy="write the thermo output at every frame (`thermo_every`)"
        )
    worst = 0.0
    observables = ObservablesWriter(out / "observables.h5", info, [replica], every)
    with TrajectoryWriter(out, clock, [replica], system.n_beads, every) as trajectory:
        for step, frame in zip(steps.tolist(), frames.astype(float), strict=True):
            row, evaluation = row_of[step], evaluate(frame[None])
            kinetic = np.array([thermo["KinEng"][row]])
            snapshot = Snapshot(
                step, frame[None], np.zeros_like(frame)[None], evaluation, kinetic,
                _temperature(kinetic, info.degrees_of_freedom), np.ones(1, bool),
            )  # fmt: skip
            observables.observe(snapshot)
            trajectory.observe(snapshot)
            energy = float(thermo["PotEng"][row])
            scale = max(abs(energy), system.n_beads * KB * info.temperature_K)
            worst = max(worst, abs(energy - float(evaluation.energies[0])) / scale)
    observables.finish({replica: outcome})
    return worst


def _read_frames(path: Path) -> tuple[np.ndarray, int]:
    """Frames [F, N, 3] in Å of a DCD, and the interval in steps at which they were written."""
    try:
        with DCDFile(str(path)) as file:
            return file.readframes().xyz, int(file.header["nsavc"])
    except OSError:
        raise UserError("no trajectory that can be read", where=path, remedy="run again") from None
