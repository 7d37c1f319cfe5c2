"""Reading files of the mdCATH layout, sound and damaged."""

import h5py
import numpy as np
import pytest
from synthetic_mdcath import Residue, build, chain_of, frames_of, write_mdcath

from cgloop.errors import UserError
from cgloop.prep import mdcath
from cgloop.prep.mdcath import MdcathFile
from cgloop.prep.reference import Frames


@pytest.fixture
def molecule():
    return build(chain_of(4))


def test_trajectories_of_any_length_and_either_group_name(tmp_path, molecule):
    data = {
        "sims320K/0": frames_of(molecule, 9),
        "sims320K/2": frames_of(molecule, 4, seed=1),
        "450/1": frames_of(molecule, 3),
    }
    with MdcathFile(write_mdcath(tmp_path / "a.h5", molecule, {**data, "sims320K/1": None})) as file:
        found = [(t.temperature_K, t.replica, t.n_frames) for t in file.trajectories]
        assert found == [(320, 0, 9), (320, 2, 4), (450, 1, 3)]
        assert file.notes == ["sims320K/1 has no frames"]
        assert file.temperatures_K == [320, 450]
        assert [t.replica for t in file.select([320.0], [2])] == [2]


@pytest.mark.parametrize("wanted", [
    Frames(), Frames(stride=2), Frames(stride=3), Frames(stride=5), Frames(3, 31, 2), Frames(11, None), Frames(0, 1),
])  # fmt: skip
def test_blocks_are_the_frames_whatever_the_block_size(tmp_path, molecule, monkeypatch, wanted):
    positions, forces = frames_of(molecule, 40)
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": (positions, forces)})
    monkeypatch.setattr(mdcath, "BLOCK_BYTES", 12 * len(molecule.names) * 10)
    with MdcathFile(path) as file:
        blocks = list(file.trajectories[0].blocks(wanted))
    frames = slice(wanted.start, wanted.stop, wanted.stride)
    assert max(len(block.positions) for block in blocks) <= 15
    np.testing.assert_array_equal(np.concatenate([b.source_frame for b in blocks]), np.arange(40)[frames])
    np.testing.assert_array_equal(np.concatenate([b.positions for b in blocks]), positions[frames])
    np.testing.assert_array_equal(np.concatenate([b.forces for b in blocks]), forces[frames])


def test_hydrogens_from_any_of_the_three_sources(tmp_path, molecule):
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": frames_of(molecule, 3)})
    expected = np.array([element == "H" for element in molecule.elements])
    for dropped in ("z", "element", None):
        with MdcathFile(path) as file:
            np.testing.assert_array_equal(file.is_hydrogen(), expected)
        if dropped:
            with h5py.File(path, "a") as file:
                del file[f"1abcA00/{dropped}"]


def test_full_pdb_stands_in_for_the_protein_pdb(tmp_path, molecule):
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": frames_of(molecule, 3)})
    water = "ATOM  99999  OH2 TIP3W   1       0.000   0.000   0.000  1.00  0.00           O"
    with h5py.File(path, "a") as file:
        del file["1abcA00/pdbProteinAtoms"]
        file["1abcA00/pdb"] = molecule.text.replace("ENDMDL", f"{water}\nENDMDL").encode()
    with MdcathFile(path) as file:
        assert [atom.name for atom in file.atoms] == molecule.names


def test_missing_file_folder_and_other_formats(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        MdcathFile(tmp_path / "nowhere.h5")
    with pytest.raises(UserError, match="not a file"):
        MdcathFile(tmp_path)
    (tmp_path / "text.h5").write_text("not at all")
    with pytest.raises(UserError, match="not an HDF5 file"):
        MdcathFile(tmp_path / "text.h5")
    (tmp_path / "empty.h5").touch()
    with pytest.raises(UserError, match="not an HDF5 file"):
        MdcathFile(tmp_path / "empty.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="mdCATH layout"):
        MdcathFile(tmp_path / "other.h5")


@pytest.mark.parametrize("kept", [20, 100, 600, 5_000, 200_000, 4_000_000])
def test_truncated_file_at_any_length(tmp_path, example_h5, kept):
    path = tmp_path / "cut.h5"
    path.write_bytes(example_h5.read_bytes()[:kept])
    with pytest.raises(UserError, match="truncated|damaged") as caught:
        MdcathFile(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_chunk_names_dataset_and_frames(tmp_path, molecule):
    path = tmp_path / "a.h5"
    write_mdcath(path, molecule, {"320/0": frames_of(molecule, 30)})
    with h5py.File(path, "a") as file:
        place = file["1abcA00/320/0"]
        values = place["coords"][:]
        del place["coords"]
        place.create_dataset("coords", data=values, chunks=(10, *values.shape[1:]), compression="gzip")
        chunk = place["coords"].id.get_chunk_info(1)
    raw = bytearray(path.read_bytes())
    raw[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(raw)
    with MdcathFile(path) as file, pytest.raises(UserError, match=r"320/0/coords.*frames 0–29"):
        list(file.trajectories[0].blocks())


def test_no_forces(tmp_path, molecule):
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": frames_of(molecule, 3)})
    with h5py.File(path, "a") as file:
        del file["1abcA00/320/0/forces"]
    with MdcathFile(path) as file:
        (trajectory,) = file.trajectories
        assert not trajectory.has_forces
        assert [block.forces for block in trajectory.blocks()] == [None]


def test_atoms_that_do_not_match_the_pdb_text(tmp_path, molecule):
    short = tuple(values[:, :-1] for values in frames_of(molecule, 3))
    with pytest.raises(UserError, match="16 atoms"):
        MdcathFile(write_mdcath(tmp_path / "a.h5", molecule, {"320/0": short}))


def test_temperature_and_replica_that_are_not_there(tmp_path, molecule):
    data = {"320/0": frames_of(molecule, 3), "450/1": frames_of(molecule, 3)}
    with MdcathFile(write_mdcath(tmp_path / "a.h5", molecule, data)) as file:
        with pytest.raises(UserError, match=r"no trajectory at 300 K.*320, 450 K"):
            file.select([300.0])
        with pytest.raises(UserError, match=r"no replica 1 at 320 K.*has: 0"):
            file.select([320.0], [0, 1])


def test_bad_row_of_the_pdb_text(tmp_path):
    molecule = build([Residue()])
    molecule.text = molecule.text.replace("0   1 ", "0   ? ", 1)
    with pytest.raises(UserError, match="line 2 of the PDB text"):
        MdcathFile(write_mdcath(tmp_path / "a.h5", molecule, {}))
