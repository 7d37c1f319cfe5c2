"""The prior as LAMMPS's own styles, evaluated on frames: a second implementation of every prior term."""

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from cgloop.export.lammps_styles import COMMANDS, NativeStyles
from cgloop.md.inputs import write_data_file
from cgloop.md.session import Session

SETUP = """units real
atom_style molecular
atom_modify map array sort 0 0
boundary p p p
comm_modify cutoff {reach_A!r}
neighbor 0.0 nsq
neigh_modify every 1 delay 0 check no one 10000 page 200000
read_data system.data
include {commands}
thermo_style custom step pe ebond eangle edihed evdwl
"""
GHOSTS_A = 100.0
"""Reach of LAMMPS's ghost atoms: more than the length of any bond, should one cross the boundary of the box."""


class NativeProbe:
    """A LAMMPS instance with one replica and native styles that evaluates frames; use as a context manager."""

    def __init__(self, styles: NativeStyles, residue_type: np.ndarray):
        """Args:
        styles: the prior for these beads.
        residue_type: int [N].
        """
        n_beads = len(residue_type)
        apart = np.zeros((1, n_beads, 3))
        apart[0, :, 0] = 4.0 * (np.arange(n_beads) - 0.5 * n_beads)
        self._session = Session()
        with tempfile.TemporaryDirectory(prefix="cgloop-native-") as folder:
            write_data_file(Path(folder) / "system.data", residue_type, apart, np.zeros_like(apart), items=styles.items)
            styles.write(Path(folder))
            self._session.command_in(Path(folder), SETUP.format(reach_A=GHOSTS_A, commands=COMMANDS))

    def __enter__(self) -> "NativeProbe":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._session.close()

    def __call__(self, frame: np.ndarray) -> tuple[np.ndarray, float]:
        """Forces [N, 3] in kcal/mol/Å and energy in kcal/mol of a frame [N, 3] in Å."""
        self._session.place(frame)
        self._session.command("run 0 post no")
        return self._session.total_forces(), self._session.potential_energy()
