"""The sample of the fit, and force maps through the whole of `prep`."""

import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_mdcath import build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig, ForceMapConfig, SplitConfig
from cgloop.data.dataset import SPLITS, DatasetReader
from cgloop.errors import UserError
from cgloop.prep import fitting
from cgloop.prep.jobs import make_jobs, run_job
from cgloop.prep.pipeline import prepare

BY_REPLICA = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}


@given(size=st.integers(0, 2000), share=st.floats(0, 1))
def test_runs_are_disjoint_in_order_and_as_many_as_wanted(size, share):
    wanted = round(share * size)
    runs = fitting._runs(size, wanted)
    frames = [frame for first, last in runs for frame in range(first, last)]
    assert frames == sorted(set(frames))
    assert len(frames) == wanted
    assert all(0 <= frame < size for frame in frames)
    assert all(last - first <= fitting.RUN for first, last in runs)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, example_h5):
    """The example under every projection: name → folder."""
    folders = {}
    for projection in ("slice", "basic", "optimal"):
        folders[projection] = tmp_path_factory.mktemp(projection)
        sources = [{"path": example_h5}]
        prepare(
            DataConfig(sources=sources, temperature_K=320, projection=projection, split=BY_REPLICA), folders[projection]
        )
    return folders


def report(folder):
    return json.loads((folder / "projection.json").read_text())["proteins"]["cln025"]


def test_optimal_has_half_the_force_and_its_virial_is_right(prepared):
    facts = report(prepared["optimal"])
    squares = {name: entry["value"] for name, entry in facts["mean_squared_force"].items()}
    assert squares["optimal"] < 0.3 * squares["basic"] < 0.3 * squares["slice"]
    virial = facts["virial"][0]
    assert virial["expected"] == pytest.approx(-3 * 9 * 0.0019872067 * 320)
    optimal, sliced = virial["maps"]["optimal"], virial["maps"]["slice"]
    assert abs(optimal["ratio"] - 1) < 3 * optimal["ratio_error"] < 1.0
    # The force on CA alone leaves constraint forces in.
    assert abs(sliced["ratio"] - 1) > 3 * sliced["ratio_error"]
    assert facts["keeps_rigid_bonds"] == {"slice": False, "basic": True, "optimal": True}


def test_every_method_is_reported_whatever_is_stored(prepared):
    reports = [report(folder) for folder in prepared.values()]
    assert all(facts["mean_squared_force"] == reports[0]["mean_squared_force"] for facts in reports)
    assert all(facts["virial"] == reports[0]["virial"] for facts in reports)
    assert [facts["method"] for facts in reports] == ["slice", "basic", "optimal"]


def test_cross_validation_foretells_the_held_out_force(prepared):
    facts = report(prepared["optimal"])
    held_out = facts["mean_squared_force"]["optimal"]["value"]
    assert facts["fit"]["mean_squared_force_cross_validated"] == pytest.approx(held_out, rel=0.05)
    assert facts["fit"]["mean_squared_force_fitted"] < held_out


def test_stored_training_forces_are_as_noisy_as_held_out_ones(prepared):
    """Frames of the fit are mapped by fits that left them out."""
    protein = DatasetReader.open(prepared["optimal"]).load("cln025")
    squares = (protein.forces.astype(float) ** 2).mean(axis=(1, 2))
    train, others = squares[protein.split == 0].mean(), squares[protein.split != 0].mean()
    assert train == pytest.approx(others, rel=0.04)


def test_the_map_is_stored_and_gives_the_held_out_forces(prepared, example_h5):
    with h5py.File(prepared["optimal"] / "cln025.h5") as file, h5py.File(example_h5) as source:
        weights = file["force_map"][:]
        forces = source["cln025/320/3/forces"][:50]
        expected = np.einsum("na,fad->fnd", weights.astype(float), forces)
        rows = np.flatnonzero(file["replica"][:] == 3)[:50]
        np.testing.assert_allclose(file["forces"][rows], expected, atol=2e-4)


def test_noise_floor_is_an_attribute_and_lies_between_zero_and_the_force(prepared):
    found = {}
    for name, folder in prepared.items():
        with h5py.File(folder / "cln025.h5") as file:
            found[name] = float(file.attrs["force_noise"])
            assert found[name] == report(folder)["noise"]["rms"]
    assert 5 < found["optimal"] < 0.8 * np.sqrt(report(prepared["optimal"])["mean_squared_force"]["optimal"]["value"])
    # Noise is what the maps differ in; what is left, the mean force, is the same.
    signal = {name: report(folder)["noise"]["rms_force"] ** 2 - found[name] ** 2 for name, folder in prepared.items()}
    assert signal["optimal"] == pytest.approx(signal["basic"], rel=0.25)


@pytest.fixture
def long_source(tmp_path):
    molecule = build(chain_of(4))
    data = {f"320/{i}": frames_of(molecule, 200, seed=i) for i in range(2)}
    return write_mdcath(tmp_path / "a.h5", molecule, data)


def blocks_config(path, **settings):
    split = {"by": "time_block", "gap_frames": 3, "min_frames": 5}
    return DataConfig(sources=[{"path": path}], temperature_K=320, split=split, projection="optimal", **settings)


