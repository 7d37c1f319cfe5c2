"""Sources with a name and a weight: which frames are theirs, and what is told of each."""

import numpy as np
import pytest

from cgloop.config.data import DataConfig
from cgloop.data.protein import ProteinData
from cgloop.errors import UserError
from cgloop.train.evaluate import ForceTally, evaluate_forces
from cgloop.train.loader import FrameSet
from cgloop.train.sources import UNNAMED, labels_and_weights, tells_sources_apart, weigh_by_source

MANIFEST = {"proteins": {"one": {"source": "a.dcd, b.dcd"}, "two": {"source": "two.h5"}}}


def protein(name, replica, temperature):
    f, n = len(replica), 4
    random = np.random.default_rng(len(name) + f)
    return ProteinData(
        name=name, residue_type=np.arange(n, dtype=np.int8), chain=np.zeros(n, np.int16),
        resid=np.arange(n, dtype=np.int32), native=random.normal(size=(n, 3)).astype("f4"),
        linked=np.ones(n - 1, bool), positions=random.normal(0, 4, size=(f, n, 3)).astype("f4"),
        forces=random.normal(size=(f, n, 3)).astype("f4"), temperature_K=np.array(temperature, np.float32),
        replica=np.array(replica, np.int32), source_frame=np.arange(f, dtype=np.int32), split=np.zeros(f, np.int8),
    )  # fmt: skip


@pytest.fixture
def config(tmp_path):
    for name in ("a.dcd", "b.dcd", "top.pdb", "two.h5"):
        (tmp_path / name).touch()
    mda = {"format": "mdanalysis", "topology": tmp_path / "top.pdb", "name": "one"}
    sources = [
        {**mda, "path": tmp_path / "a.dcd"},
        {**mda, "path": tmp_path / "b.dcd", "replica": 1, "temperature_K": 400, "label": "unfolded", "weight": 0.25},
        {"path": tmp_path / "two.h5", "label": "misfolded", "weight": 2.0},
    ]
    return DataConfig.model_validate({"sources": sources, "temperature_K": 300, "split": {"by": "time_block"}})


@pytest.fixture
def frames():
    return FrameSet([protein("one", [0, 1, 1, 0], [300, 400, 400, 300]), protein("two", [0, 1], [300, 300])], 12.0)


def test_frames_know_their_source(config, frames):
    labels, which, weight = labels_and_weights(frames, config, MANIFEST)
    assert labels == [UNNAMED, "unfolded", "misfolded"]
    assert which.tolist() == [0, 1, 1, 0, 2, 2]
    assert weight.tolist() == [1, 0.25, 0.25, 1, 2, 2]
    frames.set_weights({"one": 3.0}, {})
    weigh_by_source(frames, config, MANIFEST)
    assert frames.weight.tolist() == [3, 0.75, 0.75, 3, 2, 2]


def test_nothing_changes_without_weights(config, frames):
    plain = config.model_copy(update={"sources": [s.model_copy(update={"weight": 1.0}) for s in config.sources]})
    weigh_by_source(frames, plain, MANIFEST)
    assert frames.weight is None
    assert tells_sources_apart(plain)
    assert not tells_sources_apart(plain.model_copy(update={"sources": plain.sources[:1]}))


def test_what_is_read_does_not_depend_on_names_and_weights(config):
    one = config.sources[1]
    assert one.read_from == one.model_copy(update={"weight": 9.0, "label": None}).read_from
    assert one.read_from != one.model_copy(update={"replica": 2}).read_from


def test_frames_of_no_source_are_an_error(config, frames):
    fewer = config.model_copy(update={"sources": config.sources[:1]})
    with pytest.raises(UserError, match="come from none"):
        labels_and_weights(frames, fewer, MANIFEST)


def test_force_errors_of_each_source(config, frames):
    """The parts add up to the whole, and each is the RMSE of its own frames."""
    labels, which, _ = labels_and_weights(frames, config, MANIFEST)
    tally = ForceTally(frames, ["full", "prior-only", "zero"])
    tally.tell_apart([*labels, "unused"], which)
    predicted = np.random.default_rng(0).normal(size=(24, 3))
    for chosen in (np.array([0, 1, 2]), np.array([3, 4, 5])):
        rows = np.concatenate([np.arange(4 * k, 4 * k + 4) for k in chosen])
        tally.add(chosen, {"full": predicted[rows], "prior-only": predicted[rows], "zero": np.zeros((len(rows), 3))})
    found = evaluate_forces(tally, split="test", seed=0)["per_source"]
    deviation = (predicted - frames.reference).reshape(6, 4, 3)
    for k, label in enumerate(labels):
        assert found[label]["frames"] == 2
        expected = np.sqrt((deviation[which == k] ** 2).mean())
        assert found[label]["modes"]["full"]["rmse"] == pytest.approx(expected, rel=1e-5)
    assert found["unused"] == {"frames": 0, "modes": {}}
