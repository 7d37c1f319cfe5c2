"""What is left of a replica that broke a limit: its last steps, and all that is needed to run them again.

| file | |
|---|---|
| crash_003.h5 | the last steps at full precision, forces by term, and how to repeat them |
| crash_003.pdb | the last finite frame; offending beads have B-factor 100 |
| crash_003.dcd | the finite frames of the last steps |
"""

import json
import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np

from cgloop.config.md import MDConfig
from cgloop.errors import UserError
from cgloop.export.bundle import MANIFEST
from cgloop.md.monitors import Limits, Violation, offending_beads, unexplained_energy
from cgloop.md.recorder import Clock
from cgloop.md.system import ModelSource, System, TermForces
from cgloop.md.trajectory import TrajectoryWriter, write_topology
from cgloop.model.terms import TERM_NAMES
from cgloop.model.topology import build_topology, separation_matrix
from cgloop.stages import digest_file, versions
from cgloop.units import FS_PER_PS, MVV_TO_KCAL_PER_MOL

log = logging.getLogger("cgloop.md")

UNITS = {
    "positions": "angstrom", "velocities": "angstrom/fs", "half_velocities": "angstrom/fs",
    "forces": "kcal/mol/angstrom", "terms": "kcal/mol", "total": "kcal/mol", "kinetic": "kcal/mol", "kinetic_K": "K",
    "min_distance_A": "angstrom", "max_force": "kcal/mol/angstrom", "energy_jump": "kcal/mol",
    "term_forces": "kcal/mol/angstrom", "frame_term_forces": "kcal/mol/angstrom", "native": "angstrom",
    "bond_mean_A": "angstrom", "masses": "g/mol", "type_masses": "g/mol",
}  # fmt: skip

FRAMES = (
    "step", "positions", "velocities", "half_velocities", "forces", "terms", "kinetic", "kinetic_K", "total",
    "min_distance_A", "max_force", "max_bond_deviation", "pair_list",
)  # fmt: skip
"""Data sets with a row for each frame that a record is read back from."""


@dataclass(frozen=True)
class Recipe:
    """How a stage was run, as far as its last steps depend on it.

    Attributes:
        replicas: ids of all replicas that ran together, in order of their rows.
        degrees_of_freedom: of one replica.
        seed: of the thermostat's noise.
        friction_per_ps: of the thermostat; None without one.
        limits: that the replicas were held to.
    """

    replicas: tuple[int, ...]
    degrees_of_freedom: int
    seed: int
    friction_per_ps: float | None
    limits: Limits


def recipe_of(
    stage: str, config: MDConfig, replicas: Sequence[int], degrees_of_freedom: int, seed: int, limits: Limits
) -> Recipe | None:
    """How a stage is run; None under a thermostat of LAMMPS's own, whose random numbers nobody can repeat.

    Args:
        stage: `nvt` or `nve`.
        config: thermostat and friction.
        replicas, degrees_of_freedom, seed, limits: as the attributes of `Recipe`.
    """
    friction = None
    if stage == "nvt":
        if config.nvt.thermostat != "langevin":
            return None
        friction = config.nvt.friction_per_ps
    return Recipe(tuple(replicas), degrees_of_freedom, seed, friction, limits)


