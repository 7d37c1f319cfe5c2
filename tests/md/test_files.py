"""The files of a stage: read back by other programs, and the same bytes every time."""

import h5py
import MDAnalysis
import numpy as np
import pytest

from cgloop.md.evaluation import N_TERMS
from cgloop.md.noise import Noise
from cgloop.md.observables import Kinds, ObservablesWriter, StageInfo
from cgloop.md.recorder import Clock, Snapshot
from cgloop.md.thermostat import maxwell_velocities, remove_net_momentum
from cgloop.md.trajectory import TrajectoryWriter, write_topology
from cgloop.units import KB, MVV_TO_KCAL_PER_MOL, thermal_energy
from tests.md.model_worlds import system
from tests.md.worlds import chain_frames, evaluation

N_BEADS, REPLICAS = 6, [0, 2]
CLOCK = Clock(timestep_fs=4.0, equilibration_steps=10, steps=50)


def snapshots(n=60, broken_from=None):
    """Steps 1 … n of two replicas that move a little; the second one breaks at a step."""
    frames = chain_frames(2, N_BEADS)
    for step in range(1, n + 1):
        alive = np.array([True, broken_from is None or step < broken_from])
        energies = np.array([1.0, 2.0]) * step
        kinetic = np.array([3.0, 4.0])
        yield Snapshot(
            step=step,
            positions=frames + 0.01 * step,
            velocities=np.full((2, N_BEADS, 3), 1e-3 * step),
            evaluation=evaluation(np.full((2, N_BEADS, 3), float(step)), energies),
            kinetic=kinetic,
            temperature_K=2 * kinetic / (3 * N_BEADS * KB),
            alive=alive,
        )


def test_trajectory_opens_in_mdanalysis(tmp_path):
    one = system(N_BEADS)
    write_topology(tmp_path / "topology.pdb", one, chain_frames(1, N_BEADS)[0])
    with TrajectoryWriter(tmp_path, CLOCK, REPLICAS, N_BEADS, every_steps=5) as writer:
        for snapshot in snapshots(broken_from=33):
            writer.observe(snapshot)
    universe = MDAnalysis.Universe(tmp_path / "topology.pdb", tmp_path / "replica_000.dcd")
    assert [r.resname for r in universe.residues] == ["TYR", "TYR", "ASP", "PRO", "GLU", "THR"]
    assert (universe.atoms.names == "CA").all()
    assert len(universe.bonds) == N_BEADS - 1
    # Steps 15, 20, … 60: production begins at step 10.
    assert len(universe.trajectory) == 10
    assert universe.trajectory.dt == pytest.approx(0.02, rel=1e-4)
    np.testing.assert_allclose(universe.trajectory[0].positions, (chain_frames(2, N_BEADS) + 0.15)[0], atol=1e-5)
    np.testing.assert_allclose(universe.trajectory[9].positions, (chain_frames(2, N_BEADS) + 0.60)[0], atol=1e-5)
    # The broken replica's last frame is that of step 30.
    assert len(MDAnalysis.Universe(tmp_path / "topology.pdb", tmp_path / "replica_002.dcd").trajectory) == 4


def test_trajectory_has_no_time_of_day(tmp_path, monkeypatch):
    contents = []
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv("TZ", "UTC" if folder == "first" else "Asia/Tokyo")
        with TrajectoryWriter(tmp_path / folder, CLOCK, REPLICAS, N_BEADS, 5) as writer:
            for snapshot in snapshots():
                writer.observe(snapshot)
        contents.append((tmp_path / folder / "replica_000.dcd").read_bytes())
    assert contents[0] == contents[1]
    assert b"reated" not in contents[0]


def test_topology_of_several_chains(tmp_path):
    one = system(12, chains=2)
    write_topology(tmp_path / "topology.pdb", one, one.native)
    universe = MDAnalysis.Universe(tmp_path / "topology.pdb")
    assert list(universe.segments.segids) == ["A", "B"]
    assert len(universe.bonds) == 10
    np.testing.assert_allclose(universe.atoms.positions, one.native, atol=1e-3)


