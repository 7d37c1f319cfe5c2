"""Reading all-atom trajectories in the mdCATH layout, a block of frames at a time.

The layout: one group per protein with the PDB text of its atoms, and below it `<temperature>/<replica>/coords` (Å),
`…/forces` (kcal/mol/Å; a file may have positions alone) and `…/box` (nm, of the first frame; the volume is constant).
Unit attributes are not relied on. Replicas
may differ in length or be empty, and temperature groups may be called `320` or `sims320K`. Two optional
attributes of a replica are read: `frame_ps`, the time between frames, and `started_from`, the replica and frame that it
was begun from.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cgloop.data.cells import plausible_cell
from cgloop.data.periodic import Molecules, Unwrapper
from cgloop.errors import UserError
from cgloop.prep.mapping import Atom, molecules_of, parse_pdb
from cgloop.prep.reference import ALL_FRAMES, Block, Frames

BLOCK_BYTES = 32 * 1024 * 1024
"""Largest size of a block of coordinates in memory; the same again for forces."""

NM = 10.0
"""Å in a nanometer."""

FETCH_AGAIN = "fetch it again, or leave it out of `data.sources`"

_TEMPERATURE = re.compile(r"(?:sims)?(\d+(?:\.\d+)?)K?")
_STARTED_FROM = re.compile(r"(\d+):(-?\d+)")


@dataclass(frozen=True, eq=False)
class MdcathTrajectory:
    """One replica at one temperature; `blocks` reads it."""

    file: Path
    group: h5py.Group = field(repr=False)
    temperature_K: float
    replica: int
    n_frames: int
    molecules: Molecules = field(repr=False)
    frame_ps: float | None = None
    started_from: int | None = None
    has_forces: bool = True
    relaxation_frames: int = 0
    bead_atoms: np.ndarray | None = None

    @property
    def where(self) -> str:
        return f"{self.file}, {self.group.name}"

    @property
    def key(self) -> tuple[float, int]:
        return self.temperature_K, self.replica

    def blocks(self, frames: Frames = ALL_FRAMES) -> Iterator[Block]:
        """Yield the wanted frames in order, in blocks of bounded size.

        Raises:
            UserError: the file is damaged here.
        """
        coords = self.group["coords"]
        unwrapper = Unwrapper(self._in_cell)
        for wanted in _block_ranges(coords, frames.of(self.n_frames)):
            positions = self._read(coords, wanted)
            moved = unwrapper(positions, self._in_cell.cell)
            forces = self._read(self.group["forces"], wanted) if self.has_forces else None
            yield Block(np.array(wanted), positions, forces, moved)

    @cached_property
    def _in_cell(self) -> Molecules:
        """The molecules with the vectors of the periodic cell; zeros where the file gives none that can be one."""
        return replace(self.molecules, cell=np.zeros((3, 3)) if self.doubt_of_cell else self._box)

    @property
    def doubt_of_cell(self) -> str:
        """Why the `box` of the file is not taken for a periodic cell; empty where it is one, or where there is none."""
        vectors = self._box
        if not vectors.any():
            return ""
        if not plausible_cell(vectors):
            return "its `box` cannot be the cell of a simulation: taken as not periodic"
        inverse = np.linalg.inv(vectors)
        chains = np.unique(self.molecules.chain)
        if max(np.ptp(self.molecules.positions[self.molecules.chain == c] @ inverse, axis=0).max() for c in chains) > 1:
            return "its `box` is smaller than a chain: taken as not periodic"
        return ""

    @property
    def _box(self) -> np.ndarray:
        box = np.asarray(self.group["box"], float) if "box" in self.group else np.zeros((3, 3))
        return NM * box if box.shape == (3, 3) else np.zeros((3, 3))

    def _read(self, dataset: h5py.Dataset, wanted: range) -> np.ndarray:
        try:
            return np.asarray(dataset[wanted.start : wanted.stop : wanted.step], np.float32)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"damaged HDF5 file, frames {wanted.start}–{wanted[-1]} cannot be read: {error}",
                where=f"{self.file}, {dataset.name}",
                remedy=FETCH_AGAIN,
            ) from None


def _block_ranges(dataset: h5py.Dataset, wanted: range) -> Iterator[range]:
    """Consecutive parts of `wanted`, of bounded size and, where memory allows, whole chunks of the file."""
    frame_bytes = 4 * int(np.prod(dataset.shape[1:]))
    size = max(1, BLOCK_BYTES // frame_bytes)
    unit = int(np.lcm(wanted.step, dataset.chunks[0] if dataset.chunks else 1)) // wanted.step
    size = max(1, size // wanted.step)
    size = size // unit * unit if unit <= size else size
    for first in range(0, len(wanted), size):
        yield wanted[first : first + size]


class MdcathFile:
    """One open file; use as a context manager.

    Attributes:
        path: of the file.
        name: id of the protein.
        atoms: rows of its PDB text, one per row of `coords`.
        trajectories: those with frames, by temperature and replica.
        notes: e.g. replica groups without frames.
    """

    def __init__(self, path: Path):
        """Raises: UserError if the file is missing, damaged, or not of this layout."""
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self._group = self._find_protein()
            self.name = self._group.name.strip("/")
            self.atoms = self._read_atoms()
            self.notes: list[str] = []
            self.trajectories = self._find_trajectories()
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError | KeyError | RuntimeError):
                raise UserError(f"damaged HDF5 file: {error}", where=self.path, remedy=FETCH_AGAIN) from None
            raise

    def __enter__(self) -> "MdcathFile":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._file.close()

    @property
    def temperatures_K(self) -> list[float]:
        """Temperatures with at least one frame, ascending."""
        return sorted({trajectory.temperature_K for trajectory in self.trajectories})

    def is_hydrogen(self) -> np.ndarray:
        """bool [A], from `z` or `element`, or from the PDB text where the file has neither."""
        if "z" in self._group:
            return np.asarray(self._group["z"][:]) == 1
        if "element" in self._group:
            return np.array([_text(element).strip().upper() == "H" for element in self._group["element"][:]])
        return np.array([(atom.element or atom.name.lstrip("0123456789")[:1]) == "H" for atom in self.atoms])

    def select(
        self, temperatures_K: Sequence[float] | None = None, replicas: Sequence[int] | None = None
    ) -> list[MdcathTrajectory]:
        """Trajectories at these temperatures with these replica ids; None means all.

        Raises:
            UserError: a temperature or a replica that the file does not have.
        """
        chosen = []
        for temperature in self.temperatures_K if temperatures_K is None else temperatures_K:
            here = [t for t in self.trajectories if abs(t.temperature_K - temperature) < 1e-3]
            if not here:
                there = ", ".join(f"{value:g}" for value in self.temperatures_K) or "none"
                raise UserError(
                    f"no trajectory at {temperature:g} K", where=self.path, remedy=f"the file has: {there} K"
                )
            missing = sorted(set(replicas or ()) - {t.replica for t in here})
            if missing:
                there = ", ".join(str(t.replica) for t in here)
                raise UserError(
                    f"no replica {missing[0]} at {temperature:g} K", where=self.path, remedy=f"the file has: {there}"
                )
            chosen += [t for t in here if replicas is None or t.replica in replicas]
        return chosen

    def _find_protein(self) -> h5py.Group:
        groups = [item for item in self._file.values() if isinstance(item, h5py.Group)]
        if len(groups) != 1:
            raise UserError(
                f"has {len(groups)} groups at its top, the mdCATH layout has one per file",
                where=self.path,
                remedy="give files of the mdCATH layout, one protein each",
            )
        return groups[0]

    def _read_atoms(self) -> list[Atom]:
        for name in ("pdbProteinAtoms", "pdb"):
            if name in self._group:
                where = f"{self.path}, {self._group[name].name}"
                atoms = parse_pdb(_text(self._group[name][()]), where)
                break
        else:
            raise UserError(
                "has no `pdbProteinAtoms`: not of the mdCATH layout", where=f"{self.path}, {self._group.name}"
            )
        if name == "pdb":
            # The whole solvated system; its first atoms are the protein's, in the same order.
            atoms = atoms[: int(self._group.attrs.get("numProteinAtoms", len(atoms)))]
        if not atoms:
            raise UserError("the PDB text has no atoms", where=where)
        return atoms

    def _find_trajectories(self) -> list[MdcathTrajectory]:
        found, molecules = [], molecules_of(self.atoms)
        for name, group in self._group.items():
            match = _TEMPERATURE.fullmatch(name)
            if not isinstance(group, h5py.Group) or match is None:
                continue
            for replica, item in group.items():
                if isinstance(item, h5py.Group) and replica.isdigit():
                    n_frames = self._count_frames(item)
                    if n_frames:
                        facts = self._spacing(item), self._parent(item)
                        one = MdcathTrajectory(
                            self.path, item, float(match[1]), int(replica), n_frames, molecules, *facts,
                            has_forces="forces" in item,
                        )  # fmt: skip
                        found.append(one)
                        if one.doubt_of_cell:
                            self.notes.append(f"{name}/{replica}: {one.doubt_of_cell}")
                    else:
                        self.notes.append(f"{name}/{replica} has no frames")
        return sorted(found, key=lambda t: (t.temperature_K, t.replica))

    def _spacing(self, group: h5py.Group) -> float | None:
        """Return the time between frames, ps, from the attribute `frame_ps`."""
        try:
            found = float(group.attrs["frame_ps"])
        except (KeyError, TypeError, ValueError):
            return None
        return found if 0 < found < float("inf") else None

    def _parent(self, group: h5py.Group) -> int | None:
        """Return the replica that the attribute `started_from`, `replica:frame`, names."""
        if "started_from" not in group.attrs:
            return None
        text = _text(group.attrs["started_from"])
        if match := _STARTED_FROM.fullmatch(text.strip()):
            return int(match[1])
        raise UserError(
            f"`started_from` is `{text}`, not `replica:frame`", where=f"{self.path}, {group.name}",
            remedy="name the replica and the frame that it was begun from, as 3:-1, or remove the attribute",
        )  # fmt: skip

    def _count_frames(self, group: h5py.Group) -> int:
        where = f"{self.path}, {group.name}"
        if "coords" not in group or len(group["coords"]) == 0:
            return 0
        there = [name for name in ("coords", "forces") if name in group]
        for name in there:
            shape = group[name].shape
            if len(shape) != 3 or shape[1:] != (len(self.atoms), 3):
                raise UserError(
                    f"`{name}` has shape {shape}, the PDB text lists {len(self.atoms)} atoms",
                    where=where,
                    remedy="expected are [frames, atoms, 3]",
                )
        frames = [len(group[name]) for name in there]
        if frames[0] != frames[-1]:
            place = group.name.split("/", 2)[-1]
            self.notes.append(
                f"{place} has {frames[0]} frames of coordinates, {frames[1]} of forces; the shorter counts"
            )
        return min(frames)


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise UserError("no such file", where=path, remedy="check `data.sources` in the config")
    if not path.is_file():
        raise UserError("not a file", where=path, remedy="check `data.sources` in the config")
    if not h5py.is_hdf5(path):
        raise UserError("not an HDF5 file", where=path, remedy="give a file of the mdCATH layout")
    try:
        return h5py.File(path, "r")
    except PermissionError:
        raise UserError("may not be read", where=path, remedy="change its permissions") from None
    except OSError as error:
        state = "truncated" if "truncated" in str(error) else "damaged"
        raise UserError(f"{state} HDF5 file: {error}", where=path, remedy=FETCH_AGAIN) from None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
