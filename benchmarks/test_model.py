"""Energy and forces, and the gradient of a training step, over presets and sizes; beside the plain implementation."""

import time
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks.conftest import MATMUL_FLOPS, ROWS, interleaved, system
from benchmarks.flops import product_flops
from cgloop.model.hybrid import energy_and_forces, ml_forces
from cgloop.model.networks import NETWORKS
from cgloop.train.loader import AtOnce, Batch
from cgloop.train.step import Objective
from tests.model import plain_allegro

IMPLEMENTATIONS = ["cgloop", "plain"]


@pytest.fixture
def implementation(request, monkeypatch):
    """Put the plain network in the place of the fast one where that is asked for."""
    if request.param == "plain":
        plain = replace(NETWORKS["allegro"], energies=plain_allegro.edge_energies)
        monkeypatch.setitem(NETWORKS, "allegro", plain)
    return request.param


def measure(benchmark, name, graph, function, *arguments, part=None, parts=1):
    """Compile, time in turns with a matrix product, and put down time, memory, compilation and share of the peak.

    Args:
        benchmark: the fixture.
        name: of the row.
        graph: whose pairs are counted, times `parts`.
        function, arguments: what is measured.
        part: (function, *arguments) without loops that `function` does `parts` times; default: itself, once.
    """
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    call = partial(compiled, *arguments)
    seconds, matmul = interleaved(call) if benchmark.enabled else (0.0, 1.0)
    benchmark(lambda: jax.block_until_ready(call()))
    edges, megabytes = parts * int(np.sum(graph.edge_mask)), compiled.memory_analysis().temp_size_in_bytes / 1e6
    if not benchmark.enabled:
        return
    program = compiled if part is None else jax.jit(part[0]).lower(*part[1:]).compile()
    share = parts * product_flops(program.as_text()) / seconds / (MATMUL_FLOPS / matmul)
    benchmark.extra_info.update(
        edges=edges, matmuls=seconds / matmul, seconds=seconds, matmul_seconds=matmul, compile_s=compile_s,
        temporary_MB=megabytes, share_of_matmul_rate=share,
    )  # fmt: skip
    ROWS.append(
        f"{name:44s} {edges:6d} {seconds / matmul:8.3f} {1e3 * seconds:9.3f} {compile_s:9.1f} {megabytes:7.1f} "
        f"{share:5.0%}"
    )


SIZES = [("cgloop", n) for n in (10, 20, 100, 300)] + [("plain", 10), ("plain", 20)]
"""The plain implementation is slow to compile, and known to be slower from `lean` on."""


@pytest.mark.parametrize(("implementation", "n_beads"), SIZES, indirect=["implementation"])
@pytest.mark.parametrize("preset", ["nano", "lean", "cameo"])
def test_energy_and_forces(benchmark, implementation, preset, n_beads):
    model, params, positions, graph = system(preset, n_beads, n_replicas=1)
    name = f"{implementation} {preset} {n_beads} beads, energy+forces"
    measure(benchmark, name, graph, lambda x, g: energy_and_forces(model, params, x, g), positions, graph)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_energy_and_forces_of_8_replicas(benchmark, implementation):
    model, params, positions, graph = system("nano", 10, n_replicas=8)
    name = f"{implementation} nano 8 x 10 beads, energy+forces"
    measure(benchmark, name, graph, lambda x, g: energy_and_forces(model, params, x, g), positions, graph)


@pytest.mark.parametrize(("implementation", "n_beads"), [*SIZES[:4], ("plain", 20)], indirect=["implementation"])
@pytest.mark.parametrize("preset", ["nano", "lean", "cameo"])
def test_training_gradient_of_8_frames(benchmark, implementation, preset, n_beads):
    """As the trainer computes it on a processor: in parts that fit the caches."""
    _, _, _, one = system(preset, n_beads, n_replicas=1)
    at_once = min(8, AtOnce().frames_of(float(np.sum(one.edge_mask))))
    parts = 8 // at_once
    model, params, positions, graph = system(preset, n_beads, n_replicas=at_once)
    batch = Batch(np.asarray(positions), np.ones_like(positions), jax.tree.map(np.asarray, graph))
    batches = batch if parts == 1 else jax.tree.map(lambda leaf: np.stack([leaf] * parts), batch)
    objective = Objective(lambda network, x, g: ml_forces(model, {**params, "ml": network}, x, g))
    name = f"{implementation} {preset} {n_beads} beads, gradient of {at_once * parts} frames"
    measure(
        benchmark, name, graph, objective.gradient, params["ml"], batches,
        part=(objective.gradient, params["ml"], batch), parts=parts,
    )  # fmt: skip
