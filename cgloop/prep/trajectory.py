"""Reading any trajectory that MDAnalysis reads, with forces or with positions alone.

MDAnalysis converts every format it knows the units of to Å and kJ/mol/Å; a format whose unit of force it does not
declare is refused, not guessed. Temperature and replica are not in such files: the config gives them. Molecules that
periodic boundaries have cut are joined (`cgloop/data/periodic.py`).
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgloop.config.data import SourceConfig
from cgloop.data.universes import READ_ERRORS, Images, cell_of, images_of
from cgloop.errors import UserError
from cgloop.prep.mapping import Atom
from cgloop.prep.reference import ALL_FRAMES, Block, Frames

KCAL_PER_KJ = 1.0 / 4.184

BLOCK_BYTES = 32 * 1024 * 1024
"""Largest size of a block of positions in memory; the same again for forces."""

CHECK = "check that it is whole and that MDAnalysis reads it"


@dataclass(frozen=True, eq=False)
class MdaTrajectory:
    """One trajectory file; `blocks` reads it."""

    file: Path
    universe: Any
    selected: Any
    temperature_K: float
    replica: int
    images: Images
    frame_ps: float | None = None
    started_from: int | None = None
    has_forces: bool = True
    relaxation_frames: int = 0
    bead_atoms: np.ndarray | None = None

    @property
    def n_frames(self) -> int:
        return int(self.universe.trajectory.n_frames)

    @property
    def where(self) -> str:
        return str(self.file)

    @property
    def key(self) -> tuple[float, int]:
        return self.temperature_K, self.replica

    def blocks(self, frames: Frames = ALL_FRAMES) -> Iterator[Block]:
        """Yield the wanted frames in order, in blocks of bounded size.

        Raises:
            UserError: the file is damaged here, or a frame has no forces.
        """
        wanted, unwrapper = frames.of(self.n_frames), self.images.unwrapper()
        size = max(1, BLOCK_BYTES // (12 * len(self.selected)))
        for first in range(0, len(wanted), size):
            part = wanted[first : first + size]
            positions = np.empty((len(part), len(self.selected), 3), np.float32)
            forces = np.empty_like(positions) if self.has_forces else None
            cells = np.empty((len(part), 3, 3))
            for row, frame in enumerate(part):
                cells[row] = self._read(frame, positions[row], None if forces is None else forces[row])
            yield Block(np.array(part), positions, forces, self.images.join(positions, cells, unwrapper))

    def _read(self, frame: int, positions: np.ndarray, forces: np.ndarray | None) -> np.ndarray:
        """Read one frame into arrays as it is in the file; returns its cell."""
        try:
            step = self.universe.trajectory[frame]
        except READ_ERRORS as error:
            raise UserError(f"frame {frame} cannot be read: {_line(error)}", where=self.file, remedy=CHECK) from None
        positions[:] = self.selected.positions
        if forces is None:
            return cell_of(step)
        if not step.has_forces:
            raise UserError(
                f"frame {frame} has no forces",
                where=self.file,
                remedy="write them as often as positions, or set `data.sources.target: positions`",
            )
        forces[:] = self.selected.forces * KCAL_PER_KJ
        return cell_of(step)


class MdaReference:
    """The trajectories of one protein; use as a context manager.

    Args:
        sources: one per trajectory, with the same protein.
        name: of the protein.
        model_temperature_K: of sources that give none.
        scratch: a folder for links: MDAnalysis writes an index beside some trajectories.
    """

    def __init__(self, sources: Sequence[SourceConfig], name: str, model_temperature_K: float, scratch: Path):
        """Raises: UserError if a file cannot be understood, or declares no units."""
        self.path, self.name = sources[0].path, name
        self.notes: list[str] = []
        self.trajectories: list[MdaTrajectory] = []
        self._scratch = scratch / "links"
        self._scratch.mkdir(parents=True, exist_ok=True)
        try:
            for index, source in enumerate(sources):
                temperature = source.temperature_K or model_temperature_K
                opened = _open(source, self._scratch / f"{index}{source.path.suffix}", temperature)
                self._accept(opened, source)
        except BaseException:
            self.close()
            raise
        first = self.trajectories[0] if self.trajectories else None
        self.atoms = atoms_of(first.selected, first.images) if first else []

    def _accept(self, opened: MdaTrajectory, source: SourceConfig) -> None:
        if opened.n_frames == 0:
            self.notes.append(f"{source.path.name} has no frames")
            return
        if any(opened.key == other.key for other in self.trajectories):
            raise UserError(
                f"a second trajectory of protein `{self.name}` at {opened.temperature_K:g} K is replica "
                f"{opened.replica}, too",
                where=source.path,
                remedy="give each its own `replica`",
            )
        if self.trajectories and list(opened.selected.names) != list(self.trajectories[0].selected.names):
            raise UserError(
                f"its atoms differ from those of {self.trajectories[0].file.name}",
                where=source.path,
                remedy="give other proteins another `name`",
            )
        if opened.images.finding.note:
            self.notes.append(f"{source.path.name}: {opened.images.finding.note}")
        self.trajectories.append(opened)

    def __enter__(self) -> "MdaReference":
        if not self.trajectories:
            raise UserError("has no frames", where=self.path)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the files, and remove the links."""
        import shutil

        for trajectory in self.trajectories:
            trajectory.universe.trajectory.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def is_hydrogen(self) -> np.ndarray:
        """bool [A], from elements, or from names where the topology has none."""
        return np.array([(atom.element or atom.name.lstrip("0123456789")[:1]) == "H" for atom in self.atoms])


