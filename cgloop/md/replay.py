"""The last steps of a replica that broke a limit, run again: to the bit as they were, or with something changed.

How it can be exact. LAMMPS asks for forces in the middle of a step, between the drift and the second half kick. The
record holds what it had in its hands then: positions and the velocities of the drift, after the thermostat. The two
half kicks around the end of a step are LAMMPS's own arithmetic, which a compiler may have fused, so they are left to
LAMMPS: it is started one step early with anything, and when it asks for the forces of the first frame it is given that
frame's positions and velocities. From there on everything is computed as it was: the same numbers of the thermostat's
noise, which depend on seed, replica and step only, and the same compiled model on arrays of the same shapes, with the
replica in the same row. Alone it would be rounded differently; the other rows hold copies of it.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cgloop.errors import UserError
from cgloop.export.bundle import MANIFEST, Bundle, load_bundle
from cgloop.md.coupling import Coupling
from cgloop.md.crash_files import (
    Record,
    energy_jumps,
    machine_versions,
    read_record,
    write_datasets,
    write_frames,
)
from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.md.evaluation import Evaluation
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.monitors import Monitor, Violation, offending_beads
from cgloop.md.noise import Noise
from cgloop.md.recorder import Clock, Recorder
from cgloop.md.session import Atoms, Session
from cgloop.md.thermostat import Langevin, half_kick
from cgloop.model.graph import Graph
from cgloop.model.hybrid import energy_of_terms
from cgloop.model.terms import PRIOR_TERM_NAMES, TERM_NAMES
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.stages import digest_file
from cgloop.units import MVV_TO_KCAL_PER_MOL

log = logging.getLogger("cgloop.md")

COMPARED = ("positions", "velocities", "forces")


@dataclass(frozen=True, eq=False)
class Replay:
    """What came of running steps again.

    Attributes:
        record: the crash file.
        history: as `Recorder.history`, of the steps that were run.
        violation: the limit that was broken this time; None if none was.
        beads: that break it, else no bead.
        differences: largest absolute difference from the record by name of `COMPARED`; None if something was changed.
        cautions: why numbers may differ from the record.
    """

    record: Record
    history: dict[str, np.ndarray]
    violation: Violation | None
    beads: np.ndarray
    differences: dict[str, float] | None
    cautions: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every number is that of the record, to the bit."""
        return self.differences is not None and all(value == 0.0 for value in self.differences.values())


def replay_crash(
    path: Path,
    *,
    frames: int | None = None,
    timestep_fs: float | None = None,
    terms: Sequence[str] = (),
    bundle: Path | None = None,
    out: Path | None = None,
) -> Replay:
    """Run the last recorded steps of a crash again.

    Args:
        path: `crash_<replica>.h5` of a stage of dynamics.
        frames: how many of the frames that were kept; default all.
        timestep_fs: another time step, over the same time. The thermostat's noise is then another one, too.
        terms: only these energy terms, of `TERM_NAMES`; default the whole model, as it was exported.
        bundle: folder of the model; default where it lay, relative to the file.
        out: folder for `replay.h5`, `replay_<replica>.pdb` and `.dcd`, made if it is not there; None for no files.

    Raises:
        UserError: not such a file, no bundle, unknown terms, or fewer than two frames.
    """
    record = read_record(path)
    unknown = set(terms) - set(TERM_NAMES)
    if unknown:
        raise UserError(
            f"no energy term `{sorted(unknown)[0]}`", where="--term", remedy=f"one of {', '.join(TERM_NAMES)}"
        )
    kept = len(record.history["step"])
    wanted = kept if frames is None else min(frames, kept)
    if wanted < 2:
        raise UserError("two frames at least make a step", where=path, remedy="ask for more with `--frames`")
    history = {name: values[kept - wanted :] for name, values in record.history.items()}
    model = load_bundle(bundle or record.source.bundle)
    changed = bool(terms) or timestep_fs not in (None, record.timestep_fs)
    evaluate = _Copies(_evaluator(record, model, tuple(terms)), record, history)
    run = _run_changed if changed else _run_exact
    found, violation = run(record, history, evaluate, timestep_fs or record.timestep_fs)
    beads = _offending(record, found, violation)
    differences = None if changed else _differences(history, found)
    result = Replay(record, found, violation, beads, differences, ())
    if not changed:
        result = replace(result, cautions=tuple(_cautions(record, model, result.same)))
    if out is not None:
        _write(result, timestep_fs or record.timestep_fs, out)
    return result


def _evaluator(record: Record, bundle: Bundle, terms: tuple[str, ...]) -> ModelEvaluator:
    def of_terms(positions: jax.Array, graph: Graph) -> tuple[jax.Array, jax.Array, jax.Array]:
        return energy_of_terms(bundle.model, bundle.params, positions, graph, terms)

    compiled = compile_model(of_terms if terms else bundle.function, bundle.cutoff_A)
    return ModelEvaluator(compiled, record.system, record.source.skin_A, record.source.edges_per_replica, 1)


