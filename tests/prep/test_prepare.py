"""The whole of `prep`: what comes out, and every bad input."""

import json

import h5py
import numpy as np
import pytest
from synthetic_mdcath import build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.prep.pipeline import prepare

N_RESIDUES = 5
BY_REPLICA = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}


@pytest.fixture
def molecule():
    return build(chain_of(N_RESIDUES))


@pytest.fixture
def source(tmp_path, molecule):
    data = {f"320/{i}": frames_of(molecule, 20, seed=i) for i in range(3)}
    data["450/0"] = frames_of(molecule, 12, seed=9)
    return write_mdcath(tmp_path / "mdcath_dataset_1abcA00.h5", molecule, data)


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    return folder


def config_of(path, split=BY_REPLICA, temperature_K=320.0, **source):
    return DataConfig(sources=[{"path": path, **source}], temperature_K=temperature_K, split=split)


def test_frames_beads_and_splits(source, out, molecule):
    manifest = prepare(config_of(source), out)
    protein = DatasetReader.open(out).load("1abcA00")
    expected = [frames_of(molecule, 20, seed=i) for i in range(3)]
    np.testing.assert_array_equal(protein.positions, np.concatenate([p[:, molecule.ca] for p, _ in expected]))
    alpha = np.array(molecule.ca)
    sums = np.concatenate([f[:, alpha] + f[:, alpha + 1] for _, f in expected])
    np.testing.assert_allclose(protein.forces, sums, rtol=1e-5, atol=1e-5)
    assert protein.replica.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert protein.split.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    assert protein.source_frame.tolist() == [*range(20)] * 3
    assert protein.sequence == "AAAAA"
    assert manifest["proteins"]["1abcA00"]["frames_per_split"] == {
        "train": 20,
        "validation": 20,
        "test": 20,
        "unused": 0,
    }
    with h5py.File(out / "1abcA00.h5") as file:
        assert {"sequence", "mapping", "projection", "units", "source_sha256"} <= set(file.attrs)


def test_what_the_source_says_about_trajectories_is_kept(source, out):
    """`frame_ps` and `started_from` of a replica reach the data set; a parent that cannot be read is refused."""
    with h5py.File(source, "a") as file:
        file["1abcA00/320/1"].attrs.update(frame_ps=4.0)
        file["1abcA00/320/2"].attrs.update(frame_ps=4.0, started_from="0:-1")
    prepare(config_of(source), out)
    assert DatasetReader.open(out).load("1abcA00").trajectories == ((320.0, 1, 4.0, None, 0), (320.0, 2, 4.0, 0, 0))
    with h5py.File(source, "a") as file:
        file["1abcA00/320/2"].attrs["started_from"] = "the last frame"
    with pytest.raises(UserError, match=r"320/2.*`started_from` is `the last frame`, not `replica:frame`"):
        prepare(config_of(source), out)


def test_stride_temperatures_and_replicas(source, out):
    blocks = {"by": "time_block", "gap_frames": 1, "min_frames": 1}
    prepare(config_of(source, blocks, temperatures_K=[320, 450], replicas=[0], stride=2), out)
    protein = DatasetReader.open(out).load("1abcA00")
    assert protein.source_frame.tolist() == [*range(0, 20, 2), *range(0, 12, 2)]
    assert protein.temperature_K.tolist() == [320.0] * 10 + [450.0] * 6


