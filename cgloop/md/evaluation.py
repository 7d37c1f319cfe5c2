"""What an evaluation of the model gives for each replica."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from cgloop.model.terms import TERM_NAMES

N_TERMS = len(TERM_NAMES)


class Evaluation(NamedTuple):
    """Results of one evaluation of R replicas of N beads.

    Attributes:
        forces: float64 [R, N, 3], kcal/mol/Å.
        terms: float64 [R, n_terms], energies in kcal/mol in order of `TERM_NAMES`.
        min_distance_A: [R], smallest distance of two beads that are not bonded; inf if none is in reach.
        bond_deviation: [R], largest |length / reference − 1| of a bond.
        max_force: [R], largest force on a bead, kcal/mol/Å.
        finite: bool [R], whether all forces and energies are.
    """

    forces: np.ndarray
    terms: np.ndarray
    min_distance_A: np.ndarray
    bond_deviation: np.ndarray
    max_force: np.ndarray
    finite: np.ndarray

    @property
    def energies(self) -> np.ndarray:
        """[R], kcal/mol, summed in float64."""
        return self.terms.sum(axis=1)


Evaluate = Callable[[np.ndarray], Evaluation]
"""Unwrapped positions, float64 [R, N, 3] in Å, to forces and energies."""


@runtime_checkable
class Restartable(Protocol):
    """A model that keeps something from one evaluation to the next on which rounding depends, as a pair list."""

    def state(self) -> dict[str, np.ndarray]:
        """It, as arrays."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on as the model did that gave this state."""
