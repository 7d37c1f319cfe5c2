"""Energy minimisation, one LAMMPS instance per replica."""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from cgloop.checks import jsonable
from cgloop.config.md import MDConfig
from cgloop.errors import Interrupted
from cgloop.interrupt import check_stop
from cgloop.md.crash_files import CrashWriter
from cgloop.md.ending import END, OUTCOME
from cgloop.md.evaluation import Evaluate, Evaluation
from cgloop.md.failure import Failure, failure_of
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Violation
from cgloop.md.observables import SERIES, group_name
from cgloop.md.recorder import Clock, Recorder, Snapshot
from cgloop.md.session import STOP_CHECK_STEPS, Atoms, LammpsError, Session, StopRun
from cgloop.md.system import StartFrames, Subject, System
from cgloop.md.trajectory import TrajectoryWriter, write_topology
from cgloop.stages import write_json

log = logging.getLogger("cgloop.md")


@dataclass(frozen=True)
class Minimized:
    """What became of one replica.

    Attributes:
        positions: [N, 3] Å at the end.
        energy_initial, energy_final: kcal/mol.
        max_force_initial, max_force_final: largest force on a bead, kcal/mol/Å.
        max_move_A, rmsd_A: largest and root-mean-square displacement of the beads after superposition.
        steps: iterations done.
        converged: the largest force is below the tolerance.
        failed: forces became non-finite, or LAMMPS gave up, so that nothing can start from here.
        limit: what ended it, if something did: `non-finite` or a key of `ending.FAILURES`.
        message: what was said then.
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
    limit: str = ""
    message: str = ""
    rmsd_A: float = float("nan")

    def to_json(self) -> dict[str, Any]:
        """Everything but the positions, as plain data."""
        return {name: value for name, value in asdict(self).items() if name != "positions"}

    @classmethod
    def nothing(cls, frame: np.ndarray, failure: Failure) -> "Minimized":
        """What is known of a replica that was not minimised: where it began, a frame [N, 3] in Å, and why not."""
        unknown = float("nan")
        return cls(
            frame, unknown, unknown, unknown, unknown, unknown, 0, converged=False, failed=True,
            limit=failure.limit, message=failure.message,
        )  # fmt: skip


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


def minimize_all(subject: Subject, config: MDConfig, temperature_K: float, out: Path) -> dict[int, Minimized]:
    """Minimise every replica of a job by itself and write the stage's files; what is done is not done again.

    Args:
        subject: the protein, its start frames, and which replicas run.
        config: tolerance and steps.
        temperature_K: of the model, noted in crash files.
        out: folder of the stage.

    Returns:
        Results by id of the replica.

    Raises:
        Interrupted: stopped on request.
        LammpsError: LAMMPS refuses the script.
    """
    done = read_results(out)
    if done is not None:
        return done
    system, evaluate = subject.system, subject.new_evaluator()
    frames = centred(subject.starts, subject.replicas)
    if frames:
        write_topology(out / "topology.pdb", system, next(iter(frames.values())))
    clock = Clock(config.timestep_fs, 0, config.minimize.max_steps)
    crash_writer = CrashWriter(out, "minimize", system, temperature_K, clock, subject.term_forces)
    results = {
        replica: _minimize_one(system, evaluate, frame, config, crash_writer, replica)
        for replica, frame in frames.items()
    }
    write_results(out, system, results, config)
    return results


def abandon_minimize(
    system: System, starts: StartFrames, replicas: list[int], config: MDConfig, out: Path, failure: Failure
) -> dict[int, Minimized]:
    """The results of a process that is gone: those that it finished with, else that nothing was minimised."""
    done = read_results(out)
    if done is not None:
        return done
    out.mkdir(parents=True, exist_ok=True)
    results = {replica: Minimized.nothing(frame, failure) for replica, frame in centred(starts, replicas).items()}
    write_results(out, system, results, config)
    return results


def centred(starts: StartFrames, replicas: list[int]) -> dict[int, np.ndarray]:
    """Frames [N, 3] Å that these replicas start from, by id, each with its centre at the origin."""
    frames = starts.positions - starts.positions.mean(axis=1, keepdims=True)
    return {replica: frames[replica] for replica in replicas}


def _minimize_one(
    system: System, evaluate: Evaluate, frame: np.ndarray, config: MDConfig, crash_writer: CrashWriter, replica: int
) -> Minimized:
    out = crash_writer.folder
    script = write_minimize_inputs(out, system, frame, config, replica)
    recorder = Recorder(config.crash_frames, 1, system.n_beads)
    force = _MinimizerForce(evaluate, recorder)
    try:
        with Session(out / f"log.{replica:03d}.lammps") as session:
            session.run_script(script, force)
            positions = session.atoms().unwrapped()
    except Interrupted:
        raise
    except Exception as error:
        if isinstance(error, LammpsError) and force.first is None:
            raise
        failure = failure_of(error)
        log.error("%s minimize, replica %d: %s: %s", system.name, replica, failure.limit, failure.message)
        log.debug("what ended the minimisation", exc_info=error)
        return Minimized.nothing(frame, failure)
    first, last = force.first, force.last
    assert first is not None, "LAMMPS asks for forces before it does anything"
    assert last is not None
    failed = not bool(last.finite[0])
    if failed:
        violation = Violation(0, "non-finite", float("nan"), 0.0)
        crash_writer.write(replica, violation, recorder.history(0))
    write_ends(out, replica, frame, positions, config.timestep_fs)
    return Minimized(
        positions=positions,
        energy_initial=float(first.energies[0]),
        energy_final=float(last.energies[0]),
        max_force_initial=float(first.max_force[0]),
        max_force_final=float(last.max_force[0]),
        max_move_A=largest_move(frame, positions),
        rmsd_A=rms_move(frame, positions),
        steps=force.steps,
        converged=bool(last.max_force[0] <= config.minimize.force_tolerance),
        failed=failed,
        limit="non-finite" if failed else "",
    )


def write_minimize_inputs(out: Path, system: System, frame: np.ndarray, config: MDConfig, replica: int) -> Path:
    """Write data file and script for one replica, whose frame is [N, 3] in Å; returns the script."""
    data_file = out / f"replica_{replica:03d}.data"
    still = np.zeros((1, *frame.shape))
    write_data_file(data_file, system.residue_type, frame[None], still, masses=system.type_masses)
    values = {
        "data_file": data_file.name,
        "force_tolerance": config.minimize.force_tolerance,
        "max_steps": config.minimize.max_steps,
        "max_evaluations": 10 * config.minimize.max_steps,
        "thermo_every": 100,
    }
    return write_script("minimize.in", values, out / f"minimize_{replica:03d}.in", config.lammps_inputs)


def largest_move(before: np.ndarray, after: np.ndarray) -> float:
    """Return the largest displacement of a bead between two frames [N, 3] in Å; NaN if one is not finite."""
    return float(_moves(before, after).max())


def rms_move(before: np.ndarray, after: np.ndarray) -> float:
    """Return the RMSD between two frames [N, 3] in Å; NaN if one is not finite."""
    return float(np.sqrt(np.mean(_moves(before, after) ** 2)))


def _moves(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the displacement of every bead after superposition, Å, [N]."""
    before, after = before - before.mean(axis=0), after - after.mean(axis=0)
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return np.full(len(before), np.nan)
    if len(before) < 3:  # no unique rotation: compare distances from the center instead
        return np.abs(np.linalg.norm(before, axis=1) - np.linalg.norm(after, axis=1))
    rotation, _ = Rotation.align_vectors(before, after)
    return np.asarray(np.linalg.norm(before - rotation.apply(after), axis=1))


