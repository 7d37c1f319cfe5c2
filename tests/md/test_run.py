"""The stage `md` on a small protein: its files, that it is reproducible, and what it does with replicas that break."""

import json
from dataclasses import replace

import h5py
import MDAnalysis
import numpy as np
import pytest

from cgloop.config.md import MDConfig
from cgloop.data.dataset import SPLITS, DatasetReader
from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.run import md_stage
from cgloop.md.system import simulated_proteins
from cgloop.stages import digest_files, result_digest
from tests.md.model_worlds import config, protein, write_world


def run(world, folder, **md):
    folder.mkdir()
    return md_stage(config(**md), world["export"], world["prep"], folder)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("md") / "out"
    return out, run(world, out)


def test_every_file_is_there(finished):
    out, _ = finished
    for stage in ("minimize", "nvt", "nve"):
        folder = out / "helix" / stage
        names = {path.name for path in folder.iterdir()}
        assert {"topology.pdb", "observables.h5", "replica_000.dcd", "replica_002.dcd"} <= names
        assert not list(folder.glob("crash_*"))
    assert (out / "helix" / "nvt" / "nvt.in").read_text().count("${") == 0
    assert "Total wall time" in (out / "helix" / "nvt" / "log.lammps").read_text()
    timing = json.loads((out / "timing.json").read_text())["helix"]["nvt"]["all"]
    assert 0 < timing["model_ms_per_step"] < timing["ms_per_step"]


def test_outcome(finished):
    out, result = finished
    assert json.loads((out / "md.json").read_text()) == json.loads(json.dumps(result))
    entry = result["proteins"]["helix"]
    assert all(replica["converged"] for replica in entry["stages"]["minimize"]["replicas"])
    for stage, steps in (("nvt", 200), ("nve", 100)):
        replicas = entry["stages"][stage]["replicas"]
        assert [(r["steps_asked"], r["steps_done"], r["survived"]) for r in replicas] == [(steps, steps, True)] * 3
    # Three of 20 test frames, spread evenly.
    assert [(s["start_split"], s["start_frame"]) for s in entry["starts"]] == [("test", 3), ("test", 10), ("test", 16)]


