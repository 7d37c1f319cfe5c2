"""Members of an ensemble: different, reproducible, continued to the bit; and what their disagreement means."""

import json

import numpy as np
import pytest
from test_train_stage import MODEL, configure, inputs, results  # noqa: F401

from cgloop import interrupt
from cgloop.config.train import EnsembleConfig
from cgloop.errors import Interrupted
from cgloop.train.checkpoints import read_tensors
from cgloop.train.ensemble import describe, resampled, train_members
from cgloop.train.evaluate import trajectory_blocks
from cgloop.train.loader import FrameSet
from cgloop.train.stage import train_stage


@pytest.fixture(scope="module")
def frames(make_protein):
    return FrameSet([make_protein("long", "0 7 4 7 0", 40), make_protein("short", "7 2", 12, seed=2)], 9.0)


def test_disagreement_is_what_committees_gain(frames):
    """Mean square error of members = that of their mean + their spread about it (Krogh & Vedelsby, NIPS 1994)."""
    random = np.random.default_rng(0)
    forces = frames.target + random.normal(scale=[[[1.0]], [[2.0]], [[0.5]]], size=(3, *frames.target.shape))
    found = describe(frames, [(np.arange(frames.n_frames), forces)], EnsembleConfig(members=3))
    spread = found["disagreement"] ** 2 * 2 / 3
    assert np.mean(np.square(found["rmse_members"])) == pytest.approx(found["rmse_mean"] ** 2 + spread, rel=1e-9)
    parts = found["per_protein"].values()
    total = np.average([one["disagreement"] ** 2 for one in parts], weights=[one["count"] for one in parts])
    assert np.sqrt(total) == pytest.approx(found["disagreement"])


def test_the_frame_that_members_disagree_about_is_found(frames):
    forces = np.zeros((2, *frames.target.shape))
    bead, _ = frames.beads.take(np.array([43]))
    forces[1, bead] = 3.0
    found = describe(frames, [(np.arange(frames.n_frames), forces)], EnsembleConfig(members=2))
    first = found["largest"][0]
    assert (first["protein"], first["frame"]) == ("short", 3)
    assert first["disagreement"] == pytest.approx(3.0 / np.sqrt(2))
    assert found["per_frame"]["0.95"] == 0.0
    assert found["per_residue_type"]["ALA"]["disagreement"] == 0.0


def test_bootstraps_draw_whole_blocks(frames):
    drawn = [resampled(frames, seed) for seed in range(300)]
    block = trajectory_blocks(frames)
    times = np.array([[one.weight[block == b][0] for b in range(block.max() + 1)] for one in drawn])
    for one in drawn[:5]:
        for b in range(block.max() + 1):
            assert len(set(one.weight[block == b].tolist())) == 1
    # As many draws as blocks; each block is left out with probability (1 − 1/n)^n.
    assert (times.sum(axis=1) == times.shape[1]).all()
    n = times.shape[1]
    assert (times == 0).mean() == pytest.approx((1 - 1 / n) ** n, rel=0.03)
    assert frames.weight is None
    np.testing.assert_array_equal(resampled(frames, 7).weight, drawn[7].weight)


@pytest.mark.parametrize("kind", [pytest.param("seeds", marks=pytest.mark.slow), "bootstrap"])
def test_members_differ_and_are_continued_to_the_bit(inputs, tmp_path, monkeypatch, kind):  # noqa: F811
    config = configure(train=dict(ensemble=dict(members=2, kind=kind), epochs=2))
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    train_stage(config, *inputs, tmp_path / "straight")

    def stop_first(*arguments):
        """The first member is done, the second has just begun."""
        interrupt.request_stop("test")
        return train_members(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("cgloop.train.stage.train_members", stop_first)
        with pytest.raises(Interrupted):
            train_stage(config, *inputs, tmp_path / "stopped")
    interrupt.clear_stop()
    train_stage(config, *inputs, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "straight")
    found = json.loads((tmp_path / "straight" / "ensemble.json").read_text())
    assert found["members"] == 2
    assert found["kind"] == kind
    assert found["disagreement"] > 1e-3
    one, _ = read_tensors(tmp_path / "straight" / "params.safetensors")
    other, _ = read_tensors(tmp_path / "straight" / "ensemble" / "member_01.safetensors")
    assert one.keys() == other.keys()
    assert (one["ml/readout"] != other["ml/readout"]).any()
    # The first member is the model, as it would be alone.
    (tmp_path / "alone").mkdir()
    train_stage(configure(train=dict(epochs=2)), *inputs, tmp_path / "alone")
    alone, _ = read_tensors(tmp_path / "alone" / "params.safetensors")
    assert all((one[name] == alone[name]).all() for name in one)
