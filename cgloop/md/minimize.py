"""Energy minimisation, one LAMMPS instance per replica."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from cgloop.config.md import MDConfig
from cgloop.interrupt import check_stop
from cgloop.md.coupling import STOP_CHECK_STEPS
from cgloop.md.evaluation import Evaluate, Evaluation
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Violation
from cgloop.md.observables import group_name
from cgloop.md.recorder import Clock, CrashWriter, Recorder, Snapshot
from cgloop.md.session import Atoms, Session, StopRun
from cgloop.md.system import Subject, System
from cgloop.md.trajectory import TrajectoryWriter, write_topology


@dataclass(frozen=True)
class Minimized:
    """What became of one replica.

    Attributes:
        positions: [N, 3] Å at the end.
        energy_initial, energy_final: kcal/mol.
        max_force_initial, max_force_final: largest force on a bead, kcal/mol/Å.
        max_move_A: largest displacement of a bead after superposition.
        steps: iterations done.
        converged: the largest force is below the tolerance.
        failed: forces became non-finite, so that nothing can start from here.
    """

    positions: np.ndarray
    energy_initial: float
    energy_final: float
    max_force_initial: float
    max_force_final: float
    max_move_A: float
    steps: int
    converged: bool
    failed: bool

    def to_json(self) -> dict[str, Any]:
        """Everything but the positions, as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "positions"}


class _MinimizerForce:
    """Energy and forces for LAMMPS's minimiser; stops it if they are not finite."""

    def __init__(self, evaluate: Evaluate, recorder: Recorder):
        self._evaluate, self._recorder = evaluate, recorder
        self.first: Evaluation | None = None
        self.last: Evaluation | None = None
        self.steps = 0

    def __call__(self, step: int, atoms: Atoms, forces: np.ndarray) -> float:
        if step % STOP_CHECK_STEPS == 0:
            check_stop()
        positions = atoms.unwrapped()[None]
        evaluation = self._evaluate(positions)
        self.last, self.steps = evaluation, step
        self.first = self.first or evaluation
        still, none = np.zeros_like(positions), np.zeros(1)
        self._recorder.push(Snapshot(step, positions, still, evaluation, none, none, np.ones(1, bool)))
        if not evaluation.finite[0]:
            raise StopRun("forces are not finite")
        forces[:] = evaluation.forces[0]
        return float(evaluation.energies[0])


def minimize_all(subject: Subject, config: MDConfig, temperature_K: float, out: Path) -> list[Minimized]:
    """Minimise every replica by itself and write the stage's files.

    Args:
        subject: the protein and its start frames.
        config: tolerance and steps.
        temperature_K: of the model, noted in crash files.
        out: folder of the stage.

    Raises:
        Interrupted: stopped on request.
    """
    system, frames, evaluate = subject.system, subject.starts.positions, subject.new_evaluator()
    centred = frames - frames.mean(axis=1, keepdims=True)
    write_topology(out / "topology.pdb", system, centred[0])
    clock = Clock(config.timestep_fs, 0, config.minimize.max_steps)
    crash_writer = CrashWriter(out, "minimize", system, temperature_K, clock, subject.term_forces)
    results = [
        _minimize_one(system, evaluate, frame, config, crash_writer, replica) for replica, frame in enumerate(centred)
    ]
    _write_results(out / "observables.h5", system, results, config)
    return results


def _minimize_one(
    system: System, evaluate: Evaluate, frame: np.ndarray, config: MDConfig, crash_writer: CrashWriter, replica: int
) -> Minimized:
    out, label = crash_writer.folder, f"{replica:03d}"
    data_file = out / f"replica_{label}.data"
    write_data_file(data_file, system.residue_type, frame[None], np.zeros((1, *frame.shape)))
    values = {
        "data_file": data_file.name,
        "force_tolerance": config.minimize.force_tolerance,
        "max_steps": config.minimize.max_steps,
        "max_evaluations": 10 * config.minimize.max_steps,
        "thermo_every": 100,
    }
    script = write_script("minimize.in", values, out / f"minimize_{label}.in")
    recorder = Recorder(config.crash_frames, 1, system.n_beads)
    force = _MinimizerForce(evaluate, recorder)
    with Session(out / f"log.{label}.lammps") as session:
        session.run_script(script, force)
        positions = session.atoms().unwrapped()
    first, last = force.first, force.last
    assert first is not None, "LAMMPS asks for forces before it does anything"
    assert last is not None
    failed = not bool(last.finite[0])
    if failed:
        violation = Violation(0, "non-finite", float("nan"), 0.0)
        crash_writer.write(replica, violation, recorder.history(0))
    _write_ends(out, replica, frame, positions, config.timestep_fs)
    return Minimized(
        positions=positions,
        energy_initial=float(first.energies[0]),
        energy_final=float(last.energies[0]),
        max_force_initial=float(first.max_force[0]),
        max_force_final=float(last.max_force[0]),
        max_move_A=largest_move(frame, positions),
        steps=force.steps,
        converged=bool(last.max_force[0] <= config.minimize.force_tolerance),
        failed=failed,
    )


def largest_move(before: np.ndarray, after: np.ndarray) -> float:
    """Largest displacement in Å of a bead between two frames [N, 3], after superposition; NaN if one is not finite."""
    before, after = before - before.mean(axis=0), after - after.mean(axis=0)
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return float("nan")
    if len(before) < 3:  # no unique rotation: compare distances instead
        return float(np.abs(np.linalg.norm(before, axis=1) - np.linalg.norm(after, axis=1)).max())
    rotation, _ = Rotation.align_vectors(before, after)
    return float(np.linalg.norm(before - rotation.apply(after), axis=1).max())


def _write_ends(out: Path, replica: int, start: np.ndarray, end: np.ndarray, timestep_fs: float) -> None:
    """A DCD with the first and the last frame."""
    with TrajectoryWriter(out, Clock(timestep_fs, 0, 2), [replica], len(start), 1) as writer:
        writer.write(np.stack([start, end])[:, None])


def _write_results(path: Path, system: System, results: Sequence[Minimized], config: MDConfig) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(
            {
                "protein": system.name,
                "stage": "minimize",
                "n_beads": system.n_beads,
                "force_tolerance": config.minimize.force_tolerance,
                "max_steps": config.minimize.max_steps,
                "energy_unit": "kcal/mol",
                "force_unit": "kcal/mol/angstrom",
            }
        )
        for replica, result in enumerate(results):
            file.create_group(group_name(replica)).attrs.update(result.to_json())
