"""What an external run wrote, in the shapes that recorder, monitors and writers of this room use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.errors import UserError
from cgloop.md.evaluation import N_TERMS, Evaluate, Evaluation
from cgloop.md.monitors import Limits, Monitor, Violation
from cgloop.md.observables import SERIES, EngineEnergies, Kinds, ObservablesWriter, StageInfo
from cgloop.md.recorder import Snapshot
from cgloop.md.system import System
from cgloop.md.thermostat import kinetic_energy
from cgloop.md.trajectory import TrajectoryWriter
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.residues import N_TYPES
from cgloop.units import KB

BY_TYPE = tuple(f"c_by_type[{kind + 1}]" for kind in range(N_TYPES))
"""Columns of the thermo table: kinetic energy of the beads of each type."""

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

    @classmethod
    def still(cls, step: np.ndarray, frames: np.ndarray) -> "Dense":
        """Frames [F, N, 3] in Å of which nothing but positions is known; all else is zero."""
        positions = frames.astype(float)
        return cls(step, positions, np.zeros_like(positions), np.zeros_like(positions))

    def history(
        self, system: System, n_frames: int, degrees_of_freedom: int | None = None, evaluate: Evaluate | None = None
    ) -> dict[str, np.ndarray]:
        """The last steps as `CrashWriter.write` wants them.

        Args:
            system: the protein.
            n_frames: how many steps at most.
            degrees_of_freedom: of the temperature; default: three a bead.
            evaluate: the model, which gives the energies of the terms; without one they are NaN.
        """
        rows = range(len(self.step))[-n_frames:]
        diagnostics = [_diagnose(self, row, system) for row in rows]
        speeds, positions = self.velocities[rows.start :], self.positions[rows.start :]
        terms = np.full((len(rows), N_TERMS), np.nan)
        for place, frame in enumerate(positions):
            if evaluate is not None and np.isfinite(frame).all():
                terms[place] = evaluate(frame[None]).terms[0]
        kinetic = kinetic_energy(speeds, system.masses)
        return {
            "step": self.step[rows.start :],
            "positions": positions,
            "velocities": speeds,
            "forces": self.forces[rows.start :].astype(np.float32),
            "terms": terms,
            "kinetic": kinetic,
            "kinetic_K": _temperature(kinetic, degrees_of_freedom or 3 * system.n_beads),
            "total": kinetic + terms.sum(axis=1),
            "min_distance_A": np.array([one.min_distance_A[0] for one in diagnostics]),
            "max_force": np.array([one.max_force[0] for one in diagnostics]),
            "max_bond_deviation": np.array([one.bond_deviation[0] for one in diagnostics]),
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


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of one replica at the F frames of its trajectory.

    Attributes:
        steps: int [F], counted from the start of the stage.
        frames: float32 [F, N, 3] Å.
        kinetic, potential: [F] kcal/mol, LAMMPS's.
        by_type: [F, n_types] kcal/mol, LAMMPS's kinetic energies of the beads of each type; [F, 0] where its script
            does not write them.
        terms: [F, n_terms] kcal/mol, the model's on the same frames.
        diagnostics: [F, 3], as in `Evaluation`: smallest distance, largest bond deviation, largest force.
    """

    steps: np.ndarray
    frames: np.ndarray
    kinetic: np.ndarray
    potential: np.ndarray
    terms: np.ndarray
    diagnostics: np.ndarray
    by_type: np.ndarray

    @classmethod
    def nothing(cls, n_beads: int) -> "Measured":
        """Of a run that did not come to its first frame."""
        none = np.zeros(0)
        return cls(
            np.zeros(0, int), np.zeros((0, n_beads, 3), np.float32), none, none, np.zeros((0, N_TERMS)),
            np.zeros((0, 3)), np.zeros((0, N_TYPES)),
        )  # fmt: skip

    def energy_difference(self, n_beads: int, temperature_K: float) -> float:
        """Largest difference of LAMMPS's potential energy and the model's, over the larger of its magnitude and N kT.

        Frames of a trajectory are in single precision, which is 1e-5 or so of it.
        """
        if not len(self.steps):
            return 0.0
        scale = np.maximum(np.abs(self.potential), n_beads * KB * temperature_K)
        return float(np.max(np.abs(self.potential - self.terms.sum(axis=1)) / scale))


