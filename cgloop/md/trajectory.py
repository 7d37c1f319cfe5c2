"""Trajectories that any viewer opens: a DCD per replica and a PDB with the beads."""

import resource
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.md.recorder import Clock, Snapshot
from cgloop.md.system import System, spread
from cgloop.residues import RESIDUES
from cgloop.units import FS_PER_PS

# CHARMM's unit of time in ps, in which a DCD header gives the time step.
_AKMA_PS = 0.048888213
_TITLE = "cgloop coarse-grained dynamics, CA beads"
_TITLE_BYTES = 80


class TrajectoryWriter:
    """Writes every n-th step of production; use as a context manager.

    Frame k lies at time (k + 1) · interval. Positions are unwrapped. The trajectory of a replica that broke a limit
    ends before that step.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        replicas: Sequence[int],
        n_beads: int,
        every_steps: int,
        keep_frames: Sequence[int] = (),
        *,
        prefix: str = "replica",
        first_step: int | None = None,
    ):
        """Args:
        folder: files `replica_000.dcd` … are written there.
        clock: of the stage.
        replicas: ids, in the order of the snapshots' rows.
        n_beads: N.
        every_steps: interval in steps.
        keep_frames: of each replica so many frames are taken over from the file that an earlier attempt left.
        prefix: of the files' names.
        first_step: of the first frame, for the files' headers; default: one interval after the start.
        """
        self._clock, self._every = clock, every_steps
        self._paths = [folder / f"{prefix}_{replica:03d}.dcd" for replica in replicas]
        _allow_open_files(len(self._paths) + 256)
        self.frames = list(keep_frames) or [0] * len(self._paths)
        earlier = [_set_aside(path) for path, n in zip(self._paths, self.frames, strict=True) if n]
        self._files = [DCDFile(str(path), "w") for path in self._paths]
        first = every_steps if first_step is None else first_step
        step_akma = clock.timestep_fs / FS_PER_PS / _AKMA_PS
        for file in self._files:
            file.write_header(_TITLE, n_beads, first, every_steps, step_akma, 0)
        self._no_box = np.zeros(6, np.float32)
        for path in earlier:
            self._take_over(path)

    def _take_over(self, path: Path) -> None:
        """Copy the frames to be kept: a DCD file cannot be opened for appending."""
        row = self._paths.index(path.with_suffix(".dcd"))
        with DCDFile(str(path)) as file:
            for _ in range(self.frames[row]):
                self._files[row].write(file.read().xyz, self._no_box)
        path.unlink()

    def __enter__(self) -> "TrajectoryWriter":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the files."""
        for file, path in zip(self._files, self._paths, strict=True):
            file.close()
            _remove_creation_time(path)

    def observe(self, snapshot: Snapshot) -> None:
        """Write a frame of each living replica, if this step is one to be written."""
        step = snapshot.step - self._clock.equilibration_steps
        if step <= 0 or step % self._every:
            return
        self.write(snapshot.positions[None], snapshot.alive)

    def write(self, frames: np.ndarray, alive: np.ndarray | None = None) -> None:
        """Append frames [F, R, N, 3] in Å of the living replicas (bool [R], default all)."""
        rows = range(len(self._files)) if alive is None else np.flatnonzero(alive)
        for frame in frames.astype(np.float32):
            for row in rows:
                self._files[row].write(frame[row], self._no_box)
                self.frames[row] += 1


def read_evenly(folder: Path, n_beads: int, at_most: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames float32 [F, N, 3] in Å, spread evenly over all that a `TrajectoryWriter` left, and the replica of each."""
    paths = sorted(folder.glob("replica_*.dcd"))
    counts = []
    for path in paths:
        with DCDFile(str(path)) as file:
            counts.append(len(file))
    total = sum(counts)
    chosen = spread(total, at_most) if total > at_most else np.arange(total)
    source = np.repeat(np.arange(len(paths)), counts)[chosen]
    positions = np.empty((len(chosen), n_beads, 3), np.float32)
    for number, path in enumerate(paths):
        with DCDFile(str(path)) as file:
            for row in np.flatnonzero(source == number):
                file.seek(int(chosen[row] - sum(counts[:number])))
                positions[row] = file.read().xyz
    replicas = np.array([int(path.stem.removeprefix("replica_")) for path in paths], int)
    return positions, replicas[source]


def _set_aside(path: Path) -> Path:
    """Rename a file that is to be taken over; one that is already set aside is what a killed attempt took over from."""
    aside = path.with_suffix(".earlier")
    return aside if aside.exists() else path.rename(aside)


def _allow_open_files(wanted: int) -> None:
    """Raise the soft limit of open files as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _remove_creation_time(path: Path) -> None:
    """Blank the title lines behind the first one: the writer puts date and time there.

    A DCD file starts with a Fortran record of 84 bytes, then one of titles: a count, and 80 bytes each.
    """
    with open(path, "r+b") as file:
        (first,) = struct.unpack("<i", file.read(4))
        file.seek(4 + first + 4 + 4)
        (titles,) = struct.unpack("<i", file.read(4))
        file.seek(_TITLE_BYTES, 1)
        file.write(b" " * _TITLE_BYTES * (titles - 1))


_PDB_RANGE_A = (-999.999, 9999.999)
"""What the columns of a PDB can hold."""
MARKED = 100.0
"""B-factor of marked beads."""


def write_topology(path: Path, system: System, positions: np.ndarray, marked: Iterable[int] = ()) -> None:
    """A PDB of the CA beads with residue names, numbers, chains and CONECT records of the bonds.

    Args:
        path: file to write.
        system: the protein.
        positions: [N, 3] Å, finite; those too far out for the columns are put at their edge.
        marked: beads whose B-factor is `MARKED`; that of all others is 0.
    """
    marks = set(marked)
    lines = [f"TITLE     {system.name}, CA beads"]
    chains = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    for bead, (x, y, z) in enumerate(np.clip(np.asarray(positions, float), *_PDB_RANGE_A)):
        name = RESIDUES[int(system.residue_type[bead])].name
        chain = chains[int(system.chain[bead]) % len(chains)]
        # Numbers wrap at the width of their columns, as other programs do it.
        lines.append(
            f"ATOM  {(bead + 1) % 100000:5d}  CA  {name} {chain}{int(system.resid[bead]) % 10000:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00{MARKED if bead in marks else 0.0:6.2f}           C  "
        )
    if system.n_beads < 100000:
        lines += [f"CONECT{i + 1:5d}{i + 2:5d}" for i in np.flatnonzero(system.linked)]
    path.write_text("\n".join([*lines, "END"]) + "\n", encoding="ascii")
