"""Why two implementations differ, told from the forces themselves: units, order of types, topology, cutoff.

Each suspicion is a change of the reference that would produce what was found. It is confirmed if the changed reference
explains nearly all of the difference, so that a cause is never named without evidence for it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.md.system import System
from cgloop.model.graph import build_graph, pad_graph
from cgloop.model.hybrid import Model, Params, energy_and_forces
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.residues import N_TYPES, RESIDUES

EXPLAINED = 0.02
"""A changed reference explains a difference if it leaves at most this part of it."""

MAX_CUTOFFS = 200
"""Distances that are tried as a cutoff."""

RATIOS = {
    4.184: "energies in kJ/mol instead of kcal/mol",
    1.0 / 4.184: "energies in kcal/mol that were taken for kJ/mol",
    2.0: "a factor of two: k or k/2 of a harmonic term, or every pair counted twice",
    0.5: "a factor of two: k or k/2 of a harmonic term, or every pair counted once for two directions",
    180.0 / np.pi: "forces of angles by radian instead of by degree",
    np.pi / 180.0: "forces of angles by degree instead of by radian",
    10.0: "lengths in Å and nm mixed",
    0.1: "lengths in Å and nm mixed",
}
"""Ratios of forces that have a name."""

ForcesOf = Callable[[np.ndarray, System, float], np.ndarray]


def explain(
    model: Model, params: Params, system: System, positions: np.ndarray, found: np.ndarray, term: str
) -> str | None:
    """The cause of a difference in forces, in words; None if no suspicion is confirmed.

    Args:
        model, params: the reference.
        system: the protein.
        positions: [N, 3] Å.
        found: [N, 3] kcal/mol/Å, the other implementation's forces.
        term: if it is one of the prior's, `found` may be the forces of this term alone, or of all; both are tried.
    """
    if not np.isfinite(found).all():
        return "forces that are no numbers: a table's end, or beads on top of each other"
    candidates = [(model, params, "")]
    if term in PRIOR_TERM_NAMES and model.has_prior:
        alone = replace(model, spec=None, energy="prior-only")
        weights = np.ones(len(PRIOR_TERM_NAMES))
        weights[: len(params["prior"].weights)] = params["prior"].weights
        only = {"prior": params["prior"]._replace(weights=weights * _one_hot(term)), "ml": {}}
        candidates.insert(0, (alone, only, f" (term {term})"))
    if model.has_ml and model.has_prior:
        candidates.append((replace(model, spec=None, energy="prior-only"), {**params, "ml": {}}, ""))
    for one, with_params, words in candidates:
        cause = _explain(_forces_of(one, with_params), system, positions, found, one.cutoff_A)
        if cause is not None:
            return cause + words
    return None


def _one_hot(term: str) -> np.ndarray:
    return np.array([name == term for name in PRIOR_TERM_NAMES], float)


# Parameters are an argument: weights of single terms need no compilation of their own.
_energy_and_forces = jax.jit(energy_and_forces, static_argnums=0)


def _forces_of(model: Model, params: Params) -> ForcesOf:

    def forces(positions: np.ndarray, system: System, cutoff_A: float) -> np.ndarray:
        n = system.n_beads
        graph = build_graph(system.residue_type, system.linked, positions, cutoff_A, edge_capacity=max(1, n * (n - 1)))
        bonds, angles, dihedrals = (max(1, n - size) for size in (1, 2, 3))
        with jax.enable_x64(True):
            padded = pad_graph(graph, bonds=bonds, angles=angles, dihedrals=dihedrals)
            doubles = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
            return np.asarray(_energy_and_forces(model, doubles, jnp.asarray(positions, jnp.float64), padded)[1])

    return forces


def _explain(
    forces_of: ForcesOf, system: System, positions: np.ndarray, found: np.ndarray, cutoff_A: float
) -> str | None:
    expected = forces_of(positions, system, cutoff_A)
    size = np.abs(found - expected).max()
    # A reference that is as far away as the forces are large is not the one that this was meant to be.
    if not size > 0.0:
        return None

    def confirmed(rival: np.ndarray) -> bool:
        return bool(np.abs(found - rival).max() <= EXPLAINED * size)

    if confirmed(np.zeros_like(expected)):
        return "topology: the forces are zero, nothing of this acts at all"
    for name, types in type_orders(system):
        if confirmed(forces_of(positions, replace(system, residue_type=types), cutoff_A)):
            return f"type order: beads have the types of {name}"
    for name, linked in topologies(system):
        if confirmed(forces_of(positions, replace(system, linked=linked), cutoff_A)):
            return f"topology: {name}"
    ratio = float((found * expected).sum() / max((expected**2).sum(), 1e-300))
    if confirmed(ratio * expected):
        known = [words for value, words in RATIOS.items() if abs(ratio / value - 1.0) < 0.01]
        return f"units: forces are {ratio:.4g} times as large{', as with ' + known[0] if known else ''}"
    for factor, words in ((0.1, "nm instead of Å"), (10.0, "Å that were taken for nm")):
        rival = forces_of(factor * positions, system, cutoff_A)
        scale = float((found * rival).sum() / max((rival**2).sum(), 1e-300))
        if confirmed(scale * rival):
            return f"units: positions in {words}"
    return _cutoff(forces_of, system, positions, confirmed, cutoff_A) or _local(system, found - expected)


def type_orders(system: System) -> Iterator[tuple[str, np.ndarray]]:
    """Ways in which types are commonly mistaken, in words, with the types that result."""
    types = np.asarray(system.residue_type, int)
    yield (
        "the residue before in the alphabet: ids that begin at 1 were taken for ids that begin at 0",
        (types - 1) % N_TYPES,
    )
    yield (
        "the residue after in the alphabet: ids that begin at 0 were taken for ids that begin at 1",
        (types + 1) % N_TYPES,
    )
    by_letter = np.argsort([residue.letter for residue in RESIDUES])
    yield "the alphabet of one-letter codes", np.argsort(by_letter)[types]
    yield "the alphabet of one-letter codes, read backwards", by_letter[types]
    order = {kind: number for number, kind in enumerate(dict.fromkeys(types.tolist()))}
    yield "their order of appearance", np.array([order[kind] for kind in types.tolist()])
    yield "the sequence read backwards", types[::-1].copy()
    yield "a single residue", np.zeros_like(types)


def topologies(system: System) -> Iterator[tuple[str, np.ndarray]]:
    """Ways in which the topology is commonly mistaken, in words, with the links that result."""
    linked = np.asarray(system.linked, bool)
    yield "a break between chains is bonded", np.ones_like(linked)
    yield "no bead is bonded", np.zeros_like(linked)
    yield "the chains are read backwards", linked[::-1].copy()
    for place in np.flatnonzero(linked)[:MAX_CUTOFFS]:
        other = linked.copy()
        other[place] = False
        yield f"the bond of {system.residue_label(place)} and {system.residue_label(place + 1)} is missing", other


def _cutoff(
    forces_of: ForcesOf, system: System, positions: np.ndarray, confirmed: Callable[[np.ndarray], bool], cutoff_A: float
) -> str | None:
    """Pairs beyond some distance are missing: every distance between two pairs is tried, from the longest on."""
    vectors = positions[:, None] - positions[None]
    distance = np.sqrt(np.einsum("ijk,ijk->ij", vectors, vectors))[np.triu_indices(len(positions), 1)]
    inside = np.sort(distance[distance < cutoff_A])[::-1]
    for nearer, farther in list(zip(inside[1:], inside, strict=False))[:MAX_CUTOFFS]:
        if confirmed(forces_of(positions, system, 0.5 * (nearer + farther))):
            return f"cutoff: pairs from {farther:.2f} Å on are missing, of {cutoff_A:g} Å"
    return None


def _local(system: System, difference: np.ndarray) -> str | None:
    """A difference of few beads is one of few interactions."""
    size = np.abs(difference).max(axis=1)
    beads = np.flatnonzero(size > 1e-3 * size.max())
    if 2 * len(beads) > system.n_beads:
        return None
    names = ", ".join(system.residue_label(bead) for bead in beads[:6])
    return f"topology: only {len(beads)} of {system.n_beads} beads differ ({names}): single interactions are wrong"