def measure(
    steps: np.ndarray,
    frames: np.ndarray,
    thermo: dict[str, np.ndarray],
    evaluate: Evaluate,
    *,
    whole: bool,
    where: Path,
) -> Measured:
    """Evaluate the frames of a trajectory, and find the row of the thermo table of each.

    Args:
        steps, frames: int [F], [F, N, 3] Å.
        thermo: columns of the log.
        evaluate: the model, for one replica.
        whole: the run did all its steps; otherwise frames without a row, as the last of a killed run, are left out.
        where: the run's folder, for messages.

    Raises:
        UserError: frames of a whole run have no row.
    """
    row_of = {int(step): row for row, step in enumerate(thermo.get("Step", np.zeros(0)))}
    known = np.array([int(step) in row_of for step in steps], bool)
    if whole and not known.all():
        raise UserError(
            "frames without energies", where=where, remedy="write the thermo output at every frame (`thermo_every`)"
        )
    if not known.any():
        return Measured.nothing(frames.shape[1])
    steps, frames = steps[known], frames[known]
    rows = [row_of[int(step)] for step in steps]
    found = [evaluate(frame[None].astype(float)) for frame in frames]
    return Measured(
        steps, frames, thermo["KinEng"][rows], thermo["PotEng"][rows], np.concatenate([one.terms for one in found]),
        np.array([(one.min_distance_A[0], one.bond_deviation[0], one.max_force[0]) for one in found]),
        np.column_stack([thermo[name][rows] for name in BY_TYPE]) if BY_TYPE[0] in thermo else np.zeros((len(rows), 0)),
    )  # fmt: skip


def write_series(
    out: Path,
    system: System,
    info: StageInfo,
    measured: Mapping[int, Measured],
    absent: Sequence[int],
    every: tuple[int, int],
    outcomes: Mapping[int, Mapping[str, Any]],
) -> None:
    """Write `observables.h5` and a DCD of each replica, as the in-process engine does.

    Kinetic energies by residue type are written if every replica has them.

    Args:
        out: folder of the stage.
        system: the protein.
        info: of the stage.
        measured: by id, what is known of the replicas that ran.
        absent: ids of those that did not.
        every: intervals in steps of rows and of frames; their steps are among those that were measured.
        outcomes: by id, attributes of the groups.
    """
    ids, n_beads = sorted(measured), system.n_beads
    kinds = Kinds(system.residue_type, system.masses)
    info = replace(info, kinds=kinds if all(one.by_type.shape[1] for one in measured.values()) else None)
    at = [{int(step): row for row, step in enumerate(measured[one].steps)} for one in ids]
    observables = ObservablesWriter(out / SERIES, info, ids, every[0], absent)
    with TrajectoryWriter(out, info.clock, ids, n_beads, every[1]) as trajectory:
        for step in sorted({step for rows in at for step in rows}):
            alive = np.array([step in rows for rows in at])
            snapshot, energies = _snapshot(step, [measured[one] for one in ids], [rows.get(step) for rows in at], info)
            observables.observe(snapshot._replace(alive=alive), energies)
            trajectory.observe(snapshot._replace(alive=alive))
    observables.finish(outcomes)


def _snapshot(
    step: int, of_all: Sequence[Measured], rows: Sequence[int | None], info: StageInfo
) -> tuple[Snapshot, EngineEnergies]:
    """All replicas at a step, and LAMMPS's energies; those without a row are NaN."""

    def pick(name: str, like: tuple[int, ...]) -> np.ndarray:
        missing = np.full(like, np.nan)
        return np.stack(
            [missing if row is None else getattr(one, name)[row] for one, row in zip(of_all, rows, strict=True)]
        )

    kinetic, diagnostics = pick("kinetic", ()), pick("diagnostics", (3,))
    positions = pick("frames", (info.n_beads, 3))
    closest, stretch, strongest = diagnostics.T
    evaluation = Evaluation(
        np.zeros_like(positions), pick("terms", (N_TERMS,)), closest, stretch, strongest, np.isfinite(kinetic)
    )
    temperature = _temperature(kinetic, info.degrees_of_freedom)
    alive = np.ones(len(kinetic), bool)
    by_type = np.empty((len(kinetic), 0))
    if info.kinds is not None:
        by_type = pick("by_type", (N_TYPES,))[:, info.kinds.types]
    snapshot = Snapshot(step, positions, np.zeros_like(positions), evaluation, kinetic, temperature, alive)
    return snapshot, EngineEnergies(pick("potential", ()), by_type)
