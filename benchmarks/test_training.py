"""Batches per second from memory and from files, the share of time that steps wait for them, and members in lanes."""

import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from benchmarks.conftest import ROWS, compact_chain
from cgloop.config.model import ModelConfig
from cgloop.config.train import TrainConfig
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData, write_manifest, write_protein
from cgloop.executors.world import World
from cgloop.model.hybrid import build_model, init_params, ml_forces
from cgloop.train.files import Place
from cgloop.train.lanes import run_in_lanes
from cgloop.train.sets import load_frames
from cgloop.train.shards import Part
from cgloop.train.trainer import Trainer

CUTOFF_A, BATCH = 12.0, 16
FRAMES = {10: 640, 20: 640, 100: 320}
MEMBERS = 4


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Training and validation frames of a chain, in memory or in files."""

    def make(n_beads: int, where: str):
        folder = tmp_path_factory.mktemp("frames")
        random = np.random.default_rng(0)
        n_frames = FRAMES[n_beads] + 64
        chain = compact_chain(n_beads).astype(np.float32)
        shape = (n_frames, n_beads, 3)
        protein = ProteinData(
            name="chain",
            residue_type=(np.arange(n_beads) % 20).astype(np.int8),
            chain=np.zeros(n_beads, np.int16),
            resid=np.arange(n_beads, dtype=np.int32),
            native=chain,
            linked=np.ones(n_beads - 1, bool),
            positions=chain + random.normal(scale=0.2, size=shape).astype(np.float32),
            forces=random.normal(scale=5.0, size=shape).astype(np.float32),
            temperature_K=np.full(n_frames, 300.0, np.float32),
            replica=np.zeros(n_frames, np.int32),
            source_frame=np.arange(n_frames, dtype=np.int32),
            split=np.where(np.arange(n_frames) < 64, SPLITS["validation"], SPLITS["train"]).astype(np.int8),
        )
        write_protein(folder / "chain.h5", protein, {})
        write_manifest(folder, ["chain"], temperature_K=300.0, mapping="ca", projection="basic")
        reader, place = DatasetReader.open(folder), Place(folder / "files", 0.0, World(0, 1, ()))
        return [
            load_frames(reader, Part(split, 300.0, CUTOFF_A), place if where == "files" else None)
            for split in ("train", "validation")
        ]

    return make


def learner(preset, training):
    """Forces of a network without a prior, and its random parameters by seed."""
    model = build_model(
        ModelConfig.model_validate({"preset": preset, "energy": "ml-only"}), avg_num_neighbors=training.mean_neighbors
    )
    forces = jax.jit(lambda params, x, graph: ml_forces(model, {"prior": None, "ml": params["ml"]}, x, graph))
    return SimpleNamespace(
        forces=forces, start=lambda seed: {"ml": init_params(model, None, jax.random.key(seed))["ml"]}
    )


def trainer(made, sets, folder, seed, epochs, **more):
    config = TrainConfig(epochs=epochs, batch_size=BATCH, patience_epochs=epochs, checkpoint_every_s=1e9)
    return Trainer(
        made.forces, made.start(seed), *sets, config, evaluation_shape=sets[1].shape(64), seed=seed, folder=folder,
        fingerprint="benchmark", **more,
    )  # fmt: skip


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize("n_beads", [20, 100])
def test_loader_alone(benchmark, load, n_beads, where):
    """One thread puts the batches of an epoch together."""
    training, _ = load(n_beads, where)
    shape, order = training.shape(BATCH), np.random.default_rng(1).permutation(training.n_frames)

    def epoch():
        for first in range(0, len(order), BATCH):
            training.batch(order[first : first + BATCH], shape)

    start = time.perf_counter()
    epoch()
    once = time.perf_counter() - start
    benchmark(epoch)
    if benchmark.enabled:
        once = benchmark.stats.stats.min
    benchmark.extra_info["frames_per_s"] = training.n_frames / once
    edges = training.shape(1).edges
    ROWS.append(f"loader, {n_beads} beads, {edges} edges, from {where}: {training.n_frames / once:.0f} frames/s")


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.parametrize(("preset", "n_beads"), [("nano", 10), ("nano", 20), ("lean", 20), ("nano", 100)])
def test_share_of_time_spent_waiting(benchmark, load, tmp_path, preset, n_beads, where):
    """Three epochs of a training."""
    sets = load(n_beads, where)
    one = trainer(learner(preset, sets[0]), sets, tmp_path, seed=1, epochs=3)
    result = benchmark.pedantic(one.run, rounds=1, iterations=1)
    told = {name: result.timing[name] for name in ("loader_wait_share", "frames_per_s")}
    benchmark.extra_info.update(told)
    ROWS.append(
        f"training, {preset}, {n_beads} beads, from {where}: {told['frames_per_s']:.0f} frames/s, "
        f"waits {100 * told['loader_wait_share']:.2f} % of the time"
    )


@pytest.mark.parametrize("n_beads", [10, 20])
def test_members_in_lanes(benchmark, load, tmp_path, n_beads):
    """Four members of `nano`: time of one after the other over that of all in one step, in turns, compilation aside."""
    sets = load(n_beads, "memory")
    made, compiled = learner("nano", sets[0]), {}

    def members(name):
        return [trainer(made, sets, tmp_path / name / str(n), n, epochs=2, compiled=compiled) for n in range(MEMBERS)]

    def one_after_the_other(name):
        return [one.run() for one in members(name)]

    ways = {"sequential": one_after_the_other, "lanes": lambda name: run_in_lanes(members(name))}
    best = dict.fromkeys(ways, np.inf)
    for turn in range(4):
        for way, run in ways.items():
            start = time.perf_counter()
            run(f"{way}{turn}")
            # The first turn compiles.
            if turn:
                best[way] = min(best[way], time.perf_counter() - start)
    ratio = best["sequential"] / best["lanes"]
    benchmark.extra_info.update(best, ratio=ratio)
    benchmark.pedantic(ways["lanes"], args=("measured",), rounds=1)
    ROWS.append(f"{MEMBERS} members of nano, {n_beads} beads: lanes {ratio:.2f} times as fast as one after the other")
