"""Disagreement of members along frames: against closed forms and plain NumPy; and its file."""

import json

import jax
import numpy as np
import pytest

from cgloop.errors import UserError
from cgloop.md.recorder import Clock
from cgloop.md.trajectory import TrajectoryWriter, read_evenly
from cgloop.md.uncertainty import along_frames, relative_disagreement, write_uncertainty
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import flatten_params, ml_forces
from cgloop.residues import RESIDUES
from cgloop.train.checkpoints import write_tensors
from tests.md.model_worlds import CUTOFF_A, small_model, system, write_world

pytestmark = pytest.mark.slow

LENGTH_A = 3.8


def chain_springs(stiffness):
    """Forces of springs ½ k (d − d₀)² along the chain, of a whole batch at once."""

    def forces(positions, graph):
        found = np.zeros_like(positions)
        first, second = graph.bonds[graph.bond_mask].T
        vectors = positions[second] - positions[first]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        pulls = stiffness * (lengths - LENGTH_A) * vectors / lengths
        np.add.at(found, first, pulls)
        np.add.at(found, second, -pulls)
        return found

    return forces


def spring_forces(frame, stiffness):
    """The same of one frame, by a loop."""
    found = np.zeros_like(frame)
    for i in range(len(frame) - 1):
        d = np.linalg.norm(frame[i + 1] - frame[i])
        pull = stiffness * (d - LENGTH_A) * (frame[i + 1] - frame[i]) / d
        found[i] += pull
        found[i + 1] -= pull
    return found


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


@pytest.fixture(scope="module")
def frames():
    """23 frames, which fill no whole number of batches, far from the origin."""
    return system().native + 100.0 + np.random.default_rng(1).normal(scale=0.3, size=(23, 10, 3))


def test_springs_that_differ_by_a_tenth(frames):
    """Standard deviation of F and 1.1 F with n − 1: 0.1 |F| / √2."""
    replica = np.repeat([0, 4], [9, 14])
    found = along_frames([chain_springs(5.0), chain_springs(5.5)], system(), frames, replica, CUTOFF_A)
    spread = 0.1 / np.sqrt(2) * np.array([spring_forces(frame, 5.0) for frame in frames])
    assert found["n_frames"] == 23
    assert found["disagreement"] == pytest.approx(rms(spread), rel=1e-4)
    np.testing.assert_allclose(found["per_bead"], [rms(spread[:, i]) for i in range(10)], rtol=1e-4)
    types = np.array([RESIDUES[int(kind)].name for kind in system().residue_type])
    assert found["per_residue_type"] == {
        name: pytest.approx(rms(spread[:, types == name]), rel=1e-4) for name in set(types)
    }
    assert [(one["replica"], one["n_frames"]) for one in found["per_replica"]] == [(0, 9), (4, 14)]
    assert found["per_replica"][1]["disagreement"] == pytest.approx(rms(spread[9:]), rel=1e-4)


def test_three_members(frames):
    stiffness = (5.0, 5.5, 7.0)
    found = along_frames([chain_springs(k) for k in stiffness], system(), frames, np.zeros(23, int), CUTOFF_A)
    forces = np.array([[spring_forces(frame, k) for frame in frames] for k in stiffness])
    assert found["disagreement"] == pytest.approx(rms(forces.std(axis=0, ddof=1)), rel=1e-4)


def test_no_frames():
    found = along_frames([chain_springs(1.0)] * 2, system(), np.zeros((0, 10, 3)), np.zeros(0, int), CUTOFF_A)
    assert found["n_frames"] == 0
    assert found["disagreement"] is None
    assert found["per_replica"] == []


def write_frames(folder, counts):
    """A trajectory for each replica; x of every bead tells replica and frame."""
    folder.mkdir(parents=True)
    for replica, n in counts.items():
        with TrajectoryWriter(folder, Clock(2.0, 0, 10 * n), [replica], 10, 10) as writer:
            values = 1000.0 * replica + np.arange(n)
            writer.write(np.broadcast_to(values[:, None, None, None], (n, 1, 10, 3)))


