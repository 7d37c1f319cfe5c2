"""Periodic images in `prep`: what is whole is not moved, what is cut is joined, and what was done is recorded."""

import json
import logging

import h5py
import numpy as np
import pytest
from mda_files import opened, source, write_trajectory
from synthetic_mdcath import Residue, build, frames_of, write_mdcath

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.data.inspect import describe
from cgloop.data.show import info_text
from cgloop.errors import UserError
from cgloop.prep.mdcath import MdcathFile
from cgloop.prep.pipeline import prepare

PADDING_A = 10.0
OFFSET = np.array([0.0, 24.0, 0.0])
TIME = {"by": "time_block", "fractions": [0.6, 0.2, 0.2], "min_frames": 5}


def dimer(n_residues=13):
    """Two parallel chains in contact, 24 Å from center to center; an end of A lies 44 Å from the start of B."""
    residues = [Residue(resid=i + 1, chain=chain, gap=chain == "B" and i == 0) for chain in "AB"
                for i in range(n_residues)]  # fmt: skip
    molecule = build(residues)
    half = len(molecule.names) // 2
    molecule.positions[half:] = molecule.positions[:half] + OFFSET
    lines, number = molecule.text.splitlines(), 0
    for row, line in enumerate(lines):
        if line.startswith("ATOM"):
            x, y, z = molecule.positions[number]
            lines[row] = f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}"
            number += 1
    molecule.text = "\n".join([*lines, ""])
    return molecule


def padded(molecule):
    """Lengths and angles of a box with padding on all sides, and where the dimer lies in it."""
    low, high = molecule.positions.min(axis=0), molecule.positions.max(axis=0)
    return [*(high - low + 2 * PADDING_A), 90.0, 90.0, 90.0], PADDING_A - low


@pytest.fixture
def pair(tmp_path):
    molecule = dimer()
    topology = tmp_path / "dimer.pdb"
    box, shift = padded(molecule)
    record = "CRYST1{:9.3f}{:9.3f}{:9.3f}{:7.2f}{:7.2f}{:7.2f} P 1\n".format(*box)
    topology.write_text(record + molecule.text)
    return molecule, topology, box, shift


def read(tmp_path, path, topology):
    with opened(tmp_path, source(path, topology)) as reference:
        (one,) = reference.trajectories
        blocks = list(one.blocks())
        native = np.array([atom.position for atom in reference.atoms])
        notes = list(reference.notes)
        raw = np.array([one.selected.positions.copy() for _ in one.universe.trajectory])
    moved = sum(int(block.moved.sum()) for block in blocks) if hasattr(blocks[0], "moved") else None
    return np.concatenate([block.positions for block in blocks]), native, raw, moved, notes


def test_a_whole_dimer_keeps_every_bit(tmp_path, pair):
    """The old repair stepped from the end of a chain to the start of the next and moved B in all frames."""
    molecule, topology, box, shift = pair
    positions, forces = frames_of(molecule, 240)
    path = write_trajectory(tmp_path / "t.trr", topology, positions + shift, forces, box)
    found, native, raw, moved, notes = read(tmp_path, path, topology)
    np.testing.assert_array_equal(found, raw)
    np.testing.assert_array_equal(native.astype(np.float32), raw[0])
    half = len(molecule.names) // 2
    assert (native[half:] - native[:half]).mean(axis=0) == pytest.approx(OFFSET, abs=0.1)
    assert moved == 0
    assert notes == []


def test_a_wrapped_dimer_is_restored(tmp_path, pair):
    """Atoms wrapped into the box, while the dimer drifts through it."""
    molecule, topology, box, shift = pair
    positions, forces = frames_of(molecule, 60)
    drift = np.linspace(0.0, 1.0, 60)[:, None, None] * np.array([70.0, -90.0, 110.0])
    wrapped = (positions + shift + drift) % np.array(box[:3])
    path = write_trajectory(tmp_path / "t.trr", topology, wrapped, forces, box)
    found, _, raw, moved, _ = read(tmp_path, path, topology)
    np.testing.assert_allclose(found - found[:, :1], positions - positions[:, :1], atol=2e-4)
    assert moved == (np.abs(raw - found).max(axis=(1, 2)) > 1).sum() > 30