class _Copies:
    """Evaluates one replica as all rows of the run that is repeated; lists pairs anew where that run did."""

    def __init__(self, evaluator: ModelEvaluator, record: Record, history: dict[str, np.ndarray]):
        self._evaluator, self._rows = evaluator, len(record.recipe.replicas)
        self._row = record.recipe.replicas.index(record.replica)
        lists = history["pair_list"]
        self._renewed = set(history["step"][1:][np.diff(lists) > 0].tolist())
        self.step = -1

    def __call__(self, positions: np.ndarray) -> Evaluation:
        if self.step in self._renewed:
            self._evaluator.renew()
        whole = self._evaluator(np.repeat(positions, self._rows, axis=0))
        return Evaluation(*(values[self._row : self._row + 1] for values in whole))


class _SkipFirst:
    """A thermostat that has acted already when the first frame was recorded."""

    def __init__(self, thermostat: Langevin, first: int):
        self._thermostat, self._first = thermostat, first

    def apply(self, step: int, positions: np.ndarray, velocities: np.ndarray, alive: np.ndarray) -> None:
        if step > self._first:
            self._thermostat.apply(step, positions, velocities, alive)


def _run_exact(
    record: Record, history: dict[str, np.ndarray], evaluate: _Copies, timestep_fs: float
) -> tuple[dict[str, np.ndarray], Violation | None]:
    """The frames of a history, computed from the first of them."""
    first, n_frames = int(history["step"][0]), len(history["step"])
    x = history["positions"][:1]
    drift = history.get("half_velocities", np.full_like(x, np.nan))[:1]
    if np.isnan(drift).any():
        # The first frame is the start of the stage: nothing had moved, and LAMMPS began with these velocities.
        return _run(record, evaluate, x, history["velocities"][:1], first, n_frames - 1, timestep_fs)
    thermostat = _thermostat(record, timestep_fs)
    coupling, recorder = _coupling(
        record, evaluate, n_frames + 1, timestep_fs, None if thermostat is None else _SkipFirst(thermostat, first)
    )

    def force(lammps_step: int, atoms: Atoms, forces: np.ndarray) -> float:
        evaluate.step = first - 1 + lammps_step
        if lammps_step == 1:
            session.place(x[0])
            atoms.velocities[:] = drift[0]
        return coupling(evaluate.step, atoms, forces)

    with tempfile.TemporaryDirectory(prefix="cgloop-replay-") as folder, Session() as session:
        session.run_script(_script(record, Path(folder), x, drift, n_frames, timestep_fs), force)
    # The step before the first frame was only there to get LAMMPS going.
    found = {name: values[1:] for name, values in recorder.history(0).items()}
    return found, coupling.violations.get(0)


def _run_changed(
    record: Record, history: dict[str, np.ndarray], evaluate: _Copies, timestep_fs: float
) -> tuple[dict[str, np.ndarray], Violation | None]:
    """The time of a history, from its first frame, under other conditions."""
    steps = round((len(history["step"]) - 1) * record.timestep_fs / timestep_fs)
    start = history["positions"][:1], history["velocities"][:1]
    return _run(record, evaluate, *start, int(history["step"][0]), max(1, steps), timestep_fs)


def _run(
    record: Record,
    evaluate: _Copies,
    positions: np.ndarray,
    velocities: np.ndarray,
    first: int,
    steps: int,
    timestep_fs: float,
) -> tuple[dict[str, np.ndarray], Violation | None]:
    coupling, recorder = _coupling(record, evaluate, steps + 1, timestep_fs, _thermostat(record, timestep_fs))

    def force(lammps_step: int, atoms: Atoms, forces: np.ndarray) -> float:
        evaluate.step = first + lammps_step
        return coupling(evaluate.step, atoms, forces)

    with tempfile.TemporaryDirectory(prefix="cgloop-replay-") as folder, Session() as session:
        session.run_script(_script(record, Path(folder), positions, velocities, steps, timestep_fs), force)
    return recorder.history(0), coupling.violations.get(0)


def _script(
    record: Record, folder: Path, positions: np.ndarray, velocities: np.ndarray, steps: int, timestep_fs: float
) -> Path:
    # The thermostat is in the coupling: for LAMMPS both stages are constant energy.
    system = record.system
    write_data_file(folder / "system.data", system.residue_type, positions, velocities, masses=system.type_masses)
    values = {"data_file": "system.data", "timestep_fs": timestep_fs, "thermo_every": steps, "steps": steps}
    return write_script("nve.in", values, folder / "nve.in")


def _thermostat(record: Record, timestep_fs: float) -> Langevin | None:
    recipe, system = record.recipe, record.system
    if recipe.friction_per_ps is None:
        return None
    noise = Noise(recipe.seed, [record.replica], system.n_beads, "thermostat")
    return Langevin(noise, system.masses, record.temperature_K, recipe.friction_per_ps, timestep_fs)