def write_ends(out: Path, replica: int, start: np.ndarray, end: np.ndarray, timestep_fs: float) -> None:
    """A DCD with the first and the last frame."""
    with TrajectoryWriter(out, Clock(timestep_fs, 0, 2), [replica], len(start), 1) as writer:
        writer.write(np.stack([start, end])[:, None])


def write_results(out: Path, system: System, results: dict[int, Minimized], config: MDConfig) -> None:
    """Write the stage's files about what became of the replicas, last the one that says that it is done."""
    with h5py.File(out / SERIES, "w") as file:
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
        for replica, result in results.items():
            file.create_group(group_name(replica)).attrs.update(result.to_json())
    np.savez(
        out / END, allow_pickle=False, **{group_name(replica): result.positions for replica, result in results.items()}
    )
    write_json(out / OUTCOME, {str(replica): jsonable(result.to_json()) for replica, result in results.items()})


def read_results(out: Path) -> dict[int, Minimized] | None:
    """What `write_results` wrote; None if the stage is not done."""
    if not (out / OUTCOME).is_file():
        return None
    described = json.loads((out / OUTCOME).read_text(encoding="utf-8"))
    with np.load(out / END) as ends:
        return {
            int(replica): Minimized(ends[group_name(int(replica))], **_numbers(one))
            for replica, one in described.items()
        }


def _numbers(described: dict[str, Any]) -> dict[str, Any]:
    """As it was before JSON, which has no NaN."""
    return {name: float("nan") if value is None else value for name, value in described.items()}
