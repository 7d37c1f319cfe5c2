"""The data set on disk: round trips, sliced reading, damage."""

import json
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cgloop.data.dataset import (
    FRAME_FIELDS,
    SPLITS,
    DatasetReader,
    ProteinData,
    TrajectoryFacts,
    write_manifest,
    write_protein,
)
from cgloop.errors import UserError
from cgloop.residues import N_TYPES

ATTRIBUTES = {"mapping": "ca", "projection": "basic", "source": "x.h5", "source_sha256": "0" * 64}


def random_protein(n_beads, n_frames, seed=0, name="prot"):
    random = np.random.default_rng(seed)
    return ProteinData(
        name=name,
        residue_type=random.integers(0, N_TYPES, n_beads).astype(np.int8),
        chain=np.sort(random.integers(0, 3, n_beads)).astype(np.int16),
        resid=random.integers(-5, 900, n_beads).astype(np.int32),
        native=random.normal(0, 10, (n_beads, 3)).astype(np.float32),
        linked=random.random(max(n_beads - 1, 0)) < 0.8,
        positions=random.normal(0, 10, (n_frames, n_beads, 3)).astype(np.float32),
        forces=random.normal(0, 30, (n_frames, n_beads, 3)).astype(np.float32),
        temperature_K=random.choice([320.0, 450.15], n_frames).astype(np.float32),
        replica=random.integers(0, 4, n_frames).astype(np.int32),
        source_frame=random.integers(0, 500, n_frames).astype(np.int32),
        split=random.integers(0, 4, n_frames).astype(np.int8),
    )


def write_dataset(folder, *proteins):
    for protein in proteins:
        write_protein(folder / f"{protein.name}.h5", protein, ATTRIBUTES)
    names = [protein.name for protein in proteins]
    return write_manifest(folder, names, temperature_K=320, mapping="ca", projection="basic")


def assert_same(a, b):
    for field in fields(ProteinData):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.name in ("name", "trajectories"):
            assert left == right
        else:
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right, err_msg=field.name)


@settings(max_examples=25, deadline=None)
@given(n_beads=st.integers(1, 40), n_frames=st.integers(0, 700), seed=st.integers(0, 2**31), data=st.data())
def test_round_trip_and_sliced_reading(tmp_path_factory, n_beads, n_frames, seed, data):
    folder = tmp_path_factory.mktemp("dataset")
    facts = (TrajectoryFacts(320.0, 0, 4.0), TrajectoryFacts(450.15, 3, None, 0))
    protein = replace(random_protein(n_beads, n_frames, seed), trajectories=facts)
    write_dataset(folder, protein)
    reader = DatasetReader.open(folder)
    assert_same(reader.load("prot"), protein)
    split = data.draw(st.sampled_from([None, *SPLITS]))
    temperature = data.draw(st.sampled_from([None, 320.0, 450.15, 300.0]))
    selected = protein.select(split, temperature)
    assert_same(reader.load("prot", split, temperature), selected)
    assert reader.count("prot", split, temperature) == selected.n_frames
    np.testing.assert_array_equal(reader.temperatures("prot", split), protein.select(split).temperature_K)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, max(selected.n_frames - 1, 0))))), int)
    rows = rows[rows < selected.n_frames]
    some = replace(selected, **{field: getattr(selected, field)[rows] for field in FRAME_FIELDS})
    assert_same(reader.load("prot", split, temperature, frames=rows), some)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(0, 60), max_size=6), at_most=st.integers(1, 150))
@example(sizes=[13, 36, 8], at_most=2)
def test_a_sample_takes_evenly_from_all_proteins(tmp_path_factory, sizes, at_most):
    folder = tmp_path_factory.mktemp("dataset")
    proteins = [random_protein(3, size, seed=i, name=f"p{i}") for i, size in enumerate(sizes)]
    for protein in proteins:
        protein.source_frame[:] = np.arange(protein.n_frames)
    write_dataset(folder, *proteins)
    found = {one.name: one for one in DatasetReader.open(folder).sample("train", 320.0, at_most)}
    wanted = {protein.name: protein.select("train", 320.0) for protein in proteins}
    total = sum(one.n_frames for one in wanted.values())
    assert sum(one.n_frames for one in found.values()) == min(at_most, total)
    for name, one in found.items():
        assert one.n_frames
        rows = np.searchsorted(wanted[name].source_frame, one.source_frame)
        np.testing.assert_array_equal(one.positions, wanted[name].positions[rows])
        assert np.all(np.diff(rows) >= 1)
        assert np.ptp(np.diff(rows)) <= 1 if len(rows) > 1 else True
    for name, one in wanted.items():
        share = found[name].n_frames if name in found else 0
        assert abs(share - min(at_most, total) * one.n_frames / max(total, 1)) < 1


def test_select_keeps_order_and_combines_conditions():
    protein = random_protein(4, 200)
    part = protein.select("validation", 450.15, replica=2)
    rows = [
        i for i in range(200)
        if protein.split[i] == 1 and protein.replica[i] == 2 and abs(protein.temperature_K[i] - 450.15) < 0.1
    ]  # fmt: skip
    assert rows
    np.testing.assert_array_equal(part.positions, protein.positions[rows])
    assert all(len(getattr(part, field)) == len(rows) for field in FRAME_FIELDS)
    assert part.n_beads == 4


def test_manifest_counts_and_digests(tmp_path):
    first, second = random_protein(3, 50, 1, "a"), random_protein(5, 20, 2, "b")
    manifest = write_dataset(tmp_path, first, second)
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    reader = DatasetReader.open(tmp_path)
    assert reader.names == ["a", "b"]
    assert reader.temperature_K == 320
    entry = manifest["proteins"]["a"]
    assert entry["frames_per_split"] == {name: int((first.split == code).sum()) for name, code in SPLITS.items()}
    assert sum(entry["frames_per_temperature"].values()) == 50
    assert entry["sequence"] == first.sequence


def test_file_is_chunked_by_frame_with_attributes(tmp_path):
    write_dataset(tmp_path, random_protein(50, 30))
    with h5py.File(tmp_path / "prot.h5") as file:
        assert file["positions"].chunks[1:] == (50, 3)
        assert file["positions"].dtype == np.float32
        assert file["positions"].attrs["unit"] == "angstrom"
        assert {"sequence", "mapping", "projection", "units", "source", "source_sha256"} <= set(file.attrs)


def test_shapes_are_checked():
    protein = random_protein(4, 5)
    values = {field.name: getattr(protein, field.name) for field in fields(ProteinData)}
    with pytest.raises(ValueError, match="linked"):
        ProteinData(**{**values, "linked": np.ones(4, bool)})


def test_damage_and_absence_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="no data set here"):
        DatasetReader.open(tmp_path)
    write_dataset(tmp_path, random_protein(3, 10))
    with pytest.raises(UserError, match="no protein `other`.*prot"):
        DatasetReader.open(tmp_path).load("other")
    path = tmp_path / "prot.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"prot\.h5.*digest"):
        DatasetReader.open(tmp_path).load("prot")
    path.write_bytes(whole)
    DatasetReader.open(tmp_path).load("prot")
    path.unlink()
    with pytest.raises(UserError, match="missing"):
        DatasetReader.open(tmp_path).load("prot")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        DatasetReader.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(UserError, match="schema version 99"):
        DatasetReader.open(tmp_path)
