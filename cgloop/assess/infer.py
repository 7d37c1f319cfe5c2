"""Energies and forces of a trained model on any frames, written to HDF5 block by block."""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from cgloop.assess.stored import Stored, find_model
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData
from cgloop.data.inspect import find_dataset
from cgloop.data.universes import READ_ERRORS, cell_of, images_of
from cgloop.errors import UserError
from cgloop.interrupt import check_stop
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.names import TERM_NAMES
from cgloop.prep.mapping import Beads, map_to_ca
from cgloop.prep.trajectory import CHECK, atoms_of
from cgloop.train.loader import FrameSet, Shape

log = logging.getLogger("cgloop.assess")

BATCH = 64
BLOCK = 1024
"""Frames in memory at a time, together with their edges."""


def infer(
    place: Path,
    source: Path,
    out: Path,
    *,
    topology: Path | None = None,
    selection: str = "protein",
    split: str | None = None,
) -> dict[str, int]:
    """Write energies and forces of frames.

    One group a protein: `energy` [F] and `terms` [F, n_terms] in kcal/mol, `forces` [F, N, 3] in kcal/mol/Å, of a data
    set also `replica`, `source_frame`, `temperature` and `split`; `residue_type` [N].

    Args:
        place: a run, the folder of a training, or a bundle.
        source: a data set, a run, or a trajectory that MDAnalysis reads.
        out: HDF5 file; appears when it is whole.
        topology: of a trajectory; atomistic, or of CA alone.
        selection: the protein's atoms in it.
        split: part of a data set; default: all frames.

    Returns:
        Frames of each protein.

    Raises:
        UserError: no model, or frames that cannot be read.
    """
    stored = find_model(place)
    if topology is not None:
        blocks = _trajectory_blocks(source, topology, selection)
    elif source.is_file():
        raise UserError("a trajectory needs its topology", where=source, remedy="give `--topology`")
    else:
        blocks = _dataset_blocks(DatasetReader.open(find_dataset(source)), split)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            counts = _write(file, stored, blocks, of_dataset=topology is None)
        if not counts:
            raise UserError("no frames", where=source)
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return counts


def _write(file: h5py.File, stored: Stored, blocks: Iterator[ProteinData], of_dataset: bool) -> dict[str, int]:
    file.attrs.update(
        {
            "params_sha256": stored.digest,
            "terms": list(TERM_NAMES),
            "energy_unit": "kcal/mol",
            "force_unit": "kcal/mol/angstrom",
        }
    )
    function = _Function(stored)
    counts: dict[str, int] = {}
    for block in blocks:
        terms, forces = function(block)
        columns = {"energy": terms.sum(axis=1, dtype=np.float64), "terms": terms, "forces": forces}
        if of_dataset:
            columns |= {
                "replica": block.replica, "source_frame": block.source_frame, "temperature": block.temperature_K,
                "split": block.split,
            }  # fmt: skip
        group = file.require_group(block.name)
        if block.name not in counts:
            group["residue_type"] = block.residue_type
        for name, values in columns.items():
            _append(group, name, values)
        counts[block.name] = counts.get(block.name, 0) + block.n_frames
    return counts


class _Function:
    """Terms and forces of blocks of frames, with few compilations: capacities only grow, with room to spare."""

    def __init__(self, stored: Stored):
        model = stored.model
        self._cutoff_A = model.cutoff_A
        self._params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stored.params)
        self._forces = jax.jit(lambda p, x, g: energy_and_forces(model, p, x, g))
        self._shapes: dict[str, Shape] = {}

    def __call__(self, block: ProteinData) -> tuple[np.ndarray, np.ndarray]:
        frames = FrameSet([block], self._cutoff_A)
        shape = self._room(block, frames.shape(BATCH))
        terms = np.empty((block.n_frames, len(TERM_NAMES)), np.float32)
        forces = np.empty((block.n_frames, block.n_beads, 3), np.float32)
        for start in range(0, block.n_frames, BATCH):
            check_stop()
            chosen = np.arange(start, min(start + BATCH, block.n_frames))
            batch = frames.batch(chosen, shape)
            _, force, table = self._forces(self._params, batch.positions, batch.graph)
            terms[chosen] = np.asarray(table)[: len(chosen)]
            forces[chosen] = np.asarray(force)[: len(chosen) * block.n_beads].reshape(len(chosen), -1, 3)
        return terms, forces

    def _room(self, block: ProteinData, needed: Shape) -> Shape:
        known = self._shapes.get(block.name)
        if known is None or known.edges < needed.edges or known.replicas < needed.replicas:
            known = needed._replace(edges=int(1.25 * needed.edges) + 1)
            self._shapes[block.name] = known
        return known


def _append(group: h5py.Group, name: str, values: np.ndarray) -> None:
    if name not in group:
        group.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]), chunks=True)
        return
    dataset, old = group[name], group[name].shape[0]
    dataset.resize(old + len(values), axis=0)
    dataset[old:] = values


def _dataset_blocks(reader: DatasetReader, split: str | None) -> Iterator[ProteinData]:
    if split is not None and split not in SPLITS:
        raise UserError(f"--split {split}: no such part", remedy=f"one of {', '.join(SPLITS)}")
    for name in reader.names:
        for block in reader.blocks(name, split, n_frames=BLOCK):
            if block.n_frames:
                yield block


def _trajectory_blocks(path: Path, topology: Path, selection: str) -> Iterator[ProteinData]:
    """Frames of a trajectory at their CA, without forces."""
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            universe = MDAnalysis.Universe(str(topology), str(path))
            selected = universe.select_atoms(selection)
            n_frames = len(universe.trajectory)
        except READ_ERRORS as error:
            said = " ".join(str(error).split())
            raise UserError(f"MDAnalysis cannot read it: {said}", where=path, remedy=CHECK) from None
        if not len(selected):
            raise UserError(f"`{selection}` selects no atom", where=topology, remedy="give another `--selection`")
        images = images_of(selected, topology, path)
        if images.finding.note:
            log.warning("%s: %s", path.name, images.finding.note)
        beads, unwrapper, moved = map_to_ca(atoms_of(selected, images), topology), images.unwrapper(), 0
        for start in range(0, n_frames, BLOCK):
            atoms, cells = _read(universe, selected, range(start, min(start + BLOCK, n_frames)))
            moved += int(images.join(atoms, cells, unwrapper).sum())
            yield _block(path.stem, beads, atoms[:, beads.atom], start)
        if moved:
            log.info("%s: periodic images of atoms changed in %d of %d frames", path.name, moved, n_frames)


def _read(universe: Any, selected: Any, frames: range) -> tuple[np.ndarray, np.ndarray]:
    """Positions [F, A, 3] and cells [F, 3, 3] of frames, Å, as they are in the file."""
    atoms, cells = np.empty((len(frames), len(selected), 3), np.float32), np.empty((len(frames), 3, 3))
    for row, frame in enumerate(frames):
        step = universe.trajectory[frame]
        atoms[row], cells[row] = selected.positions, cell_of(step)
    return atoms, cells


def _block(name: str, beads: Beads, positions: np.ndarray, first: int) -> ProteinData:
    n = len(positions)
    return ProteinData(
        name=name,
        residue_type=beads.residue_type,
        chain=beads.chain,
        resid=beads.resid,
        native=beads.native,
        linked=beads.linked,
        positions=positions,
        forces=np.zeros_like(positions),
        temperature_K=np.zeros(n, np.float32),
        replica=np.zeros(n, np.int32),
        source_frame=np.arange(first, first + n, dtype=np.int32),
        split=np.zeros(n, np.int8),
    )
