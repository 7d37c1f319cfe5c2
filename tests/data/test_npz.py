"""The older padded NPZ: what we write, what others wrote, and what is refused."""

import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dataset import random_protein, write_dataset

from cgloop.config.data import DataConfig
from cgloop.data import npz
from cgloop.data.dataset import DatasetReader
from cgloop.data.npz import opened_npz, write_npz
from cgloop.errors import UserError
from cgloop.prep.pipeline import prepare
from cgloop.residues import RESIDUES


def older_archive(path, proteins, *, compressed=False, by_name=False):
    """As the older pipeline wrote it: species numbered by the names that occur, in alphabetical order."""
    longest, total = max(p.n_beads for p in proteins), sum(p.n_frames for p in proteins)
    names = sorted({RESIDUES[t].name for p in proteins for t in p.residue_type})
    table = {name: number for number, name in enumerate(names)}
    arrays = {
        "R": np.zeros((total, longest, 3), np.float32), "F": np.zeros((total, longest, 3), np.float32),
        "species": np.full((total, longest), -1, np.int32), "mask": np.zeros((total, longest), np.float32),
        "resid": np.full((total, longest), -1, np.int32), "Z": np.zeros((total, longest), np.int32),
    }  # fmt: skip
    resname = np.full((total, longest), "PAD", object)
    first = 0
    for p in proteins:
        rows, n = slice(first, first + p.n_frames), p.n_beads
        arrays["R"][rows, :n], arrays["F"][rows, :n] = p.positions, p.forces
        arrays["species"][rows, :n] = [table[RESIDUES[t].name] for t in p.residue_type]
        arrays["mask"][rows, :n], arrays["resid"][rows, :n], arrays["Z"][rows, :n] = 1.0, p.resid, 6
        resname[rows, :n] = [RESIDUES[t].name for t in p.residue_type]
        first += p.n_frames
    if by_name:
        del arrays["species"]
        arrays["resname"] = resname
    else:
        arrays["aa_to_id"] = np.array([table], dtype=object)
    save = np.savez_compressed if compressed else np.savez
    save(path, N_max=np.array([longest], np.int32), **arrays)
    return path


@pytest.fixture
def proteins():
    return [random_protein(5, 40, 1, "a"), random_protein(9, 25, 2, "b"), random_protein(2, 7, 3, "c")]


def assert_reads(path, scratch, proteins):
    with opened_npz(path, scratch) as archive:
        assert len(archive.proteins) == len(proteins)
        for found, expected in zip(archive.proteins, proteins, strict=True):
            assert found.residue_names == tuple(RESIDUES[t].name for t in expected.residue_type)
            np.testing.assert_array_equal(found.resid, expected.resid)
            positions, forces = archive.read(found, found.rows)
            np.testing.assert_array_equal(positions, expected.positions)
            np.testing.assert_array_equal(forces, expected.forces)


@pytest.mark.parametrize("options", [{}, {"compressed": True}, {"by_name": True}])
def test_older_archives_are_read(tmp_path, proteins, options):
    assert_reads(older_archive(tmp_path / "old.npz", proteins, **options), tmp_path, proteins)
    assert [p.name for p in tmp_path.iterdir()] == ["old.npz"]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_round_trip(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("npz")
    sizes = data.draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 30)), min_size=1, max_size=4))
    # Resids differ by protein, or two of one sequence could not be told apart by an archive without protein_id.
    proteins = [random_protein(n, f, seed, f"p{seed}") for seed, (n, f) in enumerate(sizes)]
    write_dataset(folder, *proteins)
    names = [p.name for p in proteins]
    assert write_npz(folder / "x.npz", DatasetReader.open(folder), names) == sum(p.n_frames for p in proteins)
    assert_reads(folder / "x.npz", folder, proteins)


def test_what_we_write_is_what_the_older_loader_expects(tmp_path, proteins, monkeypatch):
    monkeypatch.setattr(npz, "BLOCK_BYTES", 100)
    write_dataset(tmp_path, *proteins)
    write_npz(tmp_path / "x.npz", DatasetReader.open(tmp_path), ["b", "a"])
    data = np.load(tmp_path / "x.npz", allow_pickle=True)
    first = proteins[1]
    assert int(data["N_max"][0]) == 9
    np.testing.assert_array_equal(data["R"][:25], first.positions)
    np.testing.assert_array_equal(data["F"][25:, :5], proteins[0].forces)
    assert not data["R"][25:, 5:].any()
    table = data["aa_to_id"].item()
    letters = {number: name for name, number in table.items()}
    assert [letters[s] for s in data["species"][0]] == [RESIDUES[t].name for t in first.residue_type]
    assert (data["species"][25:, 5:] == -1).all()
    np.testing.assert_array_equal(data["mask"].sum(axis=1), data["n_atoms"])
    assert data["protein_id"].tolist() == [0] * 25 + [1] * 40
    assert set(np.unique(data["Z"])) == {0, 6}


