"""The conditions under which `parity` compares the artifact in LAMMPS with the model in JAX."""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial

import jax
import numpy as np

from cgloop.md.evaluate import Compiled, ModelEvaluator, edges_per_replica
from cgloop.md.evaluation import Evaluate
from cgloop.md.inputs import HALF_BOX_A
from cgloop.md.probe import GraphEvaluator, Probe
from cgloop.md.system import System
from cgloop.model.compilation import quickly
from cgloop.model.graph import Graph, build_graph, graph_sizes, pad_graph
from cgloop.model.hybrid import Model, Params, energy_and_forces
from cgloop.model.terms import TERM_NAMES

PERTURBATION_A = 0.3
FAR_A = 500.0
N_COPIES = 3
PADDING = 3

CASES = {
    "held-out": "the bundle was not made from these parameters, or this machine compiles the module differently",
    "perturbed": "a term behaves differently away from equilibrium, or single precision does not suffice there",
    "padded": "padding leaks into forces or energies: a mask is not applied",
    "permuted": "something depends on the order of beads that should not: indices of bonds, angles, dihedrals or edges",
    "two chains": "topology is not an input of the module everywhere: terms cross the break between two chains",
    "replicas": "replicas of one instance see each other, or come back in another order",
    "far from the origin": "the centre is not subtracted before positions become float32",
    "across the boundary": "positions are not unwrapped with LAMMPS's image flags",
}
"""Cases, in order, and what it most likely means if one fails while those before it pass."""


@cache
def compiled_reference(model: Model) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """`energy_and_forces` of a model, (params, positions, graph); one compilation for each size and precision."""
    return jax.jit(partial(energy_and_forces, model), compiler_options=quickly())


class Reference:
    """The model in JAX for frames of one protein, on a graph without skin."""

    def __init__(self, model: Model, params: Params, system: System):
        """Args:
        model, params: the energy function.
        system: the protein.
        """
        self._function, self._params = compiled_reference(model), params
        self._cutoff, self._system = model.cutoff_A, system
        n = system.n_beads
        # The same sizes for every frame, and for the protein with a bond missing: one compilation.
        self._sizes = _sizes(system) | {"edges": max(1, n * (n - 1))}

    def of(self, system: System) -> "Reference":
        """The same for a system of as many beads, and not more bonds."""
        other = copy(self)
        other._system = system
        return other

    def __call__(self, frame: np.ndarray, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
        """Forces [N, 3] in kcal/mol/Å and energy terms [5] in kcal/mol of a frame [N, 3] in Å."""
        centred = frame - frame.mean(axis=0)
        graph = build_graph(self._system.residue_type, self._system.linked, centred, self._cutoff)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), self._params)
        _, forces, terms = self._function(params, centred.astype(dtype), pad_graph(graph, **self._sizes))
        return np.asarray(forces, float), np.asarray(terms, float)[0]


@dataclass(frozen=True, eq=False)
class Setup:
    """One protein under the conditions of one case.

    Attributes:
        system: the protein, beads in their natural order.
        frames: [F, N, 3] Å, natural order, near the origin.
        evaluate: the artifact, for atoms in LAMMPS's order.
        order: int [N], atom k is bead order[k].
        shift_A: [3], where LAMMPS's atoms are displaced to.
        copies: frames evaluated at once, as replicas.
    """

    system: System
    frames: np.ndarray
    evaluate: Evaluate
    order: np.ndarray
    shift_A: np.ndarray
    copies: int = 1


@dataclass(frozen=True)
class Difference:
    """Of one frame: artifact minus reference.

    Attributes:
        frame: index of the frame.
        positions: [N, 3] Å, natural order.
        forces: [N, 3] kcal/mol/Å.
        expected: [N, 3] kcal/mol/Å, the reference's forces.
        force_square: mean square of the reference's force components.
        energy: kcal/mol; of all replicas together where several ran at once.
        energy_scale: the larger of the energy's magnitude and N kT, kcal/mol.
        term: the energy term that differs most.
    """

    frame: int
    positions: np.ndarray
    forces: np.ndarray
    expected: np.ndarray
    force_square: float
    energy: float
    energy_scale: float
    term: str


def make_setup(case: str, compiled: Compiled, system: System, frames: np.ndarray, skin_A: float, seed: int) -> Setup:
    """The conditions of a case of `CASES`.

    Args:
        case: its name.
        compiled: the artifact.
        system: the protein.
        frames: [F, N, 3] Å.
        skin_A: of the pair list.
        seed: of perturbation and permutation.
    """
    frames = frames - frames.mean(axis=1, keepdims=True)
    random = np.random.Generator(np.random.Philox(seed))
    room = edges_per_replica(system, frames, compiled.cutoff_A)
    setup = Setup(
        system,
        frames,
        ModelEvaluator(compiled, system, skin_A, room),
        np.arange(system.n_beads),
        np.zeros(3),
    )
    if case == "perturbed":
        return replace(setup, frames=frames + PERTURBATION_A * random.standard_normal(frames.shape))
    # The same sizes for all graphs of another making than that of the dynamics: one compilation.
    padded = {name: size + PADDING for name, size in (_sizes(system) | {"edges": room}).items()}
    if case == "padded":
        return replace(setup, evaluate=_on_graphs(compiled, system, setup.order, padded))
    if case == "permuted":
        order = random.permutation(system.n_beads)
        return replace(setup, order=order, evaluate=_on_graphs(compiled, system, order, padded))
    if case == "two chains":
        system = _cut_in_two(system)
        return replace(setup, system=system, evaluate=_on_graphs(compiled, system, setup.order, padded))
    if case == "replicas":
        return replace(setup, copies=N_COPIES)
    if case == "far from the origin":
        return replace(setup, shift_A=np.full(3, FAR_A))
    if case == "across the boundary":
        return replace(setup, shift_A=np.full(3, HALF_BOX_A))
    return setup