def _open(source: SourceConfig, link: Path, temperature_K: float) -> MdaTrajectory:
    import MDAnalysis

    link.symlink_to(source.path.resolve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            universe = MDAnalysis.Universe(str(source.topology), str(link))
        except READ_ERRORS as error:
            raise UserError(f"MDAnalysis cannot read it: {_line(error)}", where=source.path, remedy=CHECK) from None
        try:
            selected = universe.select_atoms(source.selection)
        except (MDAnalysis.SelectionError, AttributeError) as error:
            raise UserError(f"`selection: {source.selection}`: {_line(error)}", where=source.topology) from None
    if not len(selected):
        raise UserError(f"`selection: {source.selection}` selects no atom", where=source.topology)
    has_forces = source.target == "forces" and bool(universe.trajectory.n_frames and universe.trajectory.ts.has_forces)
    _require_units(universe, source, ("length", "force") if has_forces else ("length",))
    images = images_of(selected, source.topology or source.path, source.path)
    return MdaTrajectory(
        source.path, universe, selected, temperature_K, source.replica, images,
        has_forces=has_forces, relaxation_frames=source.relaxation_frames,
    )  # fmt: skip


def _require_units(universe: Any, source: SourceConfig, quantities: Sequence[str]) -> None:
    declared = getattr(universe.trajectory, "units", {}) or {}
    for quantity in quantities:
        if not declared.get(quantity):
            raise UserError(
                f"MDAnalysis declares no unit of {quantity} for this format", where=source.path,
                remedy="convert it to one whose units are known, such as TRR or H5MD",
            )  # fmt: skip


def atoms_of(selected: Any, images: Images) -> list[Atom]:
    """Return the atoms of a selection as from a PDB text, with the positions of the present frame, joined."""
    positions = selected.positions[None].astype(float)
    images.join(positions, cell_of(selected.universe.trajectory.ts), images.unwrapper())
    segments, chains = _labels(selected, "segids"), _labels(selected, "chainIDs")
    insertions, altlocs, elements = (_labels(selected, name) for name in ("icodes", "altLocs", "elements"))
    return [
        Atom(
            index=index,
            name=str(selected.names[index]).strip(),
            altloc=altlocs[index],
            resname=str(selected.resnames[index]).strip().upper(),
            # As in a PDB text: what comes before the stroke is shown.
            chain=f"{chains[index] or segments[index]}/{segments[index]}",
            resid=int(selected.resids[index]),
            insertion=insertions[index],
            element=elements[index].upper(),
            position=(float(x), float(y), float(z)),
        )
        for index, (x, y, z) in enumerate(positions[0])
    ]


def _labels(selected: Any, attribute: str) -> list[str]:
    """Texts of a topology attribute; empty where the topology has it not."""
    values = getattr(selected, attribute, None)
    return [""] * len(selected) if values is None else [str(value).strip() for value in values]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