def test_a_replica_that_starts_in_another_image_has_the_chains_of_the_topology(tmp_path, pair):
    molecule, topology, box, shift = pair
    positions, forces = frames_of(molecule, 4)
    elsewhere = positions + shift
    elsewhere[:, len(molecule.names) // 2 :] += np.array([box[0], -2 * box[1], 0.0], np.float32)
    path = write_trajectory(tmp_path / "t.trr", topology, elsewhere, forces, box)
    found, native, *_ = read(tmp_path, path, topology)
    np.testing.assert_allclose(found - found[:, :1], positions - positions[:, :1], atol=2e-4)
    half = len(molecule.names) // 2
    assert (native[half:] - native[:half]).mean(axis=0) == pytest.approx(OFFSET, abs=0.1)


def test_what_was_done_is_recorded(tmp_path, pair, caplog):
    molecule, topology, box, shift = pair
    positions, forces = frames_of(molecule, 40)
    moving = positions + shift
    moving[10:] = (moving[10:] + 25.0) % np.array(box[:3])
    path = write_trajectory(tmp_path / "t.trr", topology, moving, forces, box)
    config = DataConfig(
        sources=[{"format": "mdanalysis", "path": path, "topology": topology}], temperature_K=320, split=TIME
    )
    (tmp_path / "out").mkdir()
    with caplog.at_level(logging.INFO, "cgloop.prep"):
        prepare(config, tmp_path / "out")
    table = json.loads((tmp_path / "out" / "quarantine.json").read_text())["proteins"]["dimer"]
    assert table["frames_moved"] == table["trajectories"][0]["frames_moved"] == 30
    assert "periodic images of atoms changed in 30 of 40 frames" in caplog.text
    assert "dimer: periodic images of atoms changed in 30 of 40 frames" in info_text(describe(tmp_path / "out"))
    data = DatasetReader.open(tmp_path / "out").load("dimer")
    apart = data.positions[:, 13:].mean(axis=1) - data.positions[:, :13].mean(axis=1)
    np.testing.assert_allclose(apart, np.broadcast_to(OFFSET, apart.shape), atol=0.1)


def test_mdcath_files_are_joined_by_their_box(tmp_path):
    """`box` is in nm; files without periodicity hold zeros."""
    molecule = dimer()
    box, shift = padded(molecule)
    positions, forces = frames_of(molecule, 40)
    wrapped = ((positions + shift + 30.0) % np.array(box[:3])).astype(np.float32)
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": (wrapped, forces), "320/1": (positions, forces)})
    with h5py.File(path, "a") as file:
        file["1abcA00/320/0/box"][...] = np.diag(box[:3]) / 10.0
    with MdcathFile(path) as file:
        cut, whole = file.trajectories
        (block,) = cut.blocks()
        np.testing.assert_allclose(block.positions - block.positions[:, :1], positions - positions[:, :1], atol=2e-4)
        assert block.moved.all()
        (block,) = whole.blocks()
        np.testing.assert_array_equal(block.positions, positions)
        assert not block.moved.any()
        assert file.notes == []


@pytest.mark.parametrize(("box", "words"), [
    ([1.0, 1.0, 1.0, 90.0, 90.0, 90.0], "is 1 Å wide, too little for a simulation: taken as not periodic"),
    ([40.0, 30.0, 30.0, 90.0, 90.0, 90.0], "smaller than a chain, which is whole: taken as not periodic"),
])  # fmt: skip
def test_a_cell_that_cannot_be_one_moves_nothing_and_is_told(tmp_path, pair, box, words):
    molecule, topology, _, shift = pair
    positions, forces = frames_of(molecule, 8)
    path = write_trajectory(tmp_path / "t.h5md", topology, positions + shift, forces, box)
    found, _, raw, moved, notes = read(tmp_path, path, topology)
    np.testing.assert_array_equal(found, raw)
    assert moved == 0
    assert len(notes) == 1
    assert notes[0].startswith("t.h5md: ")
    assert words in notes[0]


def test_cut_chains_without_a_usable_cell_are_refused(tmp_path, pair):
    molecule, topology, box, shift = pair
    positions, forces = frames_of(molecule, 8)
    wrapped = (positions + shift + 30.0) % np.array(box[:3])
    path = write_trajectory(tmp_path / "t.trr", topology, wrapped, forces, [2.0, 2.0, 2.0, 90.0, 90.0, 90.0])
    with pytest.raises(UserError, match=r"t\.trr: chains are cut by periodic boundaries, but its cell is 2 Å wide"):
        opened(tmp_path, source(path, topology))
