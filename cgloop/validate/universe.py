"""CA traces out of any trajectory that MDAnalysis reads, of any engine, all-atom or coarse-grained."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.data.universes import READ_ERRORS, Images, cell_of, chain_names, images_of
from cgloop.errors import UserError
from cgloop.residues import TYPE_ID, parent_name

MAX_CA_DISTANCE_A = 4.6
"""CA–CA distance up to which neighbours of a chain are bonded: 3.8 Å trans, 2.9 Å cis, and what a model makes of it."""

BLOCK = 256
"""Frames that are joined at a time."""


@dataclass(frozen=True, eq=False)
class Trace:
    """One protein and its trajectories; N beads.

    Attributes:
        residue_type: int8 [N].
        chain: int16 [N], 0, 1, … in order of appearance.
        resid: int32 [N].
        native: float32 [N, 3], Å: the topology's coordinates; the first frame where it has none.
        linked: bool [N-1], beads i and i+1 are of one chain and close in `native`.
        replicas: positions float32 [F, N, 3], Å, a file each, with chains joined that periodic boundaries had cut.
        images: what was done about periodic boundaries, a file each.
    """

    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    replicas: list[np.ndarray]
    images: list["ImageRecord"] = field(default_factory=list)


@dataclass(frozen=True)
class ImageRecord:
    """What was done about the periodic boundaries of one trajectory.

    Attributes:
        file: its name.
        frames: how many it has.
        frames_moved: frames in which beads were moved to another periodic image.
        note: what its cell was taken for, if that needs saying.
    """

    file: str
    frames: int
    frames_moved: int
    note: str = ""

    @property
    def text(self) -> str:
        """A line for the user; empty where nothing was done and the cell was not in doubt."""
        moved = f"periodic images of beads changed in {self.frames_moved:,} of {self.frames:,} frames"
        said = [self.note, moved if self.frames_moved else ""]
        words = "; ".join(one for one in said if one)
        return f"{self.file}: {words}" if words else ""


def read_trace(topology: Path, trajectories: Sequence[Path], selection: str | None = None) -> Trace:
    """The CA beads of a protein in some trajectories.

    Args:
        topology: any format of MDAnalysis with names of residues.
        trajectories: of this topology, a replica each.
        selection: MDAnalysis's words for the beads, one a residue; None for atoms named CA, or all atoms of a topology
            with one atom a residue.

    Raises:
        UserError: a file that cannot be read, an unknown residue, several beads in a residue, or no frames.
    """
    native: np.ndarray | None = None
    beads: Any = None
    replicas, records = [], []
    # MDAnalysis keeps an index beside some trajectories: links keep it out of other people's folders.
    with tempfile.TemporaryDirectory(prefix="cgloop-links-") as scratch:
        for number, file in enumerate(trajectories):
            universe = _open(topology, file, Path(scratch) / f"{number}{file.suffix}")
            chosen = _beads(universe, topology, selection)
            identity = _identity(chosen, topology)
            frames, images, record = _positions(universe, chosen, topology, file)
            if beads is None:
                beads, native = identity, images.molecules.structure
            replicas.append(frames)
            records.append(record)
            universe.trajectory.close()
    if native is None or not np.isfinite(native).all():
        native = replicas[0][0]
    chain, resid, types = beads
    apart = np.linalg.norm(np.diff(native.astype(float), axis=0), axis=1)
    linked = (np.diff(chain) == 0) & (apart < MAX_CA_DISTANCE_A)
    return Trace(types, chain, resid, native.astype(np.float32), linked, replicas, records)


def _open(topology: Path, file: Path, link: Path) -> Any:
    import MDAnalysis

    for path in (topology, file):
        if not path.is_file():
            raise UserError("no such file", where=path)
    link.symlink_to(file.resolve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return MDAnalysis.Universe(str(topology), str(link))
        except READ_ERRORS as error:
            text = str(error).replace(str(link), file.name)
            raise UserError(
                f"MDAnalysis cannot read it with {topology.name}: {_line(text)}", where=file,
                remedy="check that both are whole and of the same atoms",
            ) from None  # fmt: skip


def _beads(universe: Any, topology: Path, selection: str | None) -> Any:
    import MDAnalysis

    if not hasattr(universe.atoms, "resnames"):
        raise UserError(
            "has no names of residues", where=topology, remedy="use one that has, such as a PDB or PSF file"
        )
    try:
        if selection is not None:
            chosen = universe.select_atoms(selection)
        elif hasattr(universe.atoms, "names"):
            # An ion of calcium is named CA, too, and is no residue of a protein.
            chosen = universe.select_atoms("name CA and not resname CA CAL CA2")
        else:
            chosen = universe.atoms[:0]
    except (MDAnalysis.SelectionError, AttributeError) as error:
        raise UserError(f"selection `{selection}`: {_line(error)}", where=topology) from None
    if not len(chosen) and selection is None and len(universe.atoms) == len(universe.residues):
        chosen = universe.atoms
    if not len(chosen):
        wanted = f"`{selection}` selects" if selection else "it has no"
        raise UserError(
            f"{wanted} {'no atom' if selection else 'atoms named CA'}", where=topology,
            remedy="say with `--selection` which atoms are the beads",
        )  # fmt: skip
    return chosen


def _identity(beads: Any, topology: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chain [N], residue number [N] and type [N]."""
    types = []
    for index, name in enumerate(beads.resnames):
        known = parent_name(str(name))
        if known is None:
            raise UserError(
                f"unknown residue `{name}` (number {beads.resids[index]}, index {index})", where=topology,
                remedy="only the 20 standard amino acids and their common variants are known; `--selection` leaves "
                "others out",
            )  # fmt: skip
        types.append(TYPE_ID[known])
    rows = beads.resindices.tolist()
    if (twice := next((b for a, b in pairwise(rows) if a == b), None)) is not None:
        resid = beads.resids[rows.index(twice)]
        raise UserError(f"several beads in residue {resid}", where=topology, remedy="select one atom a residue")
    segments = chain_names(beads)
    known_chains = {name: number for number, name in enumerate(dict.fromkeys(segments))}
    chain = np.array([known_chains[name] for name in segments], np.int16)
    return chain, np.asarray(beads.resids, np.int32), np.array(types, np.int8)


def _positions(universe: Any, beads: Any, topology: Path, file: Path) -> tuple[np.ndarray, Images, ImageRecord]:
    """All frames, float32 [F, N, 3], with chains joined, and what was done for it."""
    frames = np.empty((universe.trajectory.n_frames, len(beads), 3), np.float32)
    if not len(frames):
        raise UserError("has no frames", where=file)
    number, moved, cells = 0, 0, np.empty((BLOCK, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = images_of(beads, topology, file)
        unwrapper = images.unwrapper()
        try:
            for number, step in enumerate(universe.trajectory):
                frames[number], cells[number % BLOCK] = beads.positions, cell_of(step)
                if (number + 1) % BLOCK == 0 or number + 1 == len(frames):
                    first = number - number % BLOCK
                    part = frames[first : number + 1]
                    moved += int(images.join(part, cells[: len(part)], unwrapper).sum())
        except READ_ERRORS as error:
            raise UserError(f"frame {number + 1} cannot be read: {_line(error)}", where=file) from None
    if number + 1 < len(frames):
        raise UserError(f"ends after {number + 1} of {len(frames)} frames", where=file)
    return frames, images, ImageRecord(file.name, len(frames), moved, images.finding.note)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
