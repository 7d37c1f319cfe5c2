"""Frames that are read from files give what those in memory give, to the bit, and need little memory."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_train_stage import configure, inputs, results  # noqa: F401

from cgloop import interrupt
from cgloop.data.dataset import FRAME_FIELDS, DatasetReader, write_manifest, write_protein
from cgloop.errors import Interrupted, UserError
from cgloop.executors.world import World
from cgloop.train.files import Files, Place
from cgloop.train.loader import FrameSet
from cgloop.train.rows import Rows
from cgloop.train.sets import chains_of, load_frames, load_sets, place_if_needed
from cgloop.train.shards import (
    GEOMETRY,
    Part,
    expected_MB,
    joined_index,
    read_shard,
    shard_key,
    shares,
    write_shard,
)
from cgloop.train.stage import FRAMES, train_stage

PART = Part("train", 300.0, 9.0, 0.05)


@pytest.fixture(scope="module")
def reader(make_protein, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    proteins = {
        "broken": make_protein("broken", "0 7 4 7 0 19 3", 40, 0.5),
        "none": make_protein("none", "3 4", 8, seed=2),
        "pair": make_protein("pair", "5 6", 20, 0.5, seed=3),
        "short": make_protein("short", "1 2 3 4", 28, 0.5, seed=4),
    }
    proteins["broken"].linked[3] = False
    proteins["none"].split[:] = 3
    for name, protein in proteins.items():
        write_protein(folder / f"{name}.h5", protein, {})
    write_manifest(folder, list(proteins), temperature_K=300.0, mapping="ca", projection="basic")
    return DatasetReader.open(folder)


def place(folder, memory_MB=0.0):
    return Place(folder, memory_MB, World(0, 1, ()))


@pytest.fixture(scope="module")
def both(reader, tmp_path_factory):
    """The same frames in memory and in files."""
    found = [load_frames(reader, PART), load_frames(reader, PART, place(tmp_path_factory.mktemp("files")))]
    random = np.random.default_rng(0).normal(size=found[0].reference.shape).astype(np.float32)
    for frames in found:
        frames.subtract((part, random[frames.beads.take(part)[0]]) for part in np.array_split(frames.store.own, 5))
        frames.store.open_target()
    return found


def assert_same(one, other):
    assert type(one) is type(other)
    for a, b in zip(one, other, strict=True):
        if isinstance(a, tuple):
            assert_same(a, b)
        elif a is not None or b is not None:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), weighted=st.booleans())
def test_batches_are_those_of_memory(both, data, weighted):
    n = both[0].n_frames
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=9, unique=True)), int)
    noise = data.draw(st.none() | st.tuples(st.integers(0, 5), st.integers(0, 5)))
    for frames in both:
        frames.set_weights({"pair": 2.0} if weighted else {}, {})
    shapes = [frames.shape(9) for frames in both]
    assert shapes[0] == shapes[1]
    assert_same(*(frames.batch(chosen, shapes[0], noise) for frames in both))


def test_what_is_known_of_all_frames_is_that_of_memory(both):
    memory, files = both
    assert files.names == memory.names == ["broken", "pair", "short"]
    assert files.mean_neighbors == memory.mean_neighbors
    assert (files.target != files.reference).all()
    for name in ("protein", "replica", "temperature_K", "reference", "target"):
        np.testing.assert_array_equal(getattr(files, name), getattr(memory, name))
    for kind in ("reference", "target"):
        assert files.mean_square(kind) == memory.mean_square(kind)
        assert memory.mean_square(kind) == pytest.approx(np.mean(getattr(memory, kind).astype(float) ** 2), rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_shards_of_several_processes_are_the_whole(reader, both, tmp_path, size):
    groups, keys = shares(reader, PART, size), [shard_key(reader, PART, number, size) for number in range(size)]
    assert [name for group in groups for name in group] == reader.names
    folders = [tmp_path / str(number) for number in range(size)]
    for folder, names, key in zip(folders, groups, keys, strict=True):
        write_shard(reader, PART, names, folder, key)
    shards = [read_shard(folder) for folder in folders]
    index, chains = joined_index(shards), [chain for shard in shards for chain in chains_of(shard)]
    beads = Rows.of_lengths(np.array([len(chain.residue_type) for chain in chains])[index.protein])
    stores = [Files(shards, beads, Rows.of_lengths(index.n_edges), number, keys[number]) for number in range(size)]
    assert np.concatenate([store.own for store in stores]).tolist() == list(range(both[0].n_frames))
    for store in stores:
        difference = both[0].store.reference(store.own) - both[0].store.target(store.own)
        store.subtract([(store.own, difference)] if len(store.own) else [], "test")
    for store in stores:
        store.open_target()
        frames = FrameSet.stored(chains, index, store, PART.noise_A)
        np.testing.assert_allclose(frames.target, both[0].target, atol=1e-5)
        chosen = np.arange(frames.n_frames)[::-3]
        frames.set_weights({}, {})
        both[0].set_weights({}, {})
        shape = frames.shape(len(chosen))
        assert_same(frames.batch(chosen, shape).graph, both[0].batch(chosen, shape).graph)
        store.close()


def test_the_size_in_memory_is_foreseen(reader):
    """From the manifest and a few frames, against what the arrays take."""
    frames = load_frames(reader, PART)
    arrays = [*frames.store.geometry(np.arange(frames.n_frames)), frames.reference, frames.target]
    assert expected_MB(reader, PART) * 1e6 == pytest.approx(sum(array.nbytes for array in arrays), rel=0.05)
    assert place_if_needed(reader, [PART], place(Path("none"), 1.0)) is None
    assert place_if_needed(reader, [PART], place(Path("none"), 1e-3)) is not None


def test_files_are_used_again_if_they_are_whole_and_of_the_same_frames(reader, tmp_path):
    def stamps():
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob(GEOMETRY)}

    load_sets(reader, 300.0, 9.0, place=place(tmp_path)).close()
    first = stamps()
    assert len(first) == 3
    load_sets(reader, 300.0, 9.0, place=place(tmp_path)).close()
    assert stamps() == first
    load_sets(reader, 300.0, 8.0, place=place(tmp_path)).close()
    second = stamps()
    assert all(second[path] != first[path] for path in first)
    cut = next(iter(second))
    cut.write_bytes(cut.read_bytes()[:-1])
    load_sets(reader, 300.0, 8.0, place=place(tmp_path)).close()
    third = stamps()
    assert [path for path in third if third[path] != second[path]] == [cut]


def test_a_file_that_is_cut_while_it_is_read_is_named(reader, tmp_path):
    frames = load_frames(reader, PART, place(tmp_path))
    (path,) = tmp_path.rglob(GEOMETRY)
    os.truncate(path, 100)
    with pytest.raises(UserError, match=r"geometry\.bin: .*ends too early"):
        frames.batch(np.arange(9), frames.shape(9))
    frames.store.close()


def test_a_frame_that_is_not_finite_is_named(make_protein, tmp_path):
    write_protein(tmp_path / "toy.h5", make_protein("toy", frames=40), {})
    with h5py.File(tmp_path / "toy.h5", "a") as file:
        file["forces"][13, 2, 1] = np.nan
    write_manifest(tmp_path, ["toy"], temperature_K=300.0, mapping="ca", projection="basic")
    with pytest.raises(UserError, match=r"toy\.h5: frame 13 of replica 1 is not finite"):
        load_frames(DatasetReader.open(tmp_path), PART, place(tmp_path / "files"))


MORE = dict(length_buckets=2, position_noise_A=0.02, normalize="protein", ensemble=dict(members=2, kind="bootstrap"))


@pytest.mark.slow
def test_a_training_from_files_is_that_from_memory_to_the_bit(inputs, tmp_path):  # noqa: F811
    """Losses, parameters, force errors and disagreement, also when interrupted; nothing is left of the files."""
    for name in ("memory", "files", "stopped"):
        (tmp_path / name).mkdir()
    train_stage(configure(train=MORE), *inputs, tmp_path / "memory")
    config = configure(train={**MORE, "memory_MB": 0})
    train_stage(config, *inputs, tmp_path / "files")
    assert results(tmp_path / "files") == results(tmp_path / "memory")
    assert not (tmp_path / "files" / FRAMES).exists()
    interrupt.request_stop("test")
    with pytest.raises(Interrupted):
        train_stage(config, *inputs, tmp_path / "stopped")
    interrupt.clear_stop()
    assert not (tmp_path / "stopped" / "params.safetensors").exists()
    train_stage(config, *inputs, tmp_path / "stopped")
    assert results(tmp_path / "stopped") == results(tmp_path / "memory")


def test_the_share_of_time_spent_waiting_for_batches_is_told(inputs, tmp_path):  # noqa: F811
    train_stage(configure(), *inputs, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    timing = json.loads((tmp_path / "timing.json").read_text())
    for one in (*rows, timing):
        assert 0 <= one["loader_wait_share"] < 1
        assert one["frames_per_s"] > 0
    assert "loader_wait_share" not in json.loads((tmp_path / "history.json").read_text())["columns"]


MEMORY = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from cgloop.data.dataset import DatasetReader
from cgloop.executors.world import World
from cgloop.train.files import Place
from cgloop.train.shards import Part
from cgloop.train.evaluate import predictions
from cgloop.train.loader import epoch_plan
from cgloop.train.prefetch import ahead
from cgloop.train.sets import load_frames, place_if_needed

def peak_MB():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024

reader = DatasetReader.open(Path(sys.argv[1]))
part = Part("train", 300.0, 12.0)
before = peak_MB()
place = Place(Path(sys.argv[2]), float(sys.argv[3]), World(0, 1, ()))
frames = load_frames(reader, part, place_if_needed(reader, [part], place))
frames.subtract((part, forces) for part, (forces,) in predictions([lambda x, g: 0.1 * x], frames, frames.shape(16)))
frames.store.open_target()
frames.mean_square("target")
buckets = frames.buckets(16)
plan = epoch_plan(buckets, frames.n_frames, 1, 0)
seen = sum(int(b.graph.replica_mask.sum()) for b in ahead(lambda one: frames.batch(one[1], buckets[0].shape), plan))
size = 36 * frames.n_beads + 2 * (frames.n_beads + frames.edges.total)
print(peak_MB() - before, size / 1e6, seen == frames.n_frames)
"""


