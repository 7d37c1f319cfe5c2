"""The older padded NPZ: all proteins of a data set in one archive, padded to the longest.

    R, F          float32 [T, N_max, 3]   positions in Å, forces in kcal/mol/Å; zero where padded
    species       int32 [T, N_max]        residue type, numbered by `aa_to_id`; -1 where padded
    mask          float32 [T, N_max]      1 for a bead, 0 for padding
    aa_to_id      dict in an object array residue name → number
    N_max         int32 [1]
    Z             int32 [T, N_max]        atomic number of the bead's atom (carbon); 0 where padded
    resid, resname, n_atoms, protein_id, paths, id_to_aa   may be there

It holds neither temperatures nor replicas nor splits nor which beads are bonded. `aa_to_id` and `resname` are pickled
objects: they are read by an unpickler that makes texts, numbers, lists, dicts and arrays, and refuses anything else.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.dataset import DatasetReader, ProteinData
from cgloop.errors import UserError
from cgloop.residues import RESIDUES, TYPE_ID, parent_name

CARBON = 6
BLOCK_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class NpzProtein:
    """One protein of an archive.

    Attributes:
        name: from the archive's `paths`, or the archive's name with a number.
        rows: int [F], its frames, ascending.
        beads: int [N], its columns.
        residue_names: three-letter codes, standard ones.
        resid: int32 [N].
    """

    name: str
    rows: np.ndarray
    beads: np.ndarray
    residue_names: tuple[str, ...]
    resid: np.ndarray


@dataclass(frozen=True, eq=False)
class NpzArchive:
    """An open archive: its proteins, and frames by slice."""

    path: Path
    proteins: tuple[NpzProtein, ...]
    positions: np.ndarray
    forces: np.ndarray | None

    def read(self, protein: NpzProtein, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Positions and forces, float32 [f, N, 3], of some of the protein's rows of the archive; None without `F`."""
        found = [
            None if array is None else np.asarray(array[rows][:, protein.beads], np.float32)
            for array in (self.positions, self.forces)
        ]
        assert found[0] is not None
        return found[0], found[1]


@contextmanager
def opened_npz(path: Path, scratch: Path) -> Iterator[NpzArchive]:
    """Open an archive; frames are read from disk when asked for.

    Args:
        path: the archive.
        scratch: a folder into which compressed arrays are unpacked, removed at the end.

    Raises:
        UserError: not such an archive, damaged, or with an unknown residue.
    """
    unpacked: list[Path] = []
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            if "R" not in names:
                raise UserError("has no array `R`: not of the padded format", where=path)
            positions = _mapped(archive, path, "R", scratch, unpacked)
            forces = _mapped(archive, path, "F", scratch, unpacked) if "F" in names else None
            small = {name: _load(archive, name) for name in sorted(names - {"R", "F"} & names)}
            _require_shapes(path, positions, forces, small)
            yield NpzArchive(path, tuple(_proteins(path, positions.shape[:2], small)), positions, forces)
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"not a readable NPZ archive: {' '.join(str(error).split())}", where=path) from None
    finally:
        for file in unpacked:
            file.unlink(missing_ok=True)