def _coupling(
    record: Record, evaluate: _Copies, n_frames: int, timestep_fs: float, thermostat: Any
) -> tuple[Coupling, Recorder]:
    system, recipe = record.system, record.recipe
    recorder = Recorder(n_frames, 1, system.n_beads, half_kick(system.masses, timestep_fs))
    coupling = Coupling(
        evaluate,
        system.masses,
        1,
        timestep_fs,
        recipe.degrees_of_freedom,
        thermostat=thermostat,
        monitor=Monitor(recipe.limits, timestep_fs, 1),
        recorder=recorder,
    )
    return coupling, recorder


def _offending(record: Record, history: dict[str, np.ndarray], violation: Violation | None) -> np.ndarray:
    if violation is None:
        return np.empty(0, int)
    system, velocities = record.system, history["velocities"][-1]
    return offending_beads(
        violation.limit,
        violation.threshold,
        history["positions"][-1],
        history["forces"][-1],
        0.5 * MVV_TO_KCAL_PER_MOL * system.masses * np.einsum("ni,ni->n", velocities, velocities),
        separation_matrix(system.linked),
        build_topology(system.linked).bonds,
        system.bond_mean_A,
    )


def _differences(recorded: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest absolute difference of each array; NaN where only one of two numbers is finite, or steps are missing."""
    result = {}
    for name in COMPARED:
        old, new = recorded[name].astype(float), found[name].astype(float)
        if len(old) != len(new):
            result[name] = float("nan")
            continue
        # Equal infinities and NaN in the same place are no difference.
        equal = (old == new) | (np.isnan(old) & np.isnan(new))
        with np.errstate(invalid="ignore"):
            result[name] = float(np.where(equal, 0.0, np.abs(new - old)).max())
    return result


def _cautions(record: Record, bundle: Bundle, same: bool) -> list[str]:
    found = []
    if record.limit == "temperature_mean":
        found.append("the mean temperature needs a whole picosecond: that limit is not judged here")
    if same:
        return found
    if digest_file(bundle.path / MANIFEST) != record.bundle_digest:
        found.append("the bundle is not the one that the run was made with")
    now = machine_versions()
    for name in sorted(set(now) | set(record.versions)):
        if now.get(name) != record.versions.get(name):
            found.append(f"{name} was {record.versions.get(name, 'not there')} and is {now.get(name, 'not there')}")
    return found


def _write(replay: Replay, timestep_fs: float, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record, history = replay.record, replay.history
    attributes = {
        "protein": record.system.name,
        "stage": record.stage,
        "replica": record.replica,
        "timestep_fs": timestep_fs,
        "temperature_K": record.temperature_K,
        "term_names": list(TERM_NAMES),
        "broke": "" if replay.violation is None else replay.violation.limit,
        "same": replay.same,
    }
    write_datasets(out / "replay.h5", {**history, "energy_jump": energy_jumps(history)}, attributes)
    finite = np.isfinite(history["positions"]).all(axis=(1, 2))
    if finite.any():
        pdb, clock = out / f"replay_{record.replica:03d}.pdb", Clock(timestep_fs, 0, len(finite))
        write_frames(
            pdb, record.system, clock, record.replica, history["positions"][finite], replay.beads, history["step"]
        )


def replay_lines(replay: Replay, rows: int = 20) -> list[str]:
    """The replay as a table of at most about so many rows, and what came of it in words."""
    record, history = replay.record, replay.history
    labels = [record.system.residue_label(int(bead)) for bead in replay.beads]
    lines = [
        f"{record.system.name} {record.stage}, replica {record.replica}: {len(history['step'])} frames to step "
        f"{int(record.history['step'][-1])}, where it broke {record.limit} ({record.value:.6g})",
        "",
        f"{'step':>9} {'potential':>12} {'T':>9} {'closest':>9} {'force':>10}  beads",
        f"{'':>9} {'kcal/mol':>12} {'K':>9} {'Å':>9} {'kcal/mol/Å':>10}",
    ]
    last, stride = len(history["step"]) - 1, max(1, len(history["step"]) // rows)
    for k in [*range(last % stride, last, stride), last]:
        lines.append(
            f"{history['step'][k]:9d} {history['terms'][k].sum():12.4f} {history['kinetic_K'][k]:9.1f} "
            f"{history['min_distance_A'][k]:9.3f} {history['max_force'][k]:10.2f}"
            + (f"  {', '.join(labels)}" if k == last and labels else "")
        )
    lines.append("")
    broken = replay.violation
    lines.append(
        "no limit was broken"
        if broken is None
        else f"broke {broken.limit} at step {history['step'][-1]}: {broken.value:.6g}, the limit is "
        f"{broken.threshold:.6g}"
    )
    if replay.differences is not None:
        largest = ", ".join(f"{name} {value:.3g}" for name, value in replay.differences.items())
        lines.append(
            "the same numbers as recorded, to the bit"
            if replay.same
            else f"not as recorded; differences up to: {largest}"
        )
    return [*lines, *(f"note: {caution}" for caution in replay.cautions)]


PRIOR_ONLY = PRIOR_TERM_NAMES
"""Terms of a replay without the network."""