def _sizes(system: System) -> dict[str, int]:
    """Sizes of a graph of one replica without edges, at least 1."""
    apart = np.arange(3.0 * system.n_beads).reshape(-1, 3)
    graph = build_graph(system.residue_type, system.linked, apart, 0.0)
    return {name: max(1, size) for name, size in graph_sizes(graph).items()}


def _cut_in_two(system: System) -> System:
    """The same beads with the middle bond missing."""
    linked = np.array(system.linked, bool)
    if len(linked):
        linked[len(linked) // 2] = False
    return replace(system, linked=linked)


def _on_graphs(compiled: Compiled, system: System, order: np.ndarray, sizes: dict[str, int]) -> GraphEvaluator:
    """Evaluates atoms in another order, on graphs padded to given sizes."""
    natural = np.argsort(order)

    def make_graph(centred: np.ndarray) -> Graph:
        graph = build_graph(system.residue_type, system.linked, centred[0][natural], compiled.cutoff_A)
        return relabel(pad_graph(graph), order)

    return GraphEvaluator(compiled, make_graph, sizes)


def relabel(graph: Graph, order: np.ndarray) -> Graph:
    """The graph of one replica with its beads in another order: bead k of the result is bead order[k].

    Edges are sorted by receiver again, so that sums are taken in another order, too.
    """
    new_index = np.argsort(order).astype(np.int32)
    senders, receivers = new_index[graph.senders], new_index[graph.receivers]
    by_receiver = np.lexsort((senders, receivers))
    return graph._replace(
        types=graph.types[order],
        senders=senders[by_receiver],
        receivers=receivers[by_receiver],
        edge_mask=graph.edge_mask[by_receiver],
        separation=graph.separation[by_receiver],
        bonds=new_index[graph.bonds],
        angles=new_index[graph.angles],
        dihedrals=new_index[graph.dihedrals],
    )


def compare(setup: Setup, reference: Callable[..., tuple[np.ndarray, np.ndarray]], kT: float) -> Iterator[Difference]:
    """Run all frames through LAMMPS and compare each with the reference.

    Args:
        setup: the conditions.
        reference: forces and terms of a frame in natural order.
        kT: kcal/mol.
    """
    natural = np.argsort(setup.order)
    n_beads = setup.system.n_beads
    expected = [reference(frame) for frame in setup.frames]
    with Probe(setup.system.residue_type[setup.order], setup.copies, setup.evaluate) as probe:
        for first in range(len(setup.frames)):
            chosen = (first + np.arange(setup.copies)) % len(setup.frames)
            energy, forces = probe(setup.frames[chosen][:, setup.order] + setup.shift_A)
            energy_expected = sum(float(expected[i][1].sum()) for i in chosen)
            assert probe.evaluation is not None
            for row, i in enumerate(chosen):
                expected_forces, expected_terms = expected[i]
                terms = np.abs(probe.evaluation.terms[row] - expected_terms)
                yield Difference(
                    frame=int(i),
                    positions=setup.frames[i],
                    expected=expected_forces,
                    forces=forces[row][natural] - expected_forces,
                    force_square=float(np.mean(expected_forces**2)),
                    energy=energy - energy_expected,
                    energy_scale=max(abs(energy_expected), setup.copies * n_beads * kT),
                    term=_largest_term(terms),
                )


def difference_of(
    frame: int,
    positions: np.ndarray,
    found: tuple[np.ndarray, np.ndarray],
    expected: tuple[np.ndarray, np.ndarray],
    kT: float,
) -> Difference:
    """Return the difference of two evaluations of one frame, each forces [N, 3] and energy terms."""
    (forces, terms), (expected_forces, expected_terms) = found, expected
    energy = float(expected_terms.sum())
    return Difference(
        frame=frame,
        positions=positions,
        expected=expected_forces,
        forces=forces - expected_forces,
        force_square=float(np.mean(expected_forces**2)),
        energy=float(terms.sum()) - energy,
        energy_scale=max(abs(energy), len(positions) * kT),
        term=_largest_term(np.abs(terms - expected_terms)),
    )


def _largest_term(differences: np.ndarray) -> str:
    return TERM_NAMES[int(np.argmax(np.nan_to_num(differences, nan=np.inf)))]