def test_one_part_can_be_written_and_bytes_are_the_same(tmp_path, proteins):
    write_dataset(tmp_path, *proteins)
    reader = DatasetReader.open(tmp_path)
    for name in ("x.npz", "y.npz"):
        count = write_npz(tmp_path / name, reader, ["a", "b"], split="validation")
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    expected = [p.select("validation").positions for p in proteins[:2]]
    data = np.load(tmp_path / "x.npz", allow_pickle=True)
    assert count == len(data["R"]) == sum(map(len, expected))
    np.testing.assert_array_equal(data["R"][: len(expected[0]), :5], expected[0])


def chain(n_beads, n_frames, seed):
    """A protein whose bonds are 3.8 Å, so that nothing is quarantined."""
    random = np.random.default_rng(seed)
    protein = random_protein(n_beads, n_frames, seed, f"p{seed}")
    steps = np.array([3.3, 1.88, 0.0]) * np.array([[1, (-1) ** i, 0] for i in range(n_beads - 1)])
    structure = np.concatenate([np.zeros((1, 3)), np.cumsum(steps, axis=0)])
    protein.positions[:] = structure + random.normal(0, 0.03, protein.positions.shape)
    protein.resid[:] = np.arange(1, n_beads + 1) + (np.arange(n_beads) > 3) * 20
    protein.residue_type[:] = (np.arange(n_beads) + seed) % 20
    return protein


def test_prep_takes_an_archive_as_source(tmp_path):
    proteins = [chain(6, 120, 1), chain(9, 150, 2)]
    path = older_archive(tmp_path / "old.npz", proteins)
    split = {"by": "time_block", "gap_frames": 2, "min_frames": 5}
    out = tmp_path / "out"
    out.mkdir()
    prepare(DataConfig(sources=[{"path": path, "format": "npz"}], temperature_K=320, split=split), out)
    reader = DatasetReader.open(out)
    assert reader.names == ["old_0", "old_1"]
    for name, expected in zip(reader.names, proteins, strict=True):
        found = reader.load(name)
        np.testing.assert_array_equal(found.positions, expected.positions)
        np.testing.assert_array_equal(found.forces, expected.forces)
        np.testing.assert_array_equal(found.residue_type, expected.residue_type)
        assert found.linked.tolist() == [i != 3 for i in range(expected.n_beads - 1)]
        assert set(found.temperature_K) == {320.0}
        assert (found.split == 0).sum() > (found.split == 2).sum() > 0


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def replace_member(path, name, data):
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members[f"{name}.npy"] = data
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in members.items():
            archive.writestr(entry, content)


def test_code_in_pickles_is_not_run(tmp_path, proteins):
    path = older_archive(tmp_path / "old.npz", proteins)
    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    text += b" " * (118 - len(text) - 1) + b"\n"
    evil = header + len(text).to_bytes(2, "little") + text + pickle.dumps(Evil())
    replace_member(path, "aa_to_id", evil)
    with pytest.raises(UserError, match=r"refused to load builtins\.exec"), opened_npz(path, tmp_path):
        pass


def test_bad_archives_are_told(tmp_path, proteins):
    path = tmp_path / "x.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"x\.npz: not a readable NPZ archive"), opened_npz(path, tmp_path):
        pass
    np.savez(path, F=np.zeros((3, 4, 3)))
    with pytest.raises(UserError, match="no array `R`"), opened_npz(path, tmp_path):
        pass
    np.savez(path, R=np.zeros((3, 4, 3)), F=np.zeros((3, 4, 3)))
    with pytest.raises(UserError, match="names no residues"), opened_npz(path, tmp_path):
        pass
    np.savez(path, R=np.zeros((3, 4, 3)), F=np.zeros((3, 5, 3)))
    with pytest.raises(UserError, match="shape"), opened_npz(path, tmp_path):
        pass
    np.savez(path, R=np.zeros((3, 4, 3)), F=np.zeros((3, 4, 3)), resname=np.array(["ALA", "XYZ", "GLY", "GLY"], object))
    with pytest.raises(UserError, match="unknown residue `XYZ`"), opened_npz(path, tmp_path):
        pass
    older_archive(path, proteins)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="not a readable"), opened_npz(path, tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]
