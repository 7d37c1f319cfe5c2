"""What the benchmarks share: chains to compute on, and the unit in which times are given."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.config.model import ModelConfig
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import build_model, init_params


@pytest.fixture(scope="session")
def matmul_seconds() -> float:
    """Median time of one 1024 × 1024 × 1024 float32 matrix product on this machine, now."""
    a = jax.random.normal(jax.random.key(0), (1024, 1024))
    multiply = jax.jit(jnp.matmul)
    multiply(a, a).block_until_ready()
    times = []
    for _ in range(20):
        start = time.perf_counter()
        multiply(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def compact_chain(n_beads: int, seed: int = 0) -> np.ndarray:
    """A self-avoiding chain [N, 3] in Å with 3.8 Å bonds at about the density of a folded protein."""
    random = np.random.default_rng(seed)
    radius = 4.3 * n_beads ** (1 / 3)
    chain = [np.zeros(3)]
    while len(chain) < n_beads:
        for _ in range(200):
            step = random.normal(size=3)
            bead = chain[-1] + 3.8 * step / np.linalg.norm(step)
            far = np.linalg.norm(np.array(chain[:-1]).reshape(-1, 3) - bead, axis=1)
            if np.linalg.norm(bead) < radius and (far > 4.0).all():
                chain.append(bead)
                break
        else:
            chain = chain[: max(1, len(chain) - 5)]
    return np.array(chain)


def system(preset: str, n_beads: int, n_replicas: int):
    """Model, parameters, positions float32 [R·N, 3] and graph of copies of one chain."""
    positions = np.stack([compact_chain(n_beads)] * n_replicas)
    types = np.arange(n_beads) % 20
    graph = build_graph(types, np.ones(n_beads - 1, bool), positions, cutoff_A=12.0)
    neighbours = float(graph.edge_mask.sum() / (n_beads * n_replicas))
    model = build_model(ModelConfig.model_validate({"preset": preset}), avg_num_neighbors=neighbours)
    params = init_params(model, None, jax.random.key(1))
    return model, params, jnp.asarray(positions.reshape(-1, 3), jnp.float32), graph
