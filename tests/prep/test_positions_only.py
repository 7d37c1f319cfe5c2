"""Sources without forces: what they serve, and that they are told apart everywhere."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic_mdcath import build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.data.inspect import check
from cgloop.data.npz import write_npz
from cgloop.data.statistics import gather
from cgloop.errors import UserError
from cgloop.prep.pipeline import prepare
from cgloop.train.sets import load_sets

SPLIT = {"by": "replica", "train": [0, 3], "validation": [1, 4], "test": [2], "min_frames": 5}
FRAMES = 40


def ca_alone(path: Path, molecule, replicas, started_from=None) -> Path:
    """A file of the same protein with the positions of CA and nothing else."""
    chosen = np.array(molecule.ca)
    lines = [line for line in molecule.text.splitlines() if line[12:16].strip() == "CA"]
    with h5py.File(path, "w") as file:
        group = file.create_group("1abcA00")
        group["pdbProteinAtoms"] = "\n".join(["MODEL        1", *lines, "ENDMDL", ""])
        for replica in replicas:
            place = group.create_group(f"320/{replica}")
            place["coords"] = frames_of(molecule, FRAMES, seed=10 + replica)[0][:, chosen]
            place.attrs["frame_ps"] = 4.0
            if started_from is not None:
                place.attrs["started_from"] = f"{started_from}:-1"
    return path


@pytest.fixture(scope="module")
def molecule():
    return build(chain_of(5))


@pytest.fixture
def files(tmp_path, molecule):
    forces = {f"320/{i}": frames_of(molecule, FRAMES, seed=i) for i in range(3)}
    return write_mdcath(tmp_path / "a.h5", molecule, forces), ca_alone(tmp_path / "b.h5", molecule, (0, 1), 0)


def config(*sources, **changes):
    return DataConfig(sources=list(sources), temperature_K=320.0, split=SPLIT, **changes)


def dataset(tmp_path, given, name="dataset"):
    out = tmp_path / name
    out.mkdir()
    prepare(given, out)
    return DatasetReader.open(out)


def test_files_of_a_protein_with_and_without_forces_are_one_protein(tmp_path, files, molecule):
    first, second = files
    both = config({"path": first, "relaxation_frames": 6}, {"path": second, "replica_offset": 3}, projection="optimal")
    data = dataset(tmp_path, both).load("1abcA00")
    assert {int(n): int(data.has_forces[data.replica == n].sum()) for n in np.unique(data.replica)} == {
        0: FRAMES, 1: FRAMES, 2: FRAMES, 3: 0, 4: 0,
    }  # fmt: skip
    expected = frames_of(molecule, FRAMES, seed=10)[0][:, molecule.ca]
    np.testing.assert_array_equal(data.positions[data.replica == 3], expected)
    facts = {one.replica: (one.started_from, one.relaxation_frames, one.frame_ps) for one in data.trajectories}
    assert facts == {0: (None, 6, None), 1: (None, 6, None), 2: (None, 6, None), 3: (3, 0, 4.0), 4: (3, 0, 4.0)}


def test_forces_are_those_of_the_file_alone(tmp_path, files):
    """The map belongs to the protein: further positions change no force, and no estimate of their noise."""
    first, second = files
    alone = dataset(tmp_path, config({"path": first}, projection="optimal"), "alone")
    both = dataset(tmp_path, config({"path": first}, {"path": second, "replica_offset": 3}, projection="optimal"))
    one, two = (reader.load("1abcA00").with_forces() for reader in (alone, both))
    np.testing.assert_array_equal(one.forces, two.forces)
    projection = [json.loads((reader.folder / "projection.json").read_text()) for reader in (alone, both)]
    assert projection[0] == projection[1]


def test_a_target_of_positions_leaves_forces_out(tmp_path, files):
    data = dataset(tmp_path, config({"path": files[0], "target": "positions"})).load("1abcA00")
    assert not data.has_forces.any()
    assert data.n_frames == 3 * FRAMES


def test_readers_of_forces_take_the_frames_that_have_them(tmp_path, files):
    reader = dataset(tmp_path, config({"path": files[0]}, {"path": files[1], "replica_offset": 3}))
    sets = load_sets(reader, 320.0, 8.0)
    assert [frames.n_frames for frames in sets.all()] == [FRAMES] * 3
    assert np.isfinite(sets.training.reference).all()
    statistics = gather(reader)
    forces = reader.load("1abcA00").with_forces().forces.astype(float)
    assert statistics.proteins["1abcA00"]["rms_force"] == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-6)
    assert not [finding for finding in check(reader.folder) if finding.level == "error"]
    with pytest.raises(UserError, match="frames without forces"):
        write_npz(tmp_path / "x.npz", reader, reader.names)


def test_force_matching_without_any_forces_is_refused(tmp_path, files):
    reader = dataset(tmp_path, config({"path": files[0], "target": "positions"}))
    with pytest.raises(UserError, match="no training frames with forces at 320 K"):
        load_sets(reader, 320.0, 8.0)


def test_what_does_not_go_together_is_told(tmp_path, files, molecule):
    first, second = files
    other = ca_alone(tmp_path / "c.h5", build(chain_of(5, "GLY")), (5,))
    for given, message in (
        ([{"path": first}, {"path": second}], "replica 0 at 320 K is in a.h5, too"),
        ([{"path": first}, {"path": second, "replica_offset": 3, "start": 5}], "different `start`, `stop` or `stride`"),
        ([{"path": first}, {"path": other}], "residues differ from those of a.h5"),
    ):
        (tmp_path / "bad").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            prepare(config(*given, on_bad_file="error"), tmp_path / "bad")


def test_an_npz_archive_without_forces_has_positions(tmp_path, files):
    reader = dataset(tmp_path, config({"path": files[0]}))
    write_npz(tmp_path / "whole.npz", reader, reader.names)
    with np.load(tmp_path / "whole.npz", allow_pickle=True) as archive:
        np.savez(tmp_path / "x.npz", **{name: archive[name] for name in archive.files if name != "F"})
    given = DataConfig(
        sources=[{"path": tmp_path / "x.npz", "format": "npz"}], temperature_K=320.0,
        split={"by": "time_block", "min_frames": 5},
    )  # fmt: skip
    (name,) = dataset(tmp_path, given, "npz").names
    assert not DatasetReader.open(tmp_path / "npz").load(name).has_forces.any()