def test_marked_beads_and_beads_that_fled_in_a_topology(tmp_path):
    one = system(N_BEADS)
    positions = one.native.astype(float)
    positions[2] = [1e6, -1e6, 0.0]
    write_topology(tmp_path / "topology.pdb", one, positions, marked=[1, 4])
    universe = MDAnalysis.Universe(tmp_path / "topology.pdb")
    assert universe.atoms.tempfactors.tolist() == [0, 100, 0, 0, 100, 0]
    assert universe.atoms.positions[2, :2] == pytest.approx([9999.999, -999.999])
    np.testing.assert_allclose(universe.atoms.positions[3:], positions[3:], atol=1e-3)


def info():
    return StageInfo("helix", "nvt", N_BEADS, 3 * N_BEADS, 320.0, CLOCK)


def write_observables(path, broken_from=None):
    writer = ObservablesWriter(path, info(), REPLICAS, 5, absent=[1])
    for snapshot in snapshots(broken_from=broken_from):
        writer.observe(snapshot)
    ends = {0: {"steps_done": 50, "survived": True}, 1: {"steps_done": 0, "survived": False}}
    writer.finish({**ends, 2: {"steps_done": 22, "survived": False}})


def test_observables(tmp_path):
    write_observables(tmp_path / "observables.h5", broken_from=33)
    with h5py.File(tmp_path / "observables.h5") as file:
        assert dict(file.attrs)["dof"] == 18
        assert sorted(file) == ["replica_000", "replica_001", "replica_002"]
        whole, absent, broken = (file[f"replica_{i:03d}"] for i in range(3))
        np.testing.assert_allclose(whole["time_ps"][:], 0.02 * np.arange(1, 11))
        np.testing.assert_allclose(whole["potential"][:], np.arange(15, 61, 5))
        np.testing.assert_allclose(whole["total"][:], whole["kinetic"][:] + whole["potential"][:])
        np.testing.assert_allclose(whole["terms"][:].sum(axis=1), whole["potential"][:])
        assert whole["terms"].shape == (10, N_TERMS)
        assert len(broken["time_ps"]) == 4
        assert len(absent["time_ps"]) == 0
        assert not broken.attrs["survived"]
        assert whole["kinetic"].attrs["unit"] == "kcal/mol"


def test_kinetic_energy_by_residue_type():
    """By hand, and for a gas at rest: ½ kT for each of the degrees of freedom that a type is said to have."""
    types, masses = np.array([7, 3, 7, 19, 3, 7]), np.array([57.0, 115.0, 57.0, 99.0, 115.0, 57.0])
    kinds = Kinds(types, masses)
    assert kinds.names == ["ASP", "GLY", "VAL"]
    noise = Noise(1, range(4000), 6, "velocities")
    free = maxwell_velocities(noise, masses, 300.0)
    of_beads = 0.5 * MVV_TO_KCAL_PER_MOL * masses * (free**2).sum(axis=2)
    by_hand = np.stack([of_beads[:, types == kind].sum(axis=1) for kind in (3, 7, 19)], axis=1)
    np.testing.assert_allclose(kinds.kinetic(free), by_hand, rtol=1e-12)
    for at_rest, velocities in ((False, free), (True, remove_net_momentum(free, masses))):
        freedom = kinds.degrees_of_freedom(at_rest)
        assert freedom.sum() == pytest.approx(15 if at_rest else 18)
        measured = kinds.kinetic(velocities).mean(axis=0) / (0.5 * thermal_energy(300.0))
        # Each with its own scatter, √(2 dof / samples).
        assert (np.abs(measured - freedom) < 4 * np.sqrt(2 * freedom / 4000)).all()
        if at_rest:
            assert (np.abs(measured - 3 * np.array([2, 3, 1])) > 4 * np.sqrt(2 * freedom / 4000)).any()


def test_observables_are_written_in_blocks(tmp_path, monkeypatch):
    write_observables(tmp_path / "one.h5")
    monkeypatch.setattr("cgloop.md.observables._BLOCK_ROWS", 3)
    write_observables(tmp_path / "many.h5")
    with h5py.File(tmp_path / "one.h5") as one, h5py.File(tmp_path / "many.h5") as many:
        for name in one["replica_000"]:
            np.testing.assert_array_equal(one["replica_000"][name][:], many["replica_000"][name][:])


def test_same_observables_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        write_observables(tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
