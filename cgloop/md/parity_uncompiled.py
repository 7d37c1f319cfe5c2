"""Parity without a compiler on one side: sums that XLA compiles wrongly would be the same in LAMMPS and in JAX."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import jax
import numpy as np

from cgloop.md.parity_cases import Difference, Reference, Setup, compare, difference_of
from cgloop.md.system import System
from cgloop.md.uncompiled import Uncompiled
from cgloop.model.hybrid import Model, Params, energy_and_forces

ARTIFACT, DOUBLE = "uncompiled", "uncompiled, float64"

UNCOMPILED_CASES = {
    ARTIFACT: "XLA compiles the artifact wrongly on this machine: another version of JAX may be right, see "
    "`cgloop doctor`",
    DOUBLE: "XLA compiles the model wrongly in float64 on this machine: another version of JAX may be right, see "
    "`cgloop doctor`",
}
"""Cases, and what it most likely means if one fails while those before it pass."""

MAX_FRAMES = 2
"""Tracing the model takes 1 to 2 s, a frame of 10 beads 0.05 s. A program that is wrong is wrong in every frame."""

Forces = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""A frame [N, 3] in Å to forces [N, 3] in kcal/mol/Å and energy terms in kcal/mol."""


class UncompiledReference(Reference):
    """The model in float64 for frames of one protein, evaluated by NumPy."""

    def __init__(self, model: Model, params: Params, system: System):
        """Args:
        model, params: the energy function.
        system: the protein.
        """
        super().__init__(model, params, system)
        self._function = Uncompiled(partial(energy_and_forces, model))

    def __call__(self, frame: np.ndarray, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
        with jax.enable_x64(True):
            return super().__call__(frame, dtype)


def compare_uncompiled(
    setup: Setup, compiled: Reference, uncompiled: Forces, kT: float
) -> Iterator[tuple[str, Difference]]:
    """Compare the artifact in LAMMPS, and the model compiled in float64, with the model evaluated by NumPy in float64.

    Args:
        setup: held-out frames and the artifact.
        compiled: the model in JAX.
        uncompiled: the same by NumPy.
        kT: kcal/mol.
    """
    frames = setup.frames[:MAX_FRAMES]
    expected = [uncompiled(frame) for frame in frames]
    in_order = iter(expected)
    for difference in compare(replace(setup, frames=frames), lambda _frame: next(in_order), kT):
        yield ARTIFACT, difference
    for number, (frame, (forces, terms)) in enumerate(zip(frames, expected, strict=True)):
        with jax.enable_x64(True):
            found, found_terms = compiled(frame, np.float64)
        yield DOUBLE, difference_of(number, frame, (found, found_terms), (forces, terms), kT)