@pytest.mark.slow
def test_memory_is_bounded(make_protein, tmp_path, repository):
    """A set six times as large as what it may take; in memory it takes that much, from files a small part."""
    random = np.random.default_rng(0)
    for number in range(4):
        one = make_protein(f"p{number}", " ".join(str(i % 20) for i in range(100)), 40, seed=number).select("train")
        many = {name: np.concatenate([getattr(one, name)] * 500) for name in FRAME_FIELDS}
        many["positions"] += random.normal(scale=0.1, size=many["positions"].shape).astype(np.float32)
        write_protein(tmp_path / f"p{number}.h5", replace(one, **many), {})
    write_manifest(tmp_path, [f"p{n}" for n in range(4)], temperature_K=300.0, mapping="ca", projection="basic")

    def grown(memory_MB):
        command = [sys.executable, "-c", MEMORY, str(tmp_path), str(tmp_path / "files"), str(memory_MB)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(repository)}, capture_output=True, text=True, check=True
        )
        peak, size, complete = done.stdout.split()
        assert complete == "True"
        return float(peak), float(size)

    limit = 35
    in_memory, size = grown(1e6)
    from_files, _ = grown(limit)
    print(f"{size:.0f} MB of frames: the peak grows by {in_memory:.0f} MB in memory, {from_files:.0f} MB from files")
    assert in_memory > size > 6 * limit
    assert from_files < 0.3 * size
