"""CA traces out of any trajectory that MDAnalysis reads, of any engine, all-atom or coarse-grained."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.errors import UserError
from cgloop.residues import TYPE_ID, parent_name

MAX_CA_DISTANCE_A = 4.6
"""CA–CA distance up to which neighbours of a chain are bonded: 3.8 Å trans, 2.9 Å cis, and what a model makes of it."""

READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, RuntimeError, AttributeError)
"""What MDAnalysis raises at a file that it cannot read."""


@dataclass(frozen=True, eq=False)
class Trace:
    """One protein and its trajectories; N beads.

    Attributes:
        residue_type: int8 [N].
        chain: int16 [N], 0, 1, … in order of appearance.
        resid: int32 [N].
        native: float32 [N, 3], Å: the topology's coordinates; the first frame where it has none.
        linked: bool [N-1], beads i and i+1 are of one chain and close in `native`.
        replicas: positions float32 [F, N, 3], Å, a file each.
    """

    residue_type: np.ndarray
    chain: np.ndarray
    resid: np.ndarray
    native: np.ndarray
    linked: np.ndarray
    replicas: list[np.ndarray]


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
    replicas = []
    # MDAnalysis keeps an index beside some trajectories: links keep it out of other people's folders.
    with tempfile.TemporaryDirectory(prefix="cgloop-links-") as scratch:
        for number, file in enumerate(trajectories):
            universe = _open(topology, file, Path(scratch) / f"{number}{file.suffix}")
            chosen = _beads(universe, topology, selection)
            if beads is None:
                beads, native = _identity(chosen, topology), _own_coordinates(topology, chosen)
            replicas.append(_positions(universe, chosen, file))
            universe.trajectory.close()
    if native is None or not np.isfinite(native).all():
        native = replicas[0][0]
    chain, resid, types = beads
    apart = np.linalg.norm(np.diff(native.astype(float), axis=0), axis=1)
    linked = (np.diff(chain) == 0) & (apart < MAX_CA_DISTANCE_A)
    return Trace(types, chain, resid, native.astype(np.float32), linked, replicas)


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
    segments = [
        f"{segment}/{chain}"
        for segment, chain in zip(beads.segids, getattr(beads, "chainIDs", beads.segids), strict=True)
    ]
    known_chains = {name: number for number, name in enumerate(dict.fromkeys(segments))}
    chain = np.array([known_chains[name] for name in segments], np.int16)
    return chain, np.asarray(beads.resids, np.int32), np.array(types, np.int8)


def _own_coordinates(topology: Path, beads: Any) -> np.ndarray | None:
    """The topology's own coordinates of the beads; None where it has none."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            own = MDAnalysis.Universe(str(topology))
            return _unwrapped(own.atoms[beads.indices].positions[None], own.trajectory.ts.triclinic_dimensions)[0]
        except READ_ERRORS:
            return None


def _positions(universe: Any, beads: Any, file: Path) -> np.ndarray:
    """float32 [F, N, 3], each frame made whole."""
    frames = np.empty((universe.trajectory.n_frames, len(beads), 3), np.float32)
    if not len(frames):
        raise UserError("has no frames", where=file)
    number = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for number, step in enumerate(universe.trajectory):
                frames[number] = _unwrapped(beads.positions[None], step.triclinic_dimensions)[0]
        except READ_ERRORS as error:
            raise UserError(f"frame {number + 1} cannot be read: {_line(error)}", where=file) from None
    if number + 1 < len(frames):
        raise UserError(f"ends after {number + 1} of {len(frames)} frames", where=file)
    return frames


def _unwrapped(positions: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """Beads [F, N, 3] that periodic boundaries have cut, each moved to the image nearest to the one before it.

    Args:
        positions: Å.
        box: rows are the box vectors, Å; None or zeros where there is no box.
    """
    x = np.asarray(positions, float)
    if box is None or not np.linalg.det(box) > 0 or not np.isfinite(x).all():
        return x
    steps = np.diff(x, axis=1)
    steps -= np.round(steps @ np.linalg.inv(box)) @ box
    return np.concatenate([x[:, :1], x[:, :1] + np.cumsum(steps, axis=1)], axis=1)


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300]
