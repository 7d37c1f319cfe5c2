"""Several mdCATH files of one protein as one source: forces from some, positions alone from others."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import numpy as np

from cgloop.config.data import SourceConfig
from cgloop.errors import UserError
from cgloop.prep.mapping import Beads, map_to_ca
from cgloop.prep.mdcath import MdcathFile, MdcathTrajectory


@contextmanager
def opened_together(
    sources: Sequence[SourceConfig], model_temperature_K: float
) -> Iterator[tuple[MdcathFile, list[MdcathTrajectory]]]:
    """Open the files of one protein; yield the one that says what it consists of, and all trajectories wanted.

    The first file with forces is that one: a force map belongs to the protein, and is fitted to its atoms. Files with
    other atoms, such as CA alone, add positions.

    Args:
        sources: of one protein, with the same frames wanted.
        model_temperature_K: where a source names no temperature.

    Raises:
        UserError: a file cannot be used, the files are of different chains, forces are on other atoms, different
            frames are wanted, or two trajectories have the same replica id.
    """
    _require_same_frames(sources)
    with ExitStack() as stack:
        files = [stack.enter_context(MdcathFile(source.path)) for source in sources]
        chosen = [_select(file, source, model_temperature_K) for file, source in zip(files, sources, strict=True)]
        main = next((k for k, found in enumerate(chosen) if any(one.has_forces for one in found)), 0)
        trajectories = []
        for k, (file, source, found) in enumerate(zip(files, sources, chosen, strict=True)):
            atoms = None if k == main else _bead_atoms(files[main], file, found, source)
            trajectories += [replace(one, bead_atoms=atoms) for one in found]
            if k != main:
                files[main].notes += [f"{source.path.name}: {note}" for note in file.notes]
        _require_distinct(trajectories)
        yield files[main], sorted(trajectories, key=lambda one: one.key)


def _select(file: MdcathFile, source: SourceConfig, model_temperature_K: float) -> list[MdcathTrajectory]:
    """Return the wanted trajectories of a file, with the ids and the facts that the config gives them."""
    found = file.select(source.temperatures_K or [model_temperature_K], source.replicas)
    return [
        replace(
            one,
            replica=one.replica + source.replica_offset,
            started_from=None if one.started_from is None else one.started_from + source.replica_offset,
            has_forces=one.has_forces and source.target == "forces",
            relaxation_frames=source.relaxation_frames if one.started_from is None else 0,
        )
        for one in found
    ]


def _require_same_frames(sources: Sequence[SourceConfig]) -> None:
    wanted = {(source.start, source.stop, source.stride) for source in sources}
    if len(wanted) > 1:
        raise UserError(
            "files of one protein have different `start`, `stop` or `stride`",
            where=", ".join(source.path.name for source in sources),
            remedy="give them the same, or use `relaxation_frames`",
        )


def _bead_atoms(
    main: MdcathFile, file: MdcathFile, trajectories: Sequence[MdcathTrajectory], source: SourceConfig
) -> np.ndarray | None:
    """Return the atoms of a file that are the beads; None where its atoms are those of the main file.

    Raises:
        UserError: another chain, or forces on other atoms.
    """
    names = [[(atom.name, atom.resname) for atom in one.atoms] for one in (main, file)]
    if names[0] == names[1]:
        return None
    beads, others = map_to_ca(main.atoms, main.path), map_to_ca(file.atoms, file.path)
    if not _same_chain(beads, others):
        raise UserError(
            f"its residues differ from those of {main.path.name}, which has a protein of the same name",
            where=source.path,
            remedy="rename the protein in one of them",
        )
    if any(one.has_forces for one in trajectories):
        raise UserError(
            f"its atoms differ from those of {main.path.name}, so that no one force map fits both",
            where=source.path,
            remedy="set `data.sources.target: positions` for it",
        )
    return others.atom


def _same_chain(beads: Beads, others: Beads) -> bool:
    return all(
        np.array_equal(getattr(beads, name), getattr(others, name)) for name in ("residue_type", "chain", "linked")
    )


def _require_distinct(trajectories: Sequence[MdcathTrajectory]) -> None:
    seen: dict[tuple[float, int], MdcathTrajectory] = {}
    for one in trajectories:
        if one.key in seen:
            raise UserError(
                f"replica {one.replica} at {one.temperature_K:g} K is in {seen[one.key].file.name}, too",
                where=one.file,
                remedy="set `data.sources.replica_offset` for one of them",
            )
        seen[one.key] = one
