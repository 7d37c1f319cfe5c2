"""What the benchmarks share: chains to compute on, and the unit in which times are given."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.config.model import AllegroConfig
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import build_model, init_params


def interleaved(function, *, seconds: float = 8.0, rounds: int = 40) -> tuple[float, float]:
    """Shortest times in seconds of `function()` and of one 1024³ float32 matrix product, measured in turns.

    The shortest, because on a shared machine everything longer tells of the others.
    """
    a = jax.random.normal(jax.random.key(0), (1024, 1024))
    multiply = jax.jit(jnp.matmul)
    best = [np.inf, np.inf]
    end = time.perf_counter() + seconds
    for _ in range(rounds):
        for i, call in enumerate((function, lambda: multiply(a, a))):
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[i] = min(best[i], time.perf_counter() - start)
        if time.perf_counter() > end:
            break
    return best[0], best[1]


MATMUL_FLOPS = 2 * 1024**3

ROWS: list[str] = []
"""Lines of the table that is printed at the end."""


def pytest_terminal_summary(terminalreporter):
    """Print what the benchmarks of the model found."""
    if ROWS:
        head = f"{'work':44s} {'edges':>6s} {'matmuls':>8s} {'ms':>9s} {'compile s':>9s} {'MB':>7s} {'peak':>5s}"
        terminalreporter.write_line("\n".join(["", head, *ROWS]))


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


EDGES = {20: 262, 100: 2870}
"""Directed pairs within the cutoff of one chain, by its beads: as in the measurements of other implementations."""


def system(preset: str, n_beads: int, n_replicas: int):
    """Model, parameters, positions float32 [R·N, 3] and graph of copies of one chain.

    Chains whose number of beads is in `EDGES` are scaled until they have that many pairs.
    """
    chain = compact_chain(n_beads)
    if n_beads in EDGES:
        lengths = np.sort(np.linalg.norm(chain[:, None] - chain, axis=-1)[np.triu_indices(n_beads, 1)])
        last = EDGES[n_beads] // 2
        chain = chain * 12.0 / (0.5 * (lengths[last - 1] + lengths[last]))
    positions = np.stack([chain] * n_replicas)
    types = np.arange(n_beads) % 20
    graph = build_graph(types, np.ones(n_beads - 1, bool), positions, cutoff_A=12.0)
    neighbours = float(graph.edge_mask.sum() / (n_beads * n_replicas))
    model = build_model(AllegroConfig.model_validate({"preset": preset}), avg_num_neighbors=neighbours)
    params = init_params(model, None, jax.random.key(1))
    return model, params, jnp.asarray(positions.reshape(-1, 3), jnp.float32), graph
