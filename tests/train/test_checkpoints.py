"""Checkpoints come back to the bit, or not at all."""

import jax
import numpy as np
import optax
import pytest

from cgloop.train.checkpoints import read_checkpoint, read_tensors, write_checkpoint, write_tensors


@pytest.fixture
def arrays():
    params = {"a": {"w": jax.numpy.arange(6.0).reshape(2, 3) / 7}, "b": jax.numpy.float32(0.1)}
    return {"params": params, "opt": optax.adam(1e-3).init(params), "step": jax.numpy.int32(5)}


def _position(serial=1, **more):
    return {"fingerprint": "abc", "serial": serial, "loss": 0.1 + 0.2, "best": float("inf"), **more}


def test_round_trip_is_exact(tmp_path, arrays):
    write_checkpoint(tmp_path, 1, arrays, _position(history={"loss": [1 / 3, 2e-308]}))
    like = jax.tree.map(jax.numpy.zeros_like, arrays)
    found, position = read_checkpoint(tmp_path, like, "abc")
    assert jax.tree.structure(found) == jax.tree.structure(arrays)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(arrays), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    assert position == _position(history={"loss": [1 / 3, 2e-308]})


def test_the_newest_two_are_kept(tmp_path, arrays):
    for serial in range(1, 12):
        write_checkpoint(tmp_path, serial, arrays, _position(serial))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"checkpoint_{n:08d}.safetensors" for n in (10, 11)]
    assert read_checkpoint(tmp_path, arrays, "abc")[1]["serial"] == 11


def test_a_damaged_checkpoint_is_passed_over(tmp_path, arrays):
    write_checkpoint(tmp_path, 1, arrays, _position(1))
    newest = write_checkpoint(tmp_path, 2, arrays, _position(2))
    newest.write_bytes(newest.read_bytes()[:-9])
    assert read_checkpoint(tmp_path, arrays, "abc")[1]["serial"] == 1


def test_checkpoints_of_other_inputs_are_removed(tmp_path, arrays):
    write_checkpoint(tmp_path, 7, arrays, _position(7))
    assert read_checkpoint(tmp_path, arrays, "other") is None
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_another_shape_is_not_used(tmp_path, arrays):
    write_checkpoint(tmp_path, 1, arrays, _position())
    assert read_checkpoint(tmp_path, {**arrays, "step": jax.numpy.zeros(2, "int32")}, "abc") is None
    assert read_checkpoint(tmp_path, {**arrays, "new": jax.numpy.zeros(2)}, "abc") is None


def test_nothing_there(tmp_path, arrays):
    assert read_checkpoint(tmp_path / "none", arrays, "abc") is None


def test_same_tensors_same_bytes(tmp_path):
    tensors = {name: np.arange(3, dtype=np.float32) for name in "zyxabc"}
    write_tensors(tmp_path / "a", tensors)
    write_tensors(tmp_path / "b", dict(reversed(tensors.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_strided_arrays_and_scalars_are_written_as_they_read(tmp_path):
    matrix = np.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "t", {"m": matrix, "s": np.float32(3)})
    tensors, metadata = read_tensors(tmp_path / "t")
    np.testing.assert_array_equal(tensors["m"], matrix)
    assert tensors["s"].shape == ()
    assert metadata == {}
