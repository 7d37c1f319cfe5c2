"""Energy and forces, and the gradient of a training step, over presets and sizes."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from benchmarks.conftest import system
from cgloop.model.hybrid import energy_and_forces


def record(benchmark, graph, matmul_seconds):
    benchmark.extra_info["edges"] = int(graph.edge_mask.sum())
    benchmark.extra_info["matmuls"] = benchmark.stats.stats.median / matmul_seconds


@pytest.mark.parametrize("n_beads", [10, 20, 100])
@pytest.mark.parametrize("preset", ["nano", "lean"])
def test_energy_and_forces(benchmark, matmul_seconds, preset, n_beads):
    model, params, positions, graph = system(preset, n_beads, n_replicas=1)
    evaluate = jax.jit(partial(energy_and_forces, model, params, graph=graph))
    jax.block_until_ready(evaluate(positions))
    benchmark(lambda: jax.block_until_ready(evaluate(positions)))
    record(benchmark, graph, matmul_seconds)


@pytest.mark.parametrize("preset", ["nano", "lean"])
def test_training_gradient_of_8_frames(benchmark, matmul_seconds, preset):
    model, params, positions, graph = system(preset, n_beads=20, n_replicas=8)
    target = jnp.ones_like(positions)

    @jax.jit
    def gradient(network):
        def loss(network):
            _, forces, _ = energy_and_forces(model, {**params, "ml": network}, positions, graph)
            return jnp.mean((forces - target) ** 2)

        return jax.grad(loss)(network)

    jax.block_until_ready(gradient(params["ml"]))
    benchmark(lambda: jax.block_until_ready(gradient(params["ml"])))
    record(benchmark, graph, matmul_seconds)
