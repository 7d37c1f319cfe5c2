"""The stage as a whole, on a folder as `md` leaves it."""

import json
import shutil

import h5py
import MDAnalysis
import numpy as np
import pytest
from MDAnalysis.analysis.rms import rmsd
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.config.root import Config
from cgloop.data.decoys import read_decoys
from cgloop.errors import UserError
from cgloop.feedback.distribution import load_distribution
from cgloop.feedback.stage import _trajectories, feedback_stage
from tests.feedback import crash_files

LIMITS = {"min_distance_A": 2.0, "max_bond_deviation": 0.2, "max_force": 1000.0, "max_temperature_ratio": 1.5}


@pytest.fixture
def md_dir(tmp_path, protein):
    folder = tmp_path / "md"
    for stage in ("minimize", "nvt", "nve"):
        (folder / "cln025" / stage).mkdir(parents=True)
    (folder / "md.json").write_text(json.dumps({"proteins": {"cln025": {}}, "limits": LIMITS}))
    with h5py.File(folder / "cln025" / "nvt" / "observables.h5", "w") as file:
        file.attrs.update(protein="cln025", stage="nvt", equilibration_steps=2500)
        for replica, closest in enumerate((4.1, 2.2, 2.1)):
            group = file.create_group(f"replica_{replica:03d}")
            group.attrs["survived"] = replica != 2
            group["time_ps"] = np.arange(1.0, 6.0)
            group["min_distance_A"] = np.array([4.5, 4.4, closest, 4.6, 4.7])
            group["max_force"] = np.full(5, 60.0)
            group["max_bond_deviation"] = np.full(5, 0.05)
    return folder


@pytest.fixture
def config(example_h5):
    split = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}
    source = {"path": example_h5, "stride": 5}
    data = {"sources": [source], "temperature_K": 320, "split": split}
    return Config.model_validate({"run": {"name": "x"}, "data": data, "model": {"preset": "nano"}})


def test_nothing_happened(config, md_dir, dataset_dir, tmp_path):
    (tmp_path / "out").mkdir()
    result = feedback_stage(config, md_dir, dataset_dir, tmp_path / "out")
    assert result["crashes"] == []
    assert result["classes"] == {}
    assert json.loads((tmp_path / "out" / "feedback.json").read_text()) == result


def test_crashes_of_all_stages_in_order(config, md_dir, dataset_dir, protein, tmp_path):
    (tmp_path / "out").mkdir()
    crash_files.clash(protein, md_dir / "cln025" / "nvt" / "crash_003.h5", replica=3)
    crash_files.non_finite(protein, md_dir / "cln025" / "nvt" / "crash_001.h5", replica=1)
    crash_files.heat(protein, md_dir / "cln025" / "nve" / "crash_000.h5", stage="nve", replica=0)
    result = feedback_stage(config, md_dir, dataset_dir, tmp_path / "out")
    assert [(crash["stage"], crash["replica"]) for crash in result["crashes"]] == [("nvt", 1), ("nvt", 3), ("nve", 0)]
    assert result["crashes"][1]["file"] == "cln025/nvt/crash_003.h5"
    assert result["classes"] == {"non-finite": 1, "clash": 1, "energy drift": 1}
    assert "training frames" in result["crashes"][1]["words"]


def test_only_survivors_have_near_misses(config, md_dir, dataset_dir, tmp_path):
    (tmp_path / "out").mkdir()
    misses = feedback_stage(config, md_dir, dataset_dir, tmp_path / "out")["near_misses"]
    assert [(m["replica"], m["quantity"], m["value"], m["limit"], m["time_ps"]) for m in misses] == [
        (1, "min_distance_A", 2.2, 2.0, 3.0)
    ]


def test_the_same_bytes_every_time(config, md_dir, dataset_dir, protein, tmp_path):
    crash_files.clash(protein, md_dir / "cln025" / "nvt" / "crash_003.h5")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        feedback_stage(config, md_dir, dataset_dir, tmp_path / name)
    assert (tmp_path / "a" / "feedback.json").read_bytes() == (tmp_path / "b" / "feedback.json").read_bytes()