def test_series_and_frames_are_complete(finished):
    out, _ = finished
    for stage, steps, dof in (("nvt", 200, 30), ("nve", 100, 27)):
        folder = out / "helix" / stage
        with h5py.File(folder / "observables.h5") as file:
            assert file.attrs["dof"] == dof
            group = file["replica_001"]
            np.testing.assert_allclose(group["time_ps"][:], 0.02 * np.arange(1, steps // 10 + 1))
            assert np.isfinite(group["total"][:]).all()
            np.testing.assert_allclose(group["kinetic_by_type"][:].sum(axis=1), group["kinetic"][:])
            assert group["kinetic_by_type"].shape[1] == len(file.attrs["kinetic_types"])
            assert file.attrs["dof_by_type"].sum() == pytest.approx(dof)
            assert group.attrs["start_frame"] == 10
        universe = MDAnalysis.Universe(folder / "topology.pdb", folder / "replica_001.dcd")
        assert len(universe.trajectory) == steps // 25


def test_nve_starts_where_nvt_ended_and_conserves_energy(finished):
    out, _ = finished
    with h5py.File(out / "helix" / "nve" / "observables.h5") as nve:
        for group in nve.values():
            total, kinetic = group["total"][:], group["kinetic"][:]
            assert np.ptp(total) < 0.05 * np.ptp(kinetic)
    nvt = MDAnalysis.Universe(out / "helix" / "nvt" / "topology.pdb", out / "helix" / "nvt" / "replica_000.dcd")
    last = nvt.trajectory[-1].positions
    start = MDAnalysis.Universe(out / "helix" / "nve" / "topology.pdb").atoms.positions
    np.testing.assert_allclose(start, last, atol=2e-3)


def test_same_seed_same_bytes(world, finished, tmp_path):
    out, _ = finished
    run(world, tmp_path / "again")
    assert result_digest(digest_files(tmp_path / "again")) == result_digest(digest_files(out))


def test_broken_replicas(prior_world, tmp_path):
    """A limit on forces that nobody can keep: all break, each leaves a record, NVE counts them as failed."""
    out = tmp_path / "out"
    result = run(prior_world, out, monitors={"max_force": 15.0}, replicas=2)
    stages = result["proteins"]["helix"]["stages"]
    for replica in stages["nvt"]["replicas"]:
        assert replica["limit"] == "max_force"
        assert not replica["survived"]
        assert replica["steps_done"] < 200
    assert [(r["steps_done"], r["limit"]) for r in stages["nve"]["replicas"]] == [(0, "not-started")] * 2
    with h5py.File(out / "helix" / "nve" / "observables.h5") as file:
        assert not file["replica_000"].attrs["survived"]
        assert file["replica_001"].attrs["steps_asked"] == 100
    with h5py.File(out / "helix" / "nvt" / "crash_001.h5") as file:
        last = file["forces"][-1]
        assert np.linalg.norm(last, axis=1).max() == pytest.approx(file.attrs["value"], rel=1e-5)
        # The force of the artifact is the sum of the terms that the model in JAX gives.
        np.testing.assert_allclose(file["term_forces"][:].sum(axis=0), last, atol=2e-3)
        assert file.attrs["step"] == stages["nvt"]["replicas"][1]["crash_step"]


@pytest.mark.slow
def test_several_proteins_and_chains(world, tmp_path):
    proteins = [protein(12, name="dimer", chains=2), protein(2, name="pair")]
    paths = write_world(tmp_path / "world", "prior-only", proteins)
    result = run(
        paths, tmp_path / "out", replicas=1, nvt={"length_ps": 0.05, "equilibration_ps": 0}, nve={"length_ps": 0.05}
    )
    assert sorted(result["proteins"]) == ["dimer", "pair"]
    for entry in result["proteins"].values():
        assert entry["stages"]["nve"]["replicas"][0]["survived"]


def test_unknown_protein(prior_world, tmp_path):
    with pytest.raises(UserError, match="no protein `nobody`"):
        run(prior_world, tmp_path / "out", proteins=["nobody"])


def of_part(part, name, beads=4):
    one = protein(beads, name=name)
    return replace(one, split=np.full_like(one.split, SPLITS[part]))


@pytest.mark.slow
def test_proteins_that_only_train_are_not_simulated_unless_they_are_named(tmp_path):
    parts = {"a": "train", "b": "validation", "c": "train", "d": "test"}
    paths = write_world(tmp_path / "world", "prior-only", [of_part(part, name) for name, part in parts.items()])
    reader = DatasetReader.open(paths["prep"])
    assert simulated_proteins(reader, MDConfig(), 320.0) == ["d", "b"], "the test part first"
    short = {"replicas": 1, "nvt": {"length_ps": 0.05, "equilibration_ps": 0}, "nve": {"length_ps": 0.05}}
    result = run(paths, tmp_path / "out", **short)
    assert {name: one["starts"][0]["start_split"] for name, one in result["proteins"].items()} == {
        "b": "validation", "d": "test"
    }  # fmt: skip
    named = run(paths, tmp_path / "named", proteins=["c"], **short)
    assert named["proteins"]["c"]["starts"][0]["start_split"] == "train"


def test_of_many_proteins_some_of_every_size_are_simulated(tmp_path):
    sizes = {"a": 9, "b": 4, "c": 6, "d": 5, "e": 7}
    proteins = [of_part("validation" if name == "b" else "test", name, beads) for name, beads in sizes.items()]
    reader = DatasetReader.open(write_world(tmp_path / "world", "prior-only", proteins)["prep"])

    def chosen(at_most):
        return simulated_proteins(reader, MDConfig(max_proteins=at_most), 320.0)

    assert chosen(3) == ["d", "e", "a"]
    assert chosen(4) == ["a", "c", "d", "e"], "all of the test part"
    assert chosen(5) == ["a", "c", "d", "e", "b"]


def test_no_held_out_frames(tmp_path):
    paths = write_world(tmp_path / "world", "prior-only", [protein().select(split="train")])
    with pytest.raises(UserError, match=r"no protein has held-out frames at 320 K.*md\.proteins"):
        run(paths, tmp_path / "out")


def test_no_frames_at_the_temperature(tmp_path):
    one = protein()
    hot = replace(one, temperature_K=np.full_like(one.temperature_K, 400.0))
    paths = write_world(tmp_path / "world", "prior-only", [hot])
    with pytest.raises(UserError, match="no frames of helix at 320 K"):
        run(paths, tmp_path / "out", proteins=["helix"])


def test_interrupt(prior_world, tmp_path):
    request_stop("test")
    try:
        with pytest.raises(Interrupted):
            run(prior_world, tmp_path / "out")
    finally:
        clear_stop()
