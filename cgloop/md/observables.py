"""Time series of every replica, in `observables.h5`."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.md.recorder import Clock, Snapshot
from cgloop.model.terms import TERM_NAMES
from cgloop.residues import RESIDUES
from cgloop.units import MVV_TO_KCAL_PER_MOL

COLUMNS = {
    "time_ps": "ps", "temperature_K": "K", "kinetic": "kcal/mol", "potential": "kcal/mol", "total": "kcal/mol",
    "min_distance_A": "angstrom", "max_force": "kcal/mol/angstrom", "max_bond_deviation": "",
}  # fmt: skip
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class StageInfo:
    """What a stage of dynamics was asked to do; attributes of its file.

    Attributes:
        protein, stage: names.
        n_beads: N.
        degrees_of_freedom: per replica.
        temperature_K: target.
        clock: time step and numbers of steps.
        kinds: of the beads, for kinetic energies by residue type; None: they are not recorded.
    """

    protein: str
    stage: str
    n_beads: int
    degrees_of_freedom: int
    temperature_K: float
    clock: Clock
    kinds: "Kinds | None" = None


class Kinds:
    """Beads sorted by residue type, to see how kinetic energy is shared among types.

    Attributes:
        types: ids that there are, ascending.
    """

    def __init__(self, residue_type: np.ndarray, masses: np.ndarray):
        """Args:
        residue_type: int [N].
        masses: [N], g/mol.
        """
        self.types, which = np.unique(np.asarray(residue_type, int), return_inverse=True)
        self._masses = np.asarray(masses, float)
        self._member = (which[:, None] == np.arange(len(self.types))).astype(float)

    @property
    def names(self) -> list[str]:
        """Residue names, [K]."""
        return [RESIDUES[kind].name for kind in self.types]

    def kinetic(self, velocities: np.ndarray) -> np.ndarray:
        """Kinetic energies [R, K] in kcal/mol of the beads of each type, from velocities [R, N, 3] in Å/fs."""
        # Not a matrix product, whose rounding of one replica depends on how many there are.
        return (
            0.5
            * MVV_TO_KCAL_PER_MOL
            * np.einsum("rni,rni,n,nk->rk", velocities, velocities, self._masses, self._member)
        )

    def degrees_of_freedom(self, at_rest: bool) -> np.ndarray:
        """Of the beads of each type, [K]: twice their mean kinetic energy over kT.

        With the centre of mass at rest a bead of mass m in a replica of mass M has 3 (1 − m/M): its velocity is that
        of a free bead less that of the centre of mass.
        """
        share = self._masses / self._masses.sum() if at_rest else np.zeros_like(self._masses)
        return 3.0 * ((1.0 - share) @ self._member)


@dataclass(frozen=True, eq=False)
class EngineEnergies:
    """What an engine says of its energies itself, where it is asked instead of the model and the velocities.

    Attributes:
        potential: [R] kcal/mol.
        by_type: [R, K] kcal/mol, kinetic, of the types of `StageInfo.kinds`; [R, 0] where that is None.
    """

    potential: np.ndarray
    by_type: np.ndarray


SERIES = "observables.h5"
"""Name of the file, in the folder of a stage."""


def spool_of(path: Path) -> Path:
    """Where the rows of a file lie while it is being made."""
    return path.with_name(f".{path.name}.spool")


class ObservablesWriter:
    """Collects rows, and makes the file of them when the stage has ended.

    The file has one group `replica_000` … per replica with the columns of `COLUMNS`, `terms` [T, n_terms], and
    `kinetic_by_type` [T, n_types] where types are known. Row k is taken at time (k + 1) · interval of production. A
    replica that broke a limit has no rows from that step on.

    Until then rows lie in a spool beside it, a plain file of float64 that can be cut at any row: an HDF5 file that is
    being written does not survive a kill. Rows of replicas that are no longer observed are NaN there.
    """

    def __init__(
        self,
        path: Path,
        info: StageInfo,
        replicas: Sequence[int],
        every_steps: int,
        absent: Sequence[int] = (),
        keep_rows: int = 0,
    ):
        """Args:
        path: file to write.
        info: written as attributes.
        replicas: ids, in the order of the snapshots' rows.
        every_steps: interval in steps.
        absent: ids of replicas that do not run; they get empty series.
        keep_rows: rows of an earlier attempt's spool that are kept.
        """
        self._path, self._info, self._every = path, info, every_steps
        self._replicas, self._absent = list(replicas), list(absent)
        n_kinds = 0 if info.kinds is None else len(info.kinds.types)
        self._shape = (len(self._replicas), len(COLUMNS) + len(TERM_NAMES) + n_kinds)
        self.spool = spool_of(path)
        self.spool.touch()
        os.truncate(self.spool, keep_rows * 8 * self._shape[0] * self._shape[1])
        self._waiting: list[np.ndarray] = []
        self.rows = keep_rows

    def observe(self, snapshot: Snapshot, engine: EngineEnergies | None = None) -> None:
        """Add a row for each living replica, if this step is one to be observed.

        Args:
            snapshot: of all replicas.
            engine: energies of the engine; default: those of the evaluation, and of the velocities.
        """
        step = snapshot.step - self._info.clock.equilibration_steps
        if step <= 0 or step % self._every:
            return
        evaluation, kinds = snapshot.evaluation, self._info.kinds
        energies = evaluation.energies if engine is None else engine.potential
        if engine is not None:
            by_type = engine.by_type
        else:
            by_type = np.empty((len(energies), 0)) if kinds is None else kinds.kinetic(snapshot.velocities)
        table = np.column_stack(
            [
                np.full(len(energies), self._info.clock.production_ps(snapshot.step)),
                snapshot.temperature_K,
                snapshot.kinetic,
                energies,
                snapshot.kinetic + energies,
                evaluation.min_distance_A,
                evaluation.max_force,
                evaluation.bond_deviation,
                evaluation.terms,
                by_type,
            ]
        )
        table[~snapshot.alive] = np.nan
        self._waiting.append(table)
        self.rows += 1
        if len(self._waiting) >= _BLOCK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Put all rows on disk."""
        with open(self.spool, "ab") as file:
            for table in self._waiting:
                file.write(table.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self._waiting.clear()

    def finish(self, outcomes: Mapping[int, Mapping[str, Any]], keep_spool: bool = False) -> None:
        """Write the file, with what became of each replica (by id) as attributes of its group; the spool goes away, if
        it is not to be kept."""
        self.flush()
        rows = np.fromfile(self.spool).reshape(self.rows, *self._shape)
        with h5py.File(self._path, "w") as file:
            file.attrs.update(self._attributes())
            for replica in sorted([*self._replicas, *self._absent]):
                seen = np.empty((0, self._shape[1]))
                if replica in self._replicas:
                    seen = rows[:, self._replicas.index(replica)]
                    seen = seen[~np.isnan(seen[:, 0])]
                self._write_group(file.create_group(group_name(replica)), seen)
            for replica, outcome in outcomes.items():
                file[group_name(replica)].attrs.update(outcome)
        if not keep_spool:
            self.spool.unlink()

    def _attributes(self) -> dict[str, Any]:
        info = self._info
        at_rest = info.degrees_of_freedom < 3 * info.n_beads
        by_type = {} if info.kinds is None else {
            "kinetic_types": info.kinds.names, "dof_by_type": info.kinds.degrees_of_freedom(at_rest),
        }  # fmt: skip
        return {
            "protein": info.protein,
            "stage": info.stage,
            "n_beads": info.n_beads,
            "dof": info.degrees_of_freedom,
            "temperature_K": info.temperature_K,
            "timestep_fs": info.clock.timestep_fs,
            "observe_every_steps": self._every,
            "equilibration_steps": info.clock.equilibration_steps,
            "steps_asked": info.clock.steps,
            "term_names": list(TERM_NAMES),
            **by_type,
        }

    @staticmethod
    def _write_group(group: h5py.Group, rows: np.ndarray) -> None:
        columns = {name: (rows[:, place], unit) for place, (name, unit) in enumerate(COLUMNS.items())}
        terms_end = len(COLUMNS) + len(TERM_NAMES)
        columns["terms"] = (rows[:, len(COLUMNS) : terms_end], "kcal/mol")
        if rows.shape[1] > terms_end:
            columns["kinetic_by_type"] = (rows[:, terms_end:], "kcal/mol")
        for name, (values, unit) in columns.items():
            group[name] = values
            group[name].attrs["unit"] = unit


def group_name(replica: int) -> str:
    """As `replica_007`."""
    return f"replica_{replica:03d}"
