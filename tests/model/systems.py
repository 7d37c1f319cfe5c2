"""Small systems and models, and a quick way to evaluate them."""

from collections.abc import Callable
from functools import cache, partial

import jax
import numpy as np

from cgloop.model.allegro import AllegroSpec
from cgloop.model.graph import Graph, build_graph, pad_graph
from cgloop.model.hybrid import Model, energy, energy_and_forces, init_params
from cgloop.model.painn import PainnSpec
from cgloop.model.terms import PriorParams

CUTOFF_A = 9.0

QUICKLY = {"xla_backend_optimization_level": 0}
"""Options of jax.jit: here compiling takes longer than computing."""

PRIOR = PriorParams(
    bond_k=np.array(80.0),
    bond_r0=np.array(3.82),
    angle_coeffs=np.array([0.3, 1.1, 2.0, 0.4, -0.3, 0.2, 0.1]),
    dihedral_cos=np.array([0.2, 1.0, -0.5, 0.3, 0.1]),
    dihedral_sin=np.array([0.0, 0.6, 0.4, -0.2, 0.15]),
    repulsion_epsilon=np.array([2.5, 1.5, 2.0]),
    repulsion_r_min=np.array([5.6, 4.8, 5.2]),
    weights=np.array([1.0, 0.9, 1.1, 0.8]),
)


def small_spec(**changes) -> AllegroSpec:
    """A network that compiles quickly but has every part: two layers, two channels, scalars and vectors."""
    options = dict(
        cutoff_A=CUTOFF_A, max_ell=1, n_layers=2, n_radial=4, embedding=(8,), species_embedding=4, mlp=(8,),
        hidden="2x0e+2x1o", avg_num_neighbors=5.0,
    )  # fmt: skip
    return AllegroSpec(**(options | changes))


def small_painn(**changes) -> PainnSpec:
    """A PaiNN that compiles quickly but has every part."""
    options = dict(cutoff_A=CUTOFF_A, n_layers=2, features=6, n_radial=4, avg_num_neighbors=5.0)
    return PainnSpec(**(options | changes))


def small_model(energy: str = "hybrid", **changes) -> Model:
    """`small_spec` as a model."""
    return Model(spec=None if energy == "prior-only" else small_spec(**changes), energy=energy, cutoff_A=CUTOFF_A)


def small_params(model: Model, seed: int = 0, readout: float = 20.0):
    """Parameters with a readout large enough to be seen."""
    params = init_params(model, PRIOR, jax.random.key(seed))
    if params["ml"]:
        params["ml"]["readout"] = params["ml"]["readout"] * readout
    return params


def chain(n_beads: int, seed: int = 0, noise: float = 0.6) -> np.ndarray:
    """A compact random chain [n_beads, 3] Å: a distorted helix, so that nothing is symmetric."""
    t = np.arange(n_beads)
    helix = np.stack([2.9 * np.cos(1.6 * t), 2.9 * np.sin(1.6 * t), 1.5 * t], axis=-1)
    return helix + noise * np.random.default_rng(seed).normal(size=helix.shape)


def chain_graph(positions: np.ndarray, types=None, cutoff_A: float = CUTOFF_A) -> Graph:
    """Graph of one unbroken chain, or of several replicas [R, N, 3] of it."""
    n_beads = positions.shape[-2]
    types = (np.arange(n_beads) * 7) % 20 if types is None else types
    return build_graph(types, np.ones(n_beads - 1, dtype=bool), positions, cutoff_A)


@cache
def compiled(model: Model, what: Callable = energy_and_forces):
    """A function (model, params, positions, graph) of `cgloop.model.hybrid`, compiled quickly, once for all tests."""
    return jax.jit(partial(what, model), compiler_options=QUICKLY)


ROOM = dict(beads=20, replicas=3, edges=280, bonds=18, angles=18, dihedrals=18)
"""One size for most tests, so that a model is compiled once. What padding does is tested by itself."""


def evaluate(model: Model, params, positions, graph: Graph):
    """Energies [R], forces [N, 3] and terms [R, 5] as NumPy arrays, computed in `ROOM`."""
    energies, forces, terms = evaluate_as_is(model, params, *in_room(positions, graph))
    n_replicas, n_beads = len(graph.replica_mask), len(graph.types)
    return energies[:n_replicas], forces[:n_beads], terms[:n_replicas]


def evaluate_as_is(model: Model, params, positions, graph: Graph):
    """`evaluate` with the graph as it is."""
    return tuple(np.asarray(part) for part in compiled(model)(params, np.reshape(positions, (-1, 3)), graph))


def total_energy(model: Model, params, positions, graph: Graph) -> float:
    """Energy of all replicas, kcal/mol; without forces, which is quicker to compile."""
    return float(compiled(model, energy)(params, *in_room(positions, graph)))


def in_room(positions, graph: Graph):
    """Positions and graph padded to `ROOM`."""
    positions = np.reshape(positions, (-1, 3))
    padded = np.zeros((ROOM["beads"], 3), dtype=positions.dtype)
    padded[: len(positions)] = positions
    return padded, pad_graph(graph, **ROOM)


def random_rotation(seed: int) -> np.ndarray:
    """A proper rotation matrix, uniformly distributed."""
    matrix, upper = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix = matrix * np.sign(np.diag(upper))
    return matrix * np.sign(np.linalg.det(matrix))


def minus_slope(energy: Callable, x: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """−∂E/∂x of a function of positions by central differences of width h."""
    slope = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        slope[index] = (energy(x + step) - energy(x - step)) / (2 * h)
    return -slope
