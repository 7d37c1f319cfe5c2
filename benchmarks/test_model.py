"""Energy and forces, and the gradient of a training step, over presets and sizes; beside the plain implementation."""

import time
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks.conftest import system
from cgloop.bench.flops import product_flops
from cgloop.bench.timing import MATMUL_FLOPS, in_turns, matmul
from cgloop.model.hybrid import energy_and_forces, ml_forces
from cgloop.model.networks import NETWORKS
from cgloop.train.loader import AtOnce, Batch
from cgloop.train.step import Objective
from tests.model import plain_allegro

SECONDS = {"small": 1.5, "full": 8.0}

FORCES = {
    "small": [("cgloop", "nano", n) for n in (10, 100)] + [("cgloop", "lean", 100), ("cgloop", "cameo", 10)],
    "full": [
        (implementation, preset, n)
        for preset in ("nano", "lean", "cameo")
        # The plain implementation is slow to compile, and known to be slower from `lean` on.
        for implementation, n in [("cgloop", n) for n in (10, 20, 100, 300)] + [("plain", 10), ("plain", 20)]
    ],
}
GRADIENTS = {
    "small": FORCES["small"],
    "full": [one for one in FORCES["full"] if one[0] == "cgloop" or one[2] == 20],
}


@pytest.fixture(autouse=True)
def network(request, monkeypatch):
    """Put the plain network in the place of the fast one where that is asked for."""
    if request.node.callspec.params["implementation"] == "plain":
        plain = replace(NETWORKS["allegro"], energies=plain_allegro.edge_energies)
        monkeypatch.setitem(NETWORKS, "allegro", plain)


def measure(benchmark, keep, size, name, edges, function, *arguments, part=None, parts=1, **settings):
    """Compile, time in turns with a matrix product, and put down time, memory, compilation and share of the peak.

    Args:
        benchmark, keep, size: the fixtures.
        name: of what is measured.
        edges: of the graph, all parts together.
        function, arguments: what is measured.
        part: (function, *arguments) without loops that `function` does `parts` times; default: itself, once.
        settings: put down beside it.
    """
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    call = partial(compiled, *arguments)
    benchmark.pedantic(lambda: jax.block_until_ready(call()), rounds=3, warmup_rounds=1)
    if not benchmark.enabled:
        return
    times = in_turns({"model": call, "matmul": matmul()}, seconds=SECONDS[size])
    # The shortest, because on a shared machine everything longer tells of the others.
    seconds, product = min(times["model"]), min(times["matmul"])
    program = compiled if part is None else jax.jit(part[0]).lower(*part[1:]).compile()
    facts = {
        "shortest, ms": 1e3 * seconds,
        "matmuls": seconds / product,
        "share of matmul rate": parts * product_flops(program.as_text()) / seconds / (MATMUL_FLOPS / product),
        "compile_s": compile_s,
        "temporary_MB": compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }
    keep(name, "ms", [1e3 * one for one in times["model"]], facts=facts, edges=edges, **settings)


@pytest.mark.sized(("implementation", "preset", "n_beads"), **FORCES)
def test_energy_and_forces(benchmark, keep, size, implementation, preset, n_beads):
    model, params, positions, graph = system(preset, n_beads, n_replicas=1)
    measure(
        benchmark, keep, size, "energy and forces", int(np.sum(graph.edge_mask)),
        lambda x, g: energy_and_forces(model, params, x, g), positions, graph,
        implementation=implementation, preset=preset, beads=n_beads, replicas=1,
    )  # fmt: skip


@pytest.mark.sized("implementation", small=["cgloop"], full=["cgloop", "plain"])
def test_energy_and_forces_of_8_replicas(benchmark, keep, size, implementation):
    model, params, positions, graph = system("nano", 10, n_replicas=8)
    measure(
        benchmark, keep, size, "energy and forces", int(np.sum(graph.edge_mask)),
        lambda x, g: energy_and_forces(model, params, x, g), positions, graph,
        implementation=implementation, preset="nano", beads=10, replicas=8,
    )  # fmt: skip


@pytest.mark.sized(("implementation", "preset", "n_beads"), **GRADIENTS)
def test_training_gradient_of_8_frames(benchmark, keep, size, implementation, preset, n_beads):
    """As the trainer computes it on a processor: in parts that fit the caches."""
    _, _, _, one = system(preset, n_beads, n_replicas=1)
    at_once = min(8, AtOnce().frames_of(float(np.sum(one.edge_mask))))
    parts = 8 // at_once
    model, params, positions, graph = system(preset, n_beads, n_replicas=at_once)
    batch = Batch(np.asarray(positions), np.ones_like(positions), jax.tree.map(np.asarray, graph))
    batches = batch if parts == 1 else jax.tree.map(lambda leaf: np.stack([leaf] * parts), batch)
    objective = Objective(lambda network, x, g: ml_forces(model, {**params, "ml": network}, x, g))
    measure(
        benchmark, keep, size, "training gradient", parts * int(np.sum(graph.edge_mask)),
        objective.gradient, params["ml"], batches, part=(objective.gradient, params["ml"], batch), parts=parts,
        implementation=implementation, preset=preset, beads=n_beads, frames=at_once * parts,
    )  # fmt: skip