@dataclass(frozen=True)
class CrashWriter:
    """Writes `crash_<replica>.h5`, `.pdb` and `.dcd` into a stage's folder.

    Attributes:
        folder: of the stage.
        stage: `minimize`, `nvt` or `nve`.
        system: the protein.
        temperature_K: target.
        clock: of the stage.
        term_forces: splits forces.
        recipe: how the stage was run; None where steps are not repeated.
        source: the model; None if it is no bundle.
        degrees_of_freedom: of one replica; None in a minimization, which has no temperature.
        failures: by replica id, why its record could not be written.
    """

    folder: Path
    stage: str
    system: System
    temperature_K: float
    clock: Clock
    term_forces: TermForces
    recipe: Recipe | None = None
    source: ModelSource | None = None
    degrees_of_freedom: int | None = None
    failures: dict[int, str] = field(default_factory=dict)

    def write(
        self, replica: int, violation: Violation, history: dict[str, np.ndarray], room: int | None = None
    ) -> Path | None:
        """Write what is known of a replica that broke a limit.

        A record that cannot be written, because a disk is full, must not end the run of the other replicas: that is
        logged and kept in `failures`, and nothing half-written is left.

        Args:
            replica: id, which names the files.
            violation: the limit and its value.
            history: of `Recorder.history`; its last entry is the step at which the limit was broken.
            room: for directed pairs of a replica, which decides the rounding; default: what there was at the start.

        Returns:
            The HDF5 file; None if it could not be written.
        """
        path = self.folder / f"crash_{replica:03d}.h5"
        try:
            beads = self._offending(violation, history)
            self._write_record(path, replica, violation, beads, history, room)
            self._write_frames(path, replica, beads, history)
        except (OSError, RuntimeError) as error:
            self.failures[replica] = str(error)
            log.error("%s %s: no record of replica %d: %s", self.system.name, self.stage, replica, error)
            return path if path.is_file() else None
        return path

    def _offending(self, violation: Violation, history: dict[str, np.ndarray]) -> np.ndarray:
        system, last = self.system, {name: values[-1] for name, values in history.items()}
        speed2 = np.einsum("ni,ni->n", last["velocities"], last["velocities"])
        return offending_beads(
            violation.limit,
            violation.threshold,
            last["positions"],
            last["forces"],
            0.5 * MVV_TO_KCAL_PER_MOL * system.masses * speed2,
            separation_matrix(system.linked),
            build_topology(system.linked).bonds,
            system.bond_mean_A,
        )

    def _write_record(
        self, path: Path, replica: int, violation: Violation, beads: np.ndarray, history: dict[str, np.ndarray],
        room: int | None,
    ) -> None:  # fmt: skip
        system, step = self.system, int(history["step"][-1])
        by_term = self._split(history["positions"])
        datasets = {
            **history,
            "energy_jump": energy_jumps(history),
            **by_term,
            "residue_type": np.asarray(system.residue_type, np.int8),
            "native": np.asarray(system.native),
            "linked": np.asarray(system.linked, bool),
            "chain": np.asarray(system.chain, np.int16),
            "resid": np.asarray(system.resid, np.int32),
            "masses": system.masses,
            "type_masses": np.asarray(system.type_masses),
            "bond_mean_A": np.asarray(system.bond_mean_A, float),
        }
        attributes = {
            "protein": system.name,
            "stage": self.stage,
            "replica": replica,
            "step": step,
            "time_ps": step * self.clock.timestep_fs / FS_PER_PS,
            "phase": "equilibration" if step < self.clock.equilibration_steps else "production",
            "equilibration_steps": self.clock.equilibration_steps,
            "limit": violation.limit,
            "value": violation.value,
            "threshold": violation.threshold,
            "beads": beads.astype(np.int32),
            "residues": [system.residue_label(bead) for bead in range(system.n_beads)],
            "timestep_fs": self.clock.timestep_fs,
            "temperature_K": self.temperature_K,
            "term_names": list(TERM_NAMES),
            "precision": "positions and velocities float64; forces float32, as the model computes them",
            **({} if self.degrees_of_freedom is None else {"dof": self.degrees_of_freedom}),
            **self._how_to_repeat(room),
        }
        write_datasets(path, datasets, attributes)

    def _split(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        try:
            forces = self.term_forces(positions).astype(np.float32)
        except RuntimeError as error:  # JAX's errors: out of memory, among others
            log.error("%s %s: forces could not be split by term: %s", self.system.name, self.stage, error)
            return {}
        return {"term_forces": forces[-1], "frame_term_forces": forces}

    def _how_to_repeat(self, room: int | None) -> dict[str, Any]:
        described: dict[str, Any] = {"versions": json.dumps(machine_versions())}
        if self.recipe is not None:
            recipe = asdict(self.recipe)
            described |= {
                "replicas": np.asarray(recipe["replicas"], np.int64),
                "dof": recipe["degrees_of_freedom"],
                "seed": np.uint64(recipe["seed"]),
                "limits": json.dumps(recipe["limits"]),
            }
            if recipe["friction_per_ps"] is not None:
                described["friction_per_ps"] = recipe["friction_per_ps"]
        if self.source is not None:
            described |= {
                "bundle": self._place_of(self.source.bundle),
                "bundle_digest": digest_file(self.source.bundle / MANIFEST),
                "skin_A": self.source.skin_A,
                "edges_per_replica": room or self.source.edges_per_replica,
            }
        return described

    def _place_of(self, bundle: Path) -> str:
        """From the folder that record and bundle have in common: runs are moved whole, stages at their end."""
        bundle, folder = bundle.absolute(), self.folder.absolute()
        return bundle.relative_to(os.path.commonpath([bundle, folder])).as_posix()

    def _write_frames(self, path: Path, replica: int, beads: np.ndarray, history: dict[str, np.ndarray]) -> None:
        """PDB and DCD, moved so that the first frame lies around the origin."""
        finite = np.isfinite(history["positions"]).all(axis=(1, 2))
        if not finite.any():
            return
        frames = history["positions"][finite]
        write_frames(path.with_suffix(".pdb"), self.system, self.clock, replica, frames, beads, history["step"])


def write_frames(
    pdb: Path, system: System, clock: Clock, replica: int, frames: np.ndarray, beads: np.ndarray, steps: np.ndarray
) -> None:
    """A PDB of the last of some frames [F, N, 3], with beads marked, and beside it a DCD of all of them."""
    frames = frames - frames[0].mean(axis=0)
    write_topology(pdb, system, frames[-1], marked=beads.tolist())
    prefix = pdb.stem.rpartition("_")[0]
    with TrajectoryWriter(
        pdb.parent, clock, [replica], system.n_beads, 1, prefix=prefix, first_step=int(steps[0])
    ) as trajectory:
        trajectory.write(frames[:, None])


def write_datasets(path: Path, datasets: Mapping[str, np.ndarray], attributes: Mapping[str, Any]) -> None:
    """An HDF5 file that is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    try:
        with h5py.File(partial, "w") as file:
            file.attrs.update(attributes)
            for name, values in datasets.items():
                file[name] = values
                if name in UNITS:
                    file[name].attrs["unit"] = UNITS[name]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def machine_versions() -> dict[str, str]:
    """What rounding depends on beside the numbers: versions of packages, kind of processor and of device."""
    return versions() | {"machine": platform.machine(), "device": jax.devices()[0].device_kind}


def energy_jumps(history: Mapping[str, np.ndarray]) -> np.ndarray:
    """`monitors.unexplained_energy` of every frame of a history, [K]; zero for the first."""
    forces, energies = history["forces"].astype(float), history["terms"].sum(axis=1)
    positions = history["positions"]
    before = positions[:-1], forces[:-1], energies[:-1]
    return np.concatenate([[0.0], unexplained_energy(positions[1:], forces[1:], energies[1:], before)])


@dataclass(frozen=True, eq=False)
class Record:
    """A crash file, with everything that is needed to run its steps again.

    Attributes:
        path: of the file.
        stage, replica, limit, value: what broke where.
        system: the protein.
        history: as `Recorder.history`.
        timestep_fs, temperature_K: of the run.
        equilibration_steps: of the stage.
        recipe: how the stage was run.
        source: the model.
        bundle_digest: of its manifest at that time.
        versions: of packages and machine then.
    """

    path: Path
    stage: str
    replica: int
    limit: str
    value: float
    system: System
    history: dict[str, np.ndarray]
    timestep_fs: float
    temperature_K: float
    equilibration_steps: int
    recipe: Recipe
    source: ModelSource
    bundle_digest: str
    versions: dict[str, Any]


def read_record(path: Path) -> Record:
    """Read a `crash_<replica>.h5` in order to run it again.

    Raises:
        UserError: it is missing or damaged, or it does not say how to repeat its steps, as that of a minimisation.
    """
    try:
        with h5py.File(path) as file:
            if "seed" not in file.attrs or "bundle" not in file.attrs:
                raise UserError(
                    f"steps of `{file.attrs.get('stage', 'this file')}` cannot be run again: it does not say how",
                    where=path,
                    remedy="crashes of `nvt` and `nve` can; older ones after `cgloop md` has run again",
                )
            return _record(path, file)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"not a readable crash file: {error}", where=path, remedy="run `cgloop md` again") from None


def _find_bundle(path: Path, place: str) -> Path:
    """The bundle at this place below the nearest folder above a file that has one."""
    for folder in path.absolute().parents:
        if (folder / place / MANIFEST).is_file():
            return folder / place
    return path.absolute().parent / place


def _record(path: Path, file: h5py.File) -> Record:
    attributes = file.attrs
    friction = attributes.get("friction_per_ps")
    return Record(
        path=path,
        stage=str(attributes["stage"]),
        replica=int(attributes["replica"]),
        limit=str(attributes["limit"]),
        value=float(attributes["value"]),
        system=System(
            name=str(attributes["protein"]),
            **{name: file[name][:] for name in ("residue_type", "chain", "resid", "linked", "native", "bond_mean_A")},
            type_masses=tuple(file["type_masses"][:].tolist()),
        ),
        history={name: file[name][:] for name in FRAMES if name in file},
        timestep_fs=float(attributes["timestep_fs"]),
        temperature_K=float(attributes["temperature_K"]),
        equilibration_steps=int(attributes["equilibration_steps"]),
        recipe=Recipe(
            replicas=tuple(int(replica) for replica in attributes["replicas"]),
            degrees_of_freedom=int(attributes["dof"]),
            seed=int(attributes["seed"]),
            friction_per_ps=None if friction is None else float(friction),
            limits=Limits(**json.loads(attributes["limits"])),
        ),
        source=ModelSource(
            _find_bundle(path, str(attributes["bundle"])),
            float(attributes["skin_A"]),
            int(attributes["edges_per_replica"]),
        ),
        bundle_digest=str(attributes["bundle_digest"]),
        versions=json.loads(attributes["versions"]),
    )