def test_same_input_same_bytes(source, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        prepare(config_of(source), tmp_path / name)
    for name in ("1abcA00.h5", "manifest.json", "quarantine.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "first" / "manifest.json").read_text()


def spoil(path, place, dataset, frames, value):
    with h5py.File(path, "a") as file:
        values = file[f"1abcA00/{place}/{dataset}"][:]
        values[frames] = value
        file[f"1abcA00/{place}/{dataset}"][:] = values


@pytest.mark.parametrize(("dataset", "value", "reason"), [
    ("coords", np.nan, "non-finite positions"),
    ("forces", np.inf, "non-finite forces"),
    ("coords", 0.0, "all positions zero"),
    ("forces", 0.0, "all forces zero"),
    ("coords", 3e38, "CA-CA bond out of range"),
    ("forces", 1e30, "bead force too large"),
])  # fmt: skip
def test_damaged_tail_is_quarantined_whatever_its_length(source, out, dataset, value, reason):
    spoil(source, "320/0", dataset, slice(8, None), value)
    prepare(config_of(source), out)
    protein = DatasetReader.open(out).load("1abcA00", split="train")
    assert protein.source_frame.tolist() == [*range(8)]
    record = json.loads((out / "quarantine.json").read_text())["proteins"]["1abcA00"]["trajectories"][0]
    assert record["reasons"] == {reason: 12}
    assert record["damaged_tail"] == 12
    assert record["bad"] == [{"first": 8, "last": 19, "reason": reason}]


def test_few_bad_frames_are_quarantined(source, out):
    spoil(source, "320/0", "forces", [3, 11], np.nan)
    prepare(config_of(source), out)
    protein = DatasetReader.open(out).load("1abcA00", split="train")
    assert set(range(20)) - set(protein.source_frame.tolist()) == {3, 11}


@pytest.mark.parametrize("dataset", ["coords", "forces"])
def test_many_bad_frames_are_an_error_that_names_the_first(source, out, dataset):
    spoil(source, "320/1", dataset, slice(4, 8), np.nan)
    with pytest.raises(UserError, match=r"1abcA00\.h5, /1abcA00/320/1: 4 of 20 .* frame 4: non-finite") as caught:
        prepare(config_of(source), out)
    assert "\n" not in str(caught.value)


def test_trajectory_without_any_good_frame(source, out):
    spoil(source, "320/1", "coords", slice(None), np.nan)
    with pytest.raises(UserError, match="20 of 20 frames are bad, the first is frame 0"):
        prepare(config_of(source), out)


def test_too_few_frames_for_a_split(source, out):
    with pytest.raises(UserError, match=r"split `train` has 20 frames at 320 K, needs 21"):
        prepare(config_of(source, {**BY_REPLICA, "min_frames": 21}), out)
    with pytest.raises(UserError, match=r"split `test` has 0 frames.*0 \(20 frames\), 1 \(20 frames\)"):
        prepare(config_of(source, {**BY_REPLICA, "test": [7]}), out)


def test_temperature_that_the_file_does_not_have(source, out):
    with pytest.raises(UserError, match=r"no trajectory at 300 K.*320, 450 K"):
        prepare(config_of(source, temperature_K=300), out)


def test_model_temperature_that_the_source_leaves_out(source, out):
    with pytest.raises(UserError, match="0 frames at 320 K"):
        prepare(config_of(source, temperatures_K=[450]), out)


def test_unknown_residue(tmp_path, out):
    molecule = build(chain_of(3, "UNK"))
    path = write_mdcath(tmp_path / "a.h5", molecule, {"320/0": frames_of(molecule, 10)})
    with pytest.raises(UserError, match=r"a\.h5: unknown residue `UNK` \(UNK 1 of chain 0, index 0\)"):
        prepare(config_of(path), out)


def test_protein_given_twice(source, out):
    config = config_of(source)
    with pytest.raises(UserError, match="second source"):
        prepare(config.model_copy(update={"sources": config.sources * 2}), out)


def test_stops_when_asked(source, out):
    request_stop("test")
    try:
        with pytest.raises(Interrupted):
            prepare(config_of(source), out)
    finally:
        clear_stop()


def test_the_example(example_h5, out):
    split = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}
    prepare(config_of(example_h5, split), out)
    protein = DatasetReader.open(out).load("cln025")
    assert protein.sequence == "YYDPETGTWY"
    assert protein.n_frames == 2000
    assert protein.linked.all()
    bonds = np.linalg.norm(np.diff(protein.positions, axis=1), axis=2)
    assert 3.8 < bonds.mean() < 3.9
    assert 24 < np.sqrt((protein.forces**2).mean()) < 27