def test_frames_are_spread_over_replicas(tmp_path):
    write_frames(tmp_path / "nvt", {0: 60, 3: 0, 7: 30})
    positions, replica = read_evenly(tmp_path / "nvt", 10, 30)
    assert np.bincount(replica).tolist() == [20, 0, 0, 0, 0, 0, 0, 10]
    seen = positions[:, 4, 1] - 1000 * replica
    assert set(np.diff(seen[:20])) == set(np.diff(seen[20:])) == {3.0}
    positions, replica = read_evenly(tmp_path / "nvt", 10, 200)
    assert (positions[:, 0, 0] == [*range(60), *range(7000, 7030)]).all()


@pytest.fixture
def ensemble(tmp_path, frames):
    """A trained network and one whose energy is 1.1 times as large, and frames of one replica."""
    train = write_world(tmp_path)["train"]
    _, params = small_model()
    other = {"prior": params["prior"], "ml": {**params["ml"], "readout": 1.1 * params["ml"]["readout"]}}
    (train / "ensemble").mkdir()
    write_tensors(train / "ensemble" / "member_01.safetensors", flatten_params(other))
    summary = {"members": 2, "disagreement": 0.5, "per_protein": {"helix": {"count": 10, "disagreement": 0.25}}}
    (train / "ensemble.json").write_text(json.dumps(summary))
    folder = tmp_path / "md" / "helix" / "nvt"
    folder.mkdir(parents=True)
    with TrajectoryWriter(folder, Clock(2.0, 0, 230), [0], 10, 10) as writer:
        writer.write(frames[:, None])
    return train, tmp_path / "md"


def test_file_of_a_network_that_is_larger_by_a_tenth(ensemble, frames):
    train, out = ensemble
    write_uncertainty(train, {"helix": system()}, out)
    content = json.loads((out / "uncertainty.json").read_text())
    model, params = small_model()
    centred = (frames - frames.mean(axis=1, keepdims=True)).reshape(-1, 3).astype(np.float32)
    graph = build_graph(system().residue_type, system().linked, frames, CUTOFF_A)
    forces = np.asarray(jax.jit(ml_forces, static_argnums=0)(model, params, centred, graph))
    found = content["proteins"]["helix"]
    assert found["disagreement"] == pytest.approx(0.1 / np.sqrt(2) * rms(forces), rel=1e-3)
    assert found["disagreement"] > 1e-3
    assert found["ratio"] == pytest.approx(found["disagreement"] / 0.25)
    assert found["validation"] == {"proteins": "helix", "disagreement": 0.25}
    assert content["members"] == 2


def test_disagreement_of_single_frames(ensemble, frames):
    """Of a member whose forces are 1.1 times as large: 0.1 |F| / √2 of each frame, over the 0.25 of validation."""
    model, params = small_model()
    found = relative_disagreement(ensemble[0], system())(frames)
    for frame, ratio in zip(frames[:3], found[:3], strict=True):
        centred = (frame - frame.mean(axis=0)).astype(np.float32)
        graph = build_graph(system().residue_type, system().linked, frame, CUTOFF_A)
        forces = np.asarray(jax.jit(ml_forces, static_argnums=0)(model, params, centred, graph))
        assert ratio == pytest.approx(0.1 / np.sqrt(2) * rms(forces) / 0.25, rel=1e-3)
    (ensemble[0] / "ensemble.json").unlink()
    assert relative_disagreement(ensemble[0], system()) is None


def test_damaged_ensemble_is_one_clear_error(ensemble):
    train, out = ensemble
    (train / "ensemble" / "member_01.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="members cannot be read"):
        write_uncertainty(train, {"helix": system()}, out)
    (train / "ensemble.json").write_text('{"members": 2}')
    with pytest.raises(UserError, match=r"ensemble.json.*cannot be understood"):
        write_uncertainty(train, {"helix": system()}, out)
    (train / "ensemble.json").unlink()
    write_uncertainty(train, {"helix": system()}, out)
    assert not (out / "uncertainty.json").exists()