def test_steps_of_frames_are_those_of_the_run_and_not_of_the_config(md_dir, dataset_dir, protein):
    """A run with 500 steps of equilibration and a frame each 40 steps, where the defaults are 2,500 and 250."""
    folder = md_dir / "cln025" / "nvt"
    with h5py.File(folder / "observables.h5", "r+") as file:
        file.attrs["equilibration_steps"] = 500
    for replica in range(3):
        with DCDFile(str(folder / f"replica_{replica:03d}.dcd"), "w") as file:
            file.write_header("", 10, 40, 40, 1.0, 0)
            for _ in range(4):
                file.write(protein.native, np.zeros(6, np.float32))
    found = _trajectories(folder, "nvt", load_distribution(dataset_dir, "cln025"))
    assert [(one.replica, one.steps.tolist(), well) for one, well in found] == [
        (0, [540, 580, 620, 660], True), (1, [540, 580, 620, 660], True), (2, [540, 580, 620, 660], False)
    ]  # fmt: skip


def test_no_md(config, dataset_dir, tmp_path):
    with pytest.raises(UserError, match="no MD to learn from"):
        feedback_stage(config, tmp_path, dataset_dir, tmp_path)


def test_runs_that_ended_from_outside_are_told_once(config, md_dir, dataset_dir, tmp_path):
    (tmp_path / "out").mkdir()
    md = json.loads((md_dir / "md.json").read_text())
    dead = {"survived": False, "limit": "killed", "message": "its process was ended by SIGKILL", "steps_done": 500}
    stages = {"nvt": {"replicas": [dead, {"survived": True}, dead]}, "nve": {"replicas": [{"limit": "not-started"}]}}
    (md_dir / "md.json").write_text(json.dumps(md | {"timestep_fs": 2.0, "proteins": {"cln025": {"stages": stages}}}))
    result = feedback_stage(config, md_dir, dataset_dir, tmp_path / "out")
    (crash,) = result["crashes"]
    assert (crash["class"], crash["replicas"], crash["time_ps"]) == ("engine failure", [0, 2], 1.0)
    began, _, why = crash["words"].partition(": ")
    assert began == "Replicas 0, 2 of cln025 were stopped in NVT after 1.000 ps that are on record"
    assert why == "its process was ended by SIGKILL."


def test_a_crash_becomes_decoys_and_a_candidate_for_relabelling(config, md_dir, dataset_dir, protein, tmp_path):
    """One that leaves the data: masked where it is outside, and sent with the all-atom frame nearest to it."""
    (tmp_path / "out").mkdir()
    crash_files.clash(protein, md_dir / "cln025" / "nvt" / "crash_003.h5", replica=3)
    # The bead that is moved in this file passes through others.
    assert feedback_stage(config, md_dir, dataset_dir, tmp_path / "out")["decoys"] == 0
    shutil.rmtree(tmp_path / "out" / "outbox")
    # The limits that the run was held to are in md.json.
    md = json.loads((md_dir / "md.json").read_text())
    (md_dir / "md.json").write_text(json.dumps(md | {"limits": LIMITS | {"min_distance_A": 0.5}}))
    result = feedback_stage(config, md_dir, dataset_dir, tmp_path / "out", cycle=4)
    (crash,) = result["crashes"]
    assert crash["distribution"]["nearest"]["rmsd_A"] > 0
    assert abs(crash["distribution"]["scores"]["pairs"]["z"]) > 4
    # The bead that was moved there has left its neighbour along the chain, too.
    assert 6 in crash["distribution"]["scores"]["pairs"]["beads"]
    assert crash["sound_frame"]["time_fs"] <= 0
    assert "nearest of the training frames" in crash["distribution_words"]

    (decoys,) = read_decoys(tmp_path / "out" / "decoys.h5")
    assert result["decoys"] == len(decoys) > 0
    assert set(decoys.origin["cycle"]) == {4}
    assert set(decoys.origin["reason"]) == {"crash: clash"}
    assert decoys.mask[:, crash["beads"]].any(axis=0).all()
    assert not decoys.mask.all()

    outbox = tmp_path / "out" / "outbox"
    (candidate,) = json.loads((outbox / "index.json").read_text())["candidates"]
    nearest = candidate["nearest"]
    ca = MDAnalysis.Universe(outbox / candidate["frame"]).atoms
    all_atom = MDAnalysis.Universe(outbox / nearest["all_atom"]).select_atoms("name CA")
    assert len(ca) == len(all_atom) == 10
    assert rmsd(all_atom.positions, ca.positions, superposition=True) == pytest.approx(nearest["rmsd_A"], abs=2e-3)
    assert nearest["source"] == "mdcath_dataset_cln025.h5"
    with h5py.File(config.data.sources[0].path) as file:
        frame = file["cln025"]["320"][str(nearest["replica"])]["coords"][nearest["source_frame"]]
    whole = MDAnalysis.Universe(outbox / nearest["all_atom"]).atoms
    np.testing.assert_allclose(whole.positions, frame, atol=6e-4)
