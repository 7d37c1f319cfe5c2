"""Batches per second from memory and from files, the share of time that steps wait for them, and members in lanes."""

import time

import numpy as np
import pytest

from benchmarks.conftest import ROWS
from benchmarks.training import BATCH, chain_sets, learner, trainer
from cgloop.train.lanes import run_in_lanes

MEMBERS = 4


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    return lambda n_beads, where: chain_sets(tmp_path_factory.mktemp("frames"), n_beads, where)


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
