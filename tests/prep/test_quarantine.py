"""Every reason for which a frame is set aside, alone and in a whole run."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from synthetic_mdcath import build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader, ProteinWriter
from cgloop.errors import UserError
from cgloop.prep import quarantine
from cgloop.prep.pipeline import prepare
from cgloop.prep.quarantine import Limits, Screen, TrajectoryRecord, force_size, overlapping, unusual

SPLIT = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), n_atoms=st.integers(2, 40), n_frames=st.integers(1, 6))
def test_overlaps_are_those_of_all_pairs(seed, n_atoms, n_frames):
    random = np.random.default_rng(seed)
    positions = random.uniform(0, 1.2 * n_atoms ** (1 / 2), (n_frames, n_atoms, 3)).astype(np.float32)
    heavy = np.flatnonzero(random.random(n_atoms) < 0.7)
    expected = [len(heavy) > 1 and pdist(frame[heavy]).min() < 0.9 for frame in positions]
    assert overlapping(positions, heavy, 0.9).tolist() == expected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), factor=st.sampled_from([0.01, 0.2, 6.0, 1000.0]))
def test_unusual_forces_are_found_and_ordinary_ones_are_left(seed, factor):
    random = np.random.default_rng(seed)
    forces = random.normal(0, 20, (300, 60, 3))
    sizes = force_size(forces)
    np.testing.assert_allclose(np.exp(sizes[:, 0]), np.sqrt((forces**2).mean(axis=(1, 2))))
    np.testing.assert_allclose(np.exp(sizes[:, 1]), np.linalg.norm(forces, axis=2).max(axis=1))
    assert not unusual(sizes, Limits()).any()
    bad = random.choice(300, 40, replace=False)
    forces[bad] *= factor
    assert set(np.flatnonzero(unusual(force_size(forces), Limits()))) == set(bad)


def test_one_atom_with_an_absurd_force_is_unusual():
    forces = np.random.default_rng(0).normal(0, 20, (100, 600, 3))
    forces[17, 3] = [0.0, 4000.0, 0.0]
    assert np.flatnonzero(unusual(force_size(forces), Limits())).tolist() == [17]


def test_few_frames_have_no_usual_range():
    sizes = force_size(np.random.default_rng(0).normal(0, 20, (quarantine.MIN_FOR_RANGE - 1, 10, 3)))
    sizes[3] += 10
    assert not unusual(sizes, Limits()).any()


def test_each_temperature_has_its_own_range():
    screen = Screen(np.zeros(8, bool), np.ones(7, bool), Limits())
    random = np.random.default_rng(0)
    grid = np.arange(8)[:, None] * np.array([3.8, 0, 0])
    for scale in (10.0, 100.0):
        positions = grid + random.normal(0, 0.05, (50, 8, 3))
        forces = random.normal(0, scale, positions.shape)
        assert set(screen.look(positions, forces, positions, forces)) == {""}
    assert not screen.unusual(np.repeat([320.0, 450.0], 50)).any()
    assert screen.unusual(np.repeat([320.0, 320.0], 50)).sum() in (0, 50)


@given(n_frames=st.integers(1, 300), seed=st.integers(0, 2**31), share=st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_frames_are_dropped_from_a_file_in_place(tmp_path_factory, n_frames, seed, share):
    random = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("keep") / "a.h5"
    beads = {"residue_type": np.zeros(3), "chain": np.zeros(3), "resid": np.arange(3), "native": np.zeros((3, 3)),
             "linked": np.ones(2)}  # fmt: skip
    x, f = random.normal(size=(2, n_frames, 3, 3)).astype(np.float32)
    rows = np.arange(n_frames)
    kept = random.random(n_frames) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cgloop.data.writer.MOVED_BYTES", 12 * 3 * 7)
        with ProteinWriter(path, beads, {}) as writer:
            writer.append(x, f, np.full(n_frames, 320.0), rows, rows)
            writer.keep(kept)
            np.testing.assert_array_equal(writer.rows("source_frame"), rows[kept])
            writer.finish(np.zeros(kept.sum(), np.int8))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["positions"][:], x[kept])
        np.testing.assert_array_equal(file["forces"][:], f[kept])
        np.testing.assert_array_equal(file["replica"][:], rows[kept])


def test_a_record_takes_reasons_afterwards():
    record = TrajectoryRecord(320.0, 0)
    record.add(np.arange(5), np.array(["", "x", "", "", ""], object))
    assert record.n_good == 4
    record.set_aside(np.array([False, True, False, True]), "late")
    assert record.reason == ["", "x", "late", "", "late"]
    assert record.tail_start() == 4


@pytest.fixture
def source(tmp_path):
    molecule = build(chain_of(5))
    data = {f"320/{i}": frames_of(molecule, 60, seed=i) for i in range(3)}
    return write_mdcath(tmp_path / "a.h5", molecule, data)


def overlap(arrays, frame):
    arrays["coords"][frame, 0] = arrays["coords"][frame, 3] + 0.2


def copied(arrays, frame):
    arrays["coords"][frame] = arrays["coords"][frame - 5]


def hot(arrays, frame):
    arrays["forces"][frame] *= 8.0


def frozen(arrays, frame):
    arrays["forces"][frame] *= 0.05


@pytest.mark.parametrize(("damage", "reason"), [
    (overlap, "overlapping heavy atoms"),
    (copied, "duplicate of an earlier frame"),
    (hot, "atom forces outside their usual range"),
    (frozen, "atom forces outside their usual range"),
])  # fmt: skip
def test_reasons_in_a_whole_run(tmp_path, source, damage, reason):
    with h5py.File(source, "a") as file:
        group = file["1abcA00/320/1"]
        arrays = {name: group[name][:] for name in ("coords", "forces")}
        for frame in (20, 41):
            damage(arrays, frame)
        for name, values in arrays.items():
            group[name][:] = values
    config = DataConfig(sources=[{"path": source}], temperature_K=320, split=SPLIT, projection="optimal")
    prepare(config, tmp_path)
    protein = DatasetReader.open(tmp_path).load("1abcA00", split="validation")
    assert set(range(60)) - set(protein.source_frame.tolist()) == {20, 41}
    found = json.loads((tmp_path / "quarantine.json").read_text())["proteins"]["1abcA00"]
    assert found["reasons"] == {reason: 2}
    assert (found["frames_read"], found["frames_kept"]) == (180, 178)
    assert [bad["first"] for bad in found["trajectories"][1]["bad"]] == [20, 41]
    with h5py.File(source) as file:
        forces = file["1abcA00/320/2/forces"][:]
    with h5py.File(tmp_path / "1abcA00.h5") as file:
        # What stands behind a dropped frame is still in its place.
        test = file["split"][:] == 2
        expected = np.einsum("na,fad->fnd", file["force_map"][:].astype(float), forces)
        np.testing.assert_allclose(file["forces"][test], expected, rtol=1e-4, atol=1e-3)


def test_a_copied_trajectory_is_an_error(tmp_path, source):
    """It would put the same frames into training and validation."""
    with h5py.File(source, "a") as file:
        file["1abcA00/320/1/coords"][:] = file["1abcA00/320/0/coords"][:]
    config = DataConfig(sources=[{"path": source}], temperature_K=320, split=SPLIT)
    with pytest.raises(UserError, match=r"320/1: 60 of 60 frames are bad.*duplicate of an earlier frame"):
        prepare(config, tmp_path)


def test_the_sample_of_the_fit_is_free_of_bad_frames(tmp_path, source):
    with h5py.File(source, "a") as file:
        forces = file["1abcA00/320/0/forces"]
        values = forces[:]
        values[[3, 30]] *= 9.0
        values[40] = np.nan
        forces[:] = values
    config = DataConfig(sources=[{"path": source}], temperature_K=320, split=SPLIT, projection="optimal")
    prepare(config, tmp_path)
    facts = json.loads((tmp_path / "projection.json").read_text())["proteins"]["1abcA00"]
    assert facts["fit"]["frames"] == 57