def test_fit_of_time_blocks_keeps_to_training_frames_even_after_a_long_damaged_tail(tmp_path, long_source):
    with h5py.File(long_source, "a") as file:
        forces = file["1abcA00/320/1/forces"][:]
        forces[60:] = 0.0
        file["1abcA00/320/1/forces"][:] = forces
    out = tmp_path / "out"
    out.mkdir()
    seen = []
    original = fitting.fit_maps

    def watch(*arguments):
        seen.append(original(*arguments))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cgloop.prep.stream.fit_maps", watch)
        prepare(blocks_config(long_source), out)
    assert len(seen) == 2, "the first fit saw frames that are not for training"
    protein = DatasetReader.open(out).load("1abcA00")
    for (_, replica), (frames, _) in seen[1].fold_of.items():
        here = (protein.replica == replica) & np.isin(protein.source_frame, frames)
        assert here.sum() == len(frames)
        assert set(protein.split[here]) == {0}


def test_other_temperatures_use_the_map_of_the_model_temperature(tmp_path, example_h5):
    molecule = build(chain_of(4))
    data = {f"{t}/{i}": frames_of(molecule, 60, seed=i + t) for i in range(3) for t in (320, 450)}
    path = write_mdcath(tmp_path / "a.h5", molecule, data)
    split = {"by": "replica", "train": [0], "validation": [1], "test": [2]}
    config = DataConfig(
        sources=[{"path": path, "temperatures_K": [320, 450]}], temperature_K=320, projection="optimal", split=split
    )
    prepare(config, tmp_path)
    facts = json.loads((tmp_path / "projection.json").read_text())["proteins"]["1abcA00"]
    assert facts["fit"]["frames"] == 60
    assert facts["held_out_frames"] == 120
    assert [entry["temperature_K"] for entry in facts["virial"]] == [320.0, 450.0]


def test_without_enough_frames_optimal_is_an_error_and_basic_goes_on(tmp_path):
    molecule = build(chain_of(4))
    path = write_mdcath(tmp_path / "a.h5", molecule, {f"320/{i}": frames_of(molecule, 4, seed=i) for i in range(3)})
    split = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 1}
    config = DataConfig(sources=[{"path": path}], temperature_K=320, split=split)
    prepare(config, tmp_path)
    facts = json.loads((tmp_path / "projection.json").read_text())["proteins"]["1abcA00"]
    assert "4 frames are too few" in facts["fit"]["unavailable"]
    assert set(facts["mean_squared_force"]) == {"slice", "basic"}
    with pytest.raises(UserError, match="too few to find rigid bonds"):
        prepare(config.model_copy(update={"projection": "optimal"}), tmp_path)


def test_aggforce_that_is_not_installed_is_told(tmp_path, long_source, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "aggforce", None)
    config = blocks_config(long_source).model_copy(update={"projection": "aggforce"})
    with pytest.raises(UserError, match=r"needs the package aggforce.*projection: optimal"):
        prepare(config, tmp_path)


def test_penalty_and_number_of_frames_can_be_set(tmp_path, long_source):
    config = blocks_config(long_source, force_map=ForceMapConfig(frames=40, l2=3.5))
    prepare(config, tmp_path)
    facts = json.loads((tmp_path / "projection.json").read_text())["proteins"]["1abcA00"]
    assert facts["fit"]["l2"] == 3.5
    assert 38 <= facts["fit"]["frames"] <= 42


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000))
def test_stored_forces_do_not_depend_on_block_size(seed):
    """The fold of a frame is looked up by its number, wherever a block begins."""
    random = np.random.default_rng(seed)
    frames = np.sort(random.choice(100, 30, replace=False))
    folds = random.integers(0, 3, 30)
    maps = fitting.Maps(
        "optimal",
        {"optimal": fitting.MatrixMap(np.full((1, 2), 9.0))},
        folds=tuple(fitting.MatrixMap(np.full((1, 2), float(i))) for i in range(3)),
        fold_of={(320.0, 0): (frames, folds)},
    )

    class Here:
        key = (320.0, 0)

    forces = np.ones((100, 2, 3))
    for size in (7, 100):
        parts = [
            maps.project(Here(), fitting.Block(np.arange(i, min(i + size, 100)), forces[:0], forces[i : i + size]))[0]
            for i in range(0, 100, size)
        ]
        found = np.concatenate(parts)[:, 0, 0]
        expected = np.full(100, 18.0)
        expected[frames] = 2.0 * folds
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_map_of_a_protein_does_not_depend_on_its_part(tmp_path, long_source, part):
    """Whole proteins are divided: the map is fitted to the protein's own frames, each mapped without itself."""
    lists = {
        "train": {"validation": ["x"]},
        "validation": {"validation": ["1*"]},
        "test": {"validation": ["x"], "test": ["1*"]},
    }
    found = {}
    for name in ("train", part):
        split = {"by": "protein", "min_frames": 5, **lists[name]}
        config = blocks_config(long_source, force_map={"frames": 150}).model_copy(
            update={"split": SplitConfig(**split)}
        )
        job = make_jobs(config.sources, config, tmp_path / name)[0]
        found[name] = run_job(job).proteins[0], job.folder / "1abcA00.h5"
    (as_training, one), (result, other) = found["train"], found[part]
    assert (as_training.part, result.part) == ("train", part)
    assert result.projection == as_training.projection
    assert 140 <= result.projection["fit"]["frames"] <= 150
    assert result.projection["held_out_frames"] == 400
    with h5py.File(one) as first, h5py.File(other) as second:
        assert set(second["split"][:]) == {SPLITS[part]}
        for name in ("positions", "forces", "force_map"):
            np.testing.assert_array_equal(first[name][:], second[name][:])
        stored = second["forces"][:].astype(float)
    # The reported figure is that of what is stored: no frame is judged by a map that has seen it.
    assert result.projection["mean_squared_force"]["optimal"]["value"] == pytest.approx((stored**2).mean(), rel=1e-6)
