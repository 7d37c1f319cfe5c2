"""Batches per second from memory and from files, the share of time that steps wait for them, and members in lanes.

Speed over devices is measured by `cgloop bench scaling`, where every point is a process of its own.
"""

import time

import numpy as np
import pytest

from benchmarks.training import BATCH, chain_sets, learner, trainer
from cgloop.train.lanes import run_in_lanes

MEMBERS = 4


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return lambda n_beads, where: chain_sets(tmp_path_factory.mktemp("frames"), n_beads, where)


@pytest.mark.parametrize("where", ["memory", "files"])
@pytest.mark.sized("n_beads", small=[20], full=[20, 100])
def test_loader_alone(benchmark, keep, load, n_beads, where):
    """One thread puts the batches of an epoch together."""
    training, _ = load(n_beads, where)
    shape, order = training.shape(BATCH), np.random.default_rng(1).permutation(training.n_frames)

    def epoch():
        for first in range(0, len(order), BATCH):
            training.batch(order[first : first + BATCH], shape)

    benchmark.pedantic(epoch, rounds=5, warmup_rounds=1)
    if benchmark.enabled:
        rates = [training.n_frames / seconds for seconds in benchmark.stats.stats.data]
        keep("loader alone", "frames/s", rates, "higher", beads=n_beads, edges=training.shape(1).edges, where=where)


@pytest.mark.sized(
    ("preset", "n_beads", "batch", "where"),
    small=[
        ("nano", 10, 4, "memory"), ("nano", 10, 16, "memory"), ("nano", 20, 16, "memory"), ("nano", 20, 16, "files"),
    ],
    full=[
        (preset, n_beads, batch, where)
        for preset, n_beads, batch in [
            ("nano", 10, 4), ("nano", 10, 16), ("nano", 10, 64), ("nano", 20, 16), ("lean", 20, 16), ("nano", 100, 16),
        ]
        for where in ("memory", "files")
    ],
)  # fmt: skip
def test_training(benchmark, keep, load, tmp_path, preset, n_beads, batch, where):
    """Three epochs of a training: the speed of each but the first."""
    sets, speeds = load(n_beads, where), []
    one = trainer(
        learner(preset, sets[0]), sets, tmp_path, seed=1, epochs=3, batch_size=batch,
        on_epoch=lambda row: speeds.append(row["frames_per_s"]),
    )  # fmt: skip
    result = benchmark.pedantic(one.run, rounds=1, iterations=1)
    facts = {name: result.timing[name] for name in ("loader_wait_share", "compile_s")}
    facts["first epoch, frames/s"] = speeds[0]
    keep("training", "frames/s", speeds[1:], "higher", facts, preset=preset, beads=n_beads, batch=batch, where=where)


@pytest.mark.sized("n_beads", small=[10], full=[10, 20])
def test_members_in_lanes(benchmark, keep, load, tmp_path, n_beads):
    """Four members of `nano`: time of one after the other over that of all in one step, in turns, compilation aside."""
    sets = load(n_beads, "memory")
    made, compiled = learner("nano", sets[0]), {}

    def members(name):
        return [trainer(made, sets, tmp_path / name / str(n), n, epochs=2, compiled=compiled) for n in range(MEMBERS)]

    def one_after_the_other(name):
        return [one.run() for one in members(name)]

    ways = {"sequential": one_after_the_other, "lanes": lambda name: run_in_lanes(members(name))}
    times = {way: [] for way in ways}
    for turn in range(4):
        for way, run in ways.items():
            start = time.perf_counter()
            run(f"{way}{turn}")
            # The first turn compiles.
            if turn:
                times[way].append(time.perf_counter() - start)
    ratios = np.divide(times["sequential"], times["lanes"])
    benchmark.pedantic(ways["lanes"], args=("measured",), rounds=1)
    keep("speed-up by lanes", "ratio", ratios, "higher", members=MEMBERS, beads=n_beads)
