"""Crash file, as the recorder of `cgloop.md` writes it, in memory."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from cgloop.errors import UserError
from cgloop.feedback.taxonomy import BY_LIMIT, limit_name
from cgloop.model.names import TERM_NAMES
from cgloop.residues import masses
from cgloop.units import FS_PER_PS, KB, MVV_TO_KCAL_PER_MOL


@dataclass(frozen=True, eq=False)
class Crash:
    """The last K steps of a replica of N beads that broke a limit, oldest first.

    Attributes:
        protein, stage, replica, step, time_ps: where and when the limit was broken.
        limit: name in the spelling of `taxonomy.BY_LIMIT`; `value` broke `threshold`.
        beads: int [B], offending beads.
        residues: name of every bead, as `TYR 1`.
        masses: [N] g/mol, those of the run, which `md.masses` may set.
        timestep_fs, temperature_K: of the run; the temperature is the target.
        steps: int [K]; positions [K, N, 3] Å; velocities [K, N, 3] Å/fs; forces [K, N, 3] kcal/mol/Å.
        kinetic_energy: [K] kcal/mol, as the run computed it.
        temperature: [K] K, instantaneous kinetic temperature, with the run's masses and degrees of freedom.
        terms: [K, n_terms] energies, kcal/mol, in the order of `TERM_NAMES`.
        term_forces: [n_terms, N, 3], kcal/mol/Å, at the last step; None if they could not be computed.
        residue_type: int [N]; native: [N, 3] Å.
        linked: bool [N-1], True where beads i and i+1 are bonded.
        phase: `equilibration` or `production`.
    """

    protein: str
    stage: str
    replica: int
    step: int
    time_ps: float
    limit: str
    value: float
    threshold: float
    beads: np.ndarray
    residues: tuple[str, ...]
    masses: np.ndarray
    timestep_fs: float
    temperature_K: float
    steps: np.ndarray
    positions: np.ndarray
    velocities: np.ndarray
    forces: np.ndarray
    kinetic_energy: np.ndarray
    temperature: np.ndarray
    terms: np.ndarray
    term_forces: np.ndarray | None
    residue_type: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    phase: str

    @property
    def n_beads(self) -> int:
        return len(self.residue_type)

    @cached_property
    def time_fs(self) -> np.ndarray:
        """Time of each frame relative to the last one, fs, [K]."""
        return (self.steps - self.steps[-1]) * self.timestep_fs

    @cached_property
    def force_norms(self) -> np.ndarray:
        """Length of the force on each bead, kcal/mol/Å, [K, N]."""
        return np.linalg.norm(self.forces, axis=-1)

    def distance(self, i: int, j: int) -> np.ndarray:
        """Return the distance of two beads in every frame, Å, [K]."""
        return np.linalg.norm(self.positions[:, i] - self.positions[:, j], axis=-1)


def read_crash(path: Path) -> Crash:
    """Read a `crash_<replica>.h5`.

    Raises:
        UserError: the file is missing, damaged, incomplete, or names an unknown limit.
    """
    try:
        with h5py.File(path) as file:
            return _crash(file)
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"not a readable crash file: {error}", where=path, remedy="run `cgloop md` again") from None


def _crash(file: h5py.File) -> Crash:
    attributes = file.attrs
    types = file["residue_type"][:].astype(int)
    limit = limit_name(_text(attributes["limit"]))
    if limit not in BY_LIMIT:
        raise ValueError(f"unknown limit `{limit}`")
    if not len(file["step"]):
        raise ValueError("it holds no frames")
    step = int(attributes["step"])
    timestep_fs = float(attributes["timestep_fs"])
    vectors = {name: file[name][:].astype(float) for name in ("positions", "velocities", "forces")}
    mass = _masses(file, types)
    kinetic_energy, temperature = _kinetics(file, vectors["velocities"], mass)
    return Crash(
        protein=_text(attributes["protein"]),
        stage=_text(attributes["stage"]),
        replica=int(attributes["replica"]),
        step=step,
        time_ps=float(attributes.get("time_ps", step * timestep_fs / FS_PER_PS)),
        limit=limit,
        value=float(attributes["value"]),
        threshold=float(attributes["threshold"]),
        beads=np.unique(np.atleast_1d(attributes["beads"]).astype(int)),
        residues=tuple(_text(name) for name in attributes["residues"]),
        masses=mass,
        timestep_fs=timestep_fs,
        temperature_K=float(attributes["temperature_K"]),
        steps=file["step"][:].astype(np.int64),
        kinetic_energy=kinetic_energy,
        temperature=temperature,
        term_forces=_by_term(file, "term_forces", axis=0) if "term_forces" in file else None,
        terms=_by_term(file, "terms", axis=1),
        residue_type=types,
        native=file["native"][:].astype(float),
        linked=file["linked"][:].astype(bool),
        phase=_text(attributes.get("phase", "production")),
        **vectors,
    )


def _masses(file: h5py.File, types: np.ndarray) -> np.ndarray:
    """Return the masses [N] of the run; files from before they were recorded come from runs with residue masses."""
    return file["masses"][:].astype(float) if "masses" in file else np.asarray(masses())[types]


def _kinetics(file: h5py.File, velocities: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return kinetic energy [K] in kcal/mol and temperature [K] in K as the run computed them.

    Velocities do not say how many degrees of freedom a run had: under CSVR and Nosé–Hoover, and at constant energy, the
    center of mass is at rest. Only what an older file lacks is computed here.
    """
    if "kinetic" in file:
        energy = file["kinetic"][:].astype(float)
    else:
        energy = 0.5 * MVV_TO_KCAL_PER_MOL * np.einsum("kni,kni,n->k", velocities, velocities, mass)
    if "kinetic_K" in file:
        return energy, file["kinetic_K"][:].astype(float)
    at_rest = _text(file.attrs["stage"]) == "nve"
    freedom = int(file.attrs.get("dof", max(1, 3 * len(mass) - (3 if at_rest else 0))))
    return energy, 2.0 * energy / (freedom * KB)


def _by_term(file: h5py.File, name: str, axis: int) -> np.ndarray:
    """Return a data set with its terms in the order of `TERM_NAMES`; terms that an older file lacks are zero."""
    written = [_text(term) for term in file.attrs.get("term_names", TERM_NAMES)]
    values = np.moveaxis(file[name][:].astype(float), axis, 0)
    if len(values) != len(written) or not set(written) <= set(TERM_NAMES):
        raise ValueError(f"`{name}` has {len(values)} terms, its names are {', '.join(written)}")
    ordered = np.zeros((len(TERM_NAMES), *values.shape[1:]))
    for term, one in zip(written, values, strict=True):
        ordered[TERM_NAMES.index(term)] = one
    return np.moveaxis(ordered, 0, axis)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
