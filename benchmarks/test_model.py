"""Energy and forces, and the gradient of a training step, over presets and sizes; beside the plain implementation."""

import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from benchmarks.conftest import ROWS, interleaved, system
from cgloop.model.hybrid import energy_and_forces, ml_forces
from cgloop.model.networks import NETWORKS
from tests.model import plain_allegro

IMPLEMENTATIONS = ["cgloop", "plain"]


@pytest.fixture
def implementation(request, monkeypatch):
    """Put the plain network in the place of the fast one where that is asked for."""
    if request.param == "plain":
        plain = replace(NETWORKS["allegro"], energies=plain_allegro.edge_energies)
        monkeypatch.setitem(NETWORKS, "allegro", plain)
    return request.param


def measure(benchmark, name, graph, function, *arguments):
    """Compile, time in turns with a matrix product, and put down time, memory and time of compilation."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    compile_s = time.perf_counter() - start
    call = partial(compiled, *arguments)
    seconds, matmul = interleaved(call) if benchmark.enabled else (0.0, 1.0)
    benchmark(lambda: jax.block_until_ready(call()))
    edges, megabytes = int(graph.edge_mask.sum()), compiled.memory_analysis().temp_size_in_bytes / 1e6
    benchmark.extra_info.update(
        edges=edges, matmuls=seconds / matmul, seconds=seconds, matmul_seconds=matmul, compile_s=compile_s,
        temporary_MB=megabytes,
    )  # fmt: skip
    if benchmark.enabled:
        ROWS.append(
            f"{name:44s} {edges:6d} {seconds / matmul:8.3f} {1e3 * seconds:9.3f} {compile_s:9.1f} {megabytes:7.1f}"
        )


@pytest.mark.parametrize("n_beads", [10, 20, 100])
@pytest.mark.parametrize("preset", ["nano", "lean", "cameo"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_energy_and_forces(benchmark, implementation, preset, n_beads):
    model, params, positions, graph = system(preset, n_beads, n_replicas=8 if preset == "nano" else 1)
    name = f"{implementation} {preset} {n_beads} beads, energy+forces"
    measure(benchmark, name, graph, lambda x, g: energy_and_forces(model, params, x, g), positions, graph)


@pytest.mark.parametrize("preset", ["nano", "lean", "cameo"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, indirect=True)
def test_training_gradient_of_8_frames(benchmark, implementation, preset):
    model, params, positions, graph = system(preset, n_beads=20, n_replicas=8)

    def gradient(network, positions, graph):
        def loss(network):
            return jnp.mean((ml_forces(model, {**params, "ml": network}, positions, graph) - 1.0) ** 2)

        return jax.grad(loss)(network)

    name = f"{implementation} {preset} 20 beads, gradient of 8 frames"
    measure(benchmark, name, graph, gradient, params["ml"], positions, graph)