def _mapped(archive: zipfile.ZipFile, path: Path, name: str, scratch: Path, unpacked: list[Path]) -> np.ndarray:
    """An array of the archive as a memory map; a compressed one is unpacked first."""
    entry = archive.getinfo(f"{name}.npy")
    place, offset = path, _data_offset(path, entry)
    if entry.compress_type != zipfile.ZIP_STORED:
        place, offset = scratch / f".{name}.npy", 0
        unpacked.append(place)
        with archive.open(entry) as packed, open(place, "wb") as plain:
            while piece := packed.read(BLOCK_BYTES):
                plain.write(piece)
    with open(place, "rb") as file:
        file.seek(offset)
        shape, fortran, dtype = _read_header(file)
        if dtype.hasobject:
            raise ValueError(f"`{name}` holds objects")
        return np.memmap(place, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after its local header of 30 bytes, its name and its extra field."""
    with open(path, "rb") as file:
        file.seek(entry.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
    return entry.header_offset + 30 + int(lengths.sum())


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


class _PlainUnpickler(pickle.Unpickler):
    """Makes arrays of plain objects, and nothing that could run code."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"refused to load {module}.{name} from a pickle")


def _load(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """A small array of the archive, also of plain objects."""
    data = io.BytesIO(archive.read(f"{name}.npy"))
    shape, fortran, dtype = _read_header(data)
    if dtype.hasobject:
        return np.asarray(_PlainUnpickler(data).load(), object).reshape(shape, order="F" if fortran else "C")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data.read(), dtype, count).reshape(shape, order="F" if fortran else "C")


def _require_shapes(path: Path, positions: np.ndarray, forces: np.ndarray | None, small: dict[str, np.ndarray]) -> None:
    other = positions.shape if forces is None else forces.shape
    if positions.ndim != 3 or positions.shape[2] != 3 or positions.shape != other:
        raise UserError(f"`R` has shape {positions.shape}, `F` {other}; expected [T, N, 3] both", where=path)
    for name in ("species", "mask", "resname", "resid"):
        if name in small and small[name].shape not in (positions.shape[:2], positions.shape[1:2]):
            raise UserError(f"`{name}` has shape {small[name].shape}, `R` {positions.shape}", where=path)


def _proteins(path: Path, shape: tuple[int, int], small: dict[str, np.ndarray]) -> Iterator[NpzProtein]:
    """Frames with the same beads and residues are one protein, in order of appearance."""
    n_beads = shape[1]
    mask = _rows(small.get("mask", np.ones(n_beads)), shape) > 0
    residues = _residue_numbers(path, small, shape)
    label = np.column_stack([mask, np.where(mask, residues, -1)])
    if "protein_id" in small:
        label = np.column_stack([label, small["protein_id"].astype(np.int64)])
    _, first, which = np.unique(label, axis=0, return_index=True, return_inverse=True)
    resid = _rows(small.get("resid", np.arange(1, n_beads + 1)), shape)
    names = _names(path, small, len(first))
    for number, index in enumerate(np.argsort(first)):
        row = first[index]
        beads = np.flatnonzero(mask[row])
        owner = int(small["protein_id"][row]) if "protein_id" in small else number
        yield NpzProtein(
            name=names[owner] if owner < len(names) else f"{path.stem}_{number}",
            rows=np.flatnonzero(which.ravel() == index),
            beads=beads,
            residue_names=tuple(RESIDUES[residues[row, bead]].name for bead in beads),
            resid=resid[row, beads].astype(np.int32),
        )


def _rows(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.broadcast_to(values, shape)


def _residue_numbers(path: Path, small: dict[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Our residue types int [T, N_max], -1 where there is none."""
    if "species" in small and "aa_to_id" in small:
        table = small["aa_to_id"].reshape(-1)[0]
        if not isinstance(table, dict):
            raise UserError("`aa_to_id` is not a table of residue names", where=path)
        codes = {int(number): _type_of(path, str(name)) for name, number in table.items()}
        values = _rows(small["species"], shape).astype(np.int64)
        unknown = sorted(set(np.unique(values)) - set(codes) - {-1})
        if unknown and (_rows(small.get("mask", np.ones(shape[1])), shape) > 0)[values == unknown[0]].any():
            raise UserError(f"species {unknown[0]} is not in `aa_to_id`", where=path)
        lookup = np.full(max([*codes, *unknown, 0]) + 2, -1)
        lookup[list(codes)] = list(codes.values())
        return lookup[values]
    if "resname" in small:
        names, inverse = np.unique(small["resname"].astype(str), return_inverse=True)
        numbers = np.array([-1 if name in ("PAD", "") else _type_of(path, name) for name in names])
        return _rows(numbers[inverse].reshape(small["resname"].shape), shape)
    raise UserError("names no residues: it has neither `species` with `aa_to_id` nor `resname`", where=path)


def _type_of(path: Path, name: str) -> int:
    parent = parent_name(name)
    if parent is None:
        raise UserError(f"unknown residue `{name}`", where=path)
    return TYPE_ID[parent]


def _names(path: Path, small: dict[str, np.ndarray], n_proteins: int) -> list[str]:
    if n_proteins == 1:
        return [path.stem]
    if "paths" in small and len(small["paths"]) >= n_proteins:
        stems = [Path(str(one)).stem for one in small["paths"]]
        if len(set(stems)) == len(stems):
            return stems
    return []


def write_npz(path: Path, reader: DatasetReader, names: Sequence[str], split: str | None = None) -> int:
    """Write proteins of a data set as one padded archive.

    Args:
        path: archive to write.
        reader: the data set.
        names: its proteins, in the order in which they are written.
        split: only frames of this part; None for all.

    Returns:
        The number of frames.
    """
    entries = reader.manifest["proteins"]
    counts = [entries[name]["frames"] if split is None else entries[name]["frames_per_split"][split] for name in names]
    n_max, total = max(entries[name]["beads"] for name in names), sum(counts)
    proteins = [reader.structure(name) for name in names]
    order = list(zip(range(len(names)), proteins, counts, strict=True))

    def frames(field: str) -> Iterator[np.ndarray]:
        for name in names:
            for part in reader.blocks(name, split=split):
                if field == "forces" and not part.has_forces.all():
                    raise UserError(
                        f"`{name}` has frames without forces, which the padded format cannot hold", where=reader.folder,
                        remedy="write a part of the data that has forces in every frame",
                    )  # fmt: skip
                yield _padded(getattr(part, field), n_max, 0, np.float32)

    def beads(values: Callable[[ProteinData], np.ndarray], fill: int, dtype: type) -> Iterator[np.ndarray]:
        for _, protein, count in order:
            yield from _repeated(_padded(values(protein)[None], n_max, fill, dtype), count)

    def numbers(value: Callable[[int, ProteinData], int]) -> Iterator[np.ndarray]:
        for number, protein, count in order:
            yield from _repeated(np.array([value(number, protein)], np.int32), count)

    names_of_types = [residue.name for residue in RESIDUES]
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            by_bead, by_frame = (total, n_max), (total,)
            _stream(archive, "R", "<f4", (*by_bead, 3), frames("positions"))
            _stream(archive, "F", "<f4", (*by_bead, 3), frames("forces"))
            _stream(archive, "species", "<i4", by_bead, beads(lambda p: p.residue_type, -1, np.int32))
            _stream(archive, "mask", "<f4", by_bead, beads(lambda p: np.ones(p.n_beads), 0, np.float32))
            _stream(archive, "Z", "<i4", by_bead, beads(lambda p: np.full(p.n_beads, CARBON), 0, np.int32))
            _stream(archive, "resid", "<i4", by_bead, beads(lambda p: p.resid, -1, np.int32))
            _stream(archive, "n_atoms", "<i4", by_frame, numbers(lambda number, p: p.n_beads))
            _stream(archive, "protein_id", "<i4", by_frame, numbers(lambda number, p: number))
            _store(archive, "N_max", np.array([n_max], np.int32))
            _store(archive, "aa_to_id", _boxed({name: code for code, name in enumerate(names_of_types)}))
            _store(archive, "id_to_aa", _boxed(names_of_types))
            _store(archive, "paths", np.array(list(names), object))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return total


def _padded(values: np.ndarray, n_max: int, fill: int, dtype: type) -> np.ndarray:
    """Rows [f, N, …] filled up to [f, n_max, …]."""
    padded = np.full((len(values), n_max, *values.shape[2:]), fill, dtype)
    padded[:, : values.shape[1]] = values
    return padded


def _repeated(row: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """The row [1, …] `count` times, in parts of bounded size."""
    size = max(1, BLOCK_BYTES // row.nbytes)
    for first in range(0, count, size):
        yield np.repeat(row, min(size, count - first), axis=0)


def _boxed(value: Any) -> np.ndarray:
    """An object array [1], as the older format holds tables."""
    box = np.empty(1, object)
    box[0] = value
    return box


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry without the time of day."""
    return zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))


def _store(archive: zipfile.ZipFile, name: str, values: np.ndarray) -> None:
    with archive.open(_entry(name), "w") as file:
        np.lib.format.write_array(file, values, allow_pickle=True)


def _stream(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], blocks: Iterator[np.ndarray]
) -> None:
    """Write an array of this shape block by block."""
    with archive.open(_entry(name), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).tobytes())
