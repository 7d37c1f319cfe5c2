"""Time series of every replica, in `observables.h5`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from cgloop.md.recorder import Clock, Snapshot
from cgloop.model.terms import TERM_NAMES

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
    """

    protein: str
    stage: str
    n_beads: int
    degrees_of_freedom: int
    temperature_K: float
    clock: Clock


class ObservablesWriter:
    """Collects rows and writes them in blocks; use as a context manager.

    The file has one group `replica_000` … per replica with the columns of `COLUMNS` and `terms` [T, n_terms]. Row k is
    taken at time (k + 1) · interval of production. A replica that broke a limit has no rows from that step on.
    """

    def __init__(
        self, path: Path, info: StageInfo, replicas: Sequence[int], every_steps: int, absent: Sequence[int] = ()
    ):
        """Args:
        path: file to write.
        info: written as attributes.
        replicas: ids, in the order of the snapshots' rows.
        every_steps: interval in steps.
        absent: ids of replicas that do not run; they get empty series.
        """
        self._info, self._every, self._replicas = info, every_steps, list(replicas)
        self._rows: list[list[np.ndarray]] = [[] for _ in replicas]
        self._file = h5py.File(path, "w")
        self._file.attrs.update(
            {
                "protein": info.protein,
                "stage": info.stage,
                "n_beads": info.n_beads,
                "dof": info.degrees_of_freedom,
                "temperature_K": info.temperature_K,
                "timestep_fs": info.clock.timestep_fs,
                "observe_every_steps": every_steps,
                "equilibration_steps": info.clock.equilibration_steps,
                "steps_asked": info.clock.steps,
                "term_names": list(TERM_NAMES),
            }
        )
        for replica in sorted([*replicas, *absent]):
            group = self._file.create_group(group_name(replica))
            for name, unit in COLUMNS.items():
                dataset = group.create_dataset(name, (0,), np.float64, maxshape=(None,), chunks=(_BLOCK_ROWS,))
                dataset.attrs["unit"] = unit
            shape = (0, len(TERM_NAMES))
            terms = group.create_dataset(
                "terms", shape, np.float64, maxshape=(None, shape[1]), chunks=(_BLOCK_ROWS, shape[1])
            )
            terms.attrs["unit"] = "kcal/mol"

    def __enter__(self) -> "ObservablesWriter":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._file.close()

    def observe(self, snapshot: Snapshot) -> None:
        """Add a row for each living replica, if this step is one to be observed."""
        step = snapshot.step - self._info.clock.equilibration_steps
        if step <= 0 or step % self._every:
            return
        evaluation, energies = snapshot.evaluation, snapshot.evaluation.energies
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
            ]
        )
        for row in np.flatnonzero(snapshot.alive):
            self._rows[row].append(table[row])
        if max(len(rows) for rows in self._rows) >= _BLOCK_ROWS:
            self._flush()

    def finish(self, outcomes: Mapping[int, Mapping[str, Any]]) -> None:
        """Write what is left, and what became of each replica (by id) as attributes of its group."""
        self._flush()
        for replica, outcome in outcomes.items():
            self._file[group_name(replica)].attrs.update(outcome)

    def _flush(self) -> None:
        for replica, rows in zip(self._replicas, self._rows, strict=True):
            if not rows:
                continue
            block, group = np.array(rows), self._file[group_name(replica)]
            start, n = len(group["time_ps"]), len(COLUMNS)
            for column, name in enumerate(COLUMNS):
                group[name].resize(start + len(block), axis=0)
                group[name][start:] = block[:, column]
            group["terms"].resize(start + len(block), axis=0)
            group["terms"][start:] = block[:, n:]
            rows.clear()


def group_name(replica: int) -> str:
    """As `replica_007`."""
    return f"replica_{replica:03d}"
