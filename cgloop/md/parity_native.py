"""The artifact's prior against LAMMPS's own bond, angle, dihedral and pair styles, term by term and all together.

Energies of the terms are those that the exported module gives; forces of single terms, which it does not give, are
those of the same parameters in JAX, in float64. LAMMPS's side knows nothing of our graphs, separations and masks.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.export.lammps_styles import native_styles
from cgloop.md.evaluation import Evaluate
from cgloop.md.native import NativeProbe
from cgloop.md.parity_cases import PERTURBATION_A, Difference
from cgloop.md.system import System
from cgloop.model.compilation import quickly
from cgloop.model.graph import Graph, build_graph
from cgloop.model.hybrid import Model, Params, energy_terms
from cgloop.model.names import PRIOR_TERM_NAMES

NATIVE_CASES = {
    "native styles": "a prior term is another function than LAMMPS's style of it, or acts between other beads",
    "native styles, perturbed": "a prior term and LAMMPS's style of it part away from equilibrium, as at a table's end",
}
"""Cases of this comparison, in order, and what it most likely means if one fails while those before it pass."""

TOGETHER = "all prior terms together"


class NativePrior:
    """One protein: the artifact's prior, and the same prior in LAMMPS's styles."""

    def __init__(self, model: Model, params: Params, evaluate: Evaluate, system: System):
        """Args:
        model, params: of the bundle.
        evaluate: its module, for one replica.
        system: the protein.
        """
        self.system, self._module = system, evaluate
        self.model, self.prior = replace(model, spec=None, energy="prior-only"), params["prior"]
        forms = model.forms
        optional = {"electrostatics": forms.electrostatics, "contact": forms.contacts}
        self.terms = [name for name in PRIOR_TERM_NAMES if optional.get(name, True)]
        self._columns = [PRIOR_TERM_NAMES.index(name) for name in self.terms]

        def table(positions: jax.Array, graph: Graph) -> jax.Array:
            by_term = energy_terms(self.model, {"prior": self.prior, "ml": {}}, positions, graph)
            return jnp.stack([by_term[name].sum() for name in self.terms])

        self._slopes = jax.jit(jax.jacrev(table), compiler_options=quickly())

    def expected(self, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Forces [T, N, 3] and energies [T] of the terms, for a frame [N, 3] in Å."""
        system = self.system
        room = max(1, system.n_beads * (system.n_beads - 1))
        graph = build_graph(system.residue_type, system.linked, frame, self.model.cutoff_A, edge_capacity=room)
        with jax.enable_x64(True):
            forces = -np.asarray(self._slopes(jnp.asarray(frame, jnp.float64), graph))
        return forces, self._module(frame[None]).terms[0, self._columns]

    def probes(self) -> Iterator[tuple[str, NativeProbe]]:
        """LAMMPS with every single term, and with all of them; each is to be closed by its user."""
        make = partial(native_styles, self.model, self.prior, self.system.residue_type, self.system.linked)
        for name in self.terms:
            yield name, NativeProbe(make(terms=[name]), self.system.residue_type)
        yield TOGETHER, NativeProbe(make(), self.system.residue_type)


def compare_native(case: str, prior: NativePrior, frames: np.ndarray, seed: int, kT: float) -> list[Difference]:
    """LAMMPS's styles minus the artifact's prior, for each frame and term; and all styles at once minus their sum.

    Args:
        case: of `NATIVE_CASES`.
        prior: of one protein.
        frames: [F, N, 3] Å.
        seed: of the perturbation.
        kT: kcal/mol.
    """
    frames = frames - frames.mean(axis=1, keepdims=True)
    if "perturbed" in case:
        random = np.random.Generator(np.random.Philox(seed))
        frames = frames + PERTURBATION_A * random.standard_normal(frames.shape)
    expected = [prior.expected(frame) for frame in frames]
    square = [float(np.mean(forces.sum(axis=0) ** 2)) for forces, _ in expected]
    sums = [(np.zeros_like(frame), 0.0) for frame in frames]
    found = []
    for number, (term, probe) in enumerate(prior.probes()):
        with probe:
            for index, (frame, (forces, energies)) in enumerate(zip(frames, expected, strict=True)):
                theirs, their_energy = probe(frame)
                if term == TOGETHER:
                    of_term, energy = sums[index]
                else:
                    of_term, energy = forces[number], float(energies[number])
                    sums[index] = sums[index][0] + theirs, sums[index][1] + their_energy
                found.append(
                    Difference(
                        frame=index,
                        positions=frame,
                        forces=theirs - of_term,
                        expected=of_term,
                        # A small term is held against the whole prior, as in the sum of forces that acts.
                        force_square=square[index],
                        energy=their_energy - energy,
                        energy_scale=max(abs(energy), prior.system.n_beads * kT),
                        term=term,
                    )
                )
    return found
