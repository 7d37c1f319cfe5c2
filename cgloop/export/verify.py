"""Is a bundle what it says, and does it run here? Checks that need nothing but the bundle."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from cgloop.checks import Check, CheckResult, decide
from cgloop.errors import UserError
from cgloop.export.bundle import Bundle, load_bundle
from cgloop.export.manifest import foreign_files, read_manifest, wrong_files
from cgloop.model.graph import Graph, build_graph
from cgloop.model.hybrid import Model, Params, energy_and_forces
from cgloop.residues import N_TYPES
from cgloop.units import thermal_energy
from cgloop.wording import table

FILES = Check(
    "bundle.files", "files", "", "at most",
    "Files that are missing, that do not have the digest of the manifest, or that the manifest does not name.",
)  # fmt: skip
LOADS = Check("bundle.loads", "loads", "", "at least", "1 if this JAX reads the module for the platform that is here.")
FINITE = Check(
    "bundle.finite", "numbers that are not finite", "", "at most",
    "Energies, forces and energies by term that are no numbers, on random conformations.",
)  # fmt: skip
FORCES = Check(
    "bundle.forces", "forces against the model", "of their RMS", "at most",
    "Largest difference of a force component between the module and the model that is built from the parameters, over "
    "the RMS force of random conformations.",
)  # fmt: skip
ENERGY = Check(
    "bundle.energy", "energies against the model", "", "at most",
    "Largest difference of an energy between the module and the model that is built from the parameters, over the "
    "larger of its magnitude and N kT.",
)  # fmt: skip
GRADIENT = Check(
    "bundle.gradient", "forces against slopes of the energy", "of their RMS", "at most",
    "Largest difference between a force component and −ΔE/Δx of the module's own energies (central differences of "
    "0.01 and 0.02 Å, extrapolated to 0), over the RMS force. The limit leaves room for single precision.",
)  # fmt: skip
CHECKS = (FILES, LOADS, FINITE, FORCES, ENERGY, GRADIENT)

FORCE_LIMIT, ENERGY_LIMIT, GRADIENT_LIMIT = 1e-4, 1e-5, 1e-2
STEP_A = 0.01
ROUNDINGS = 8.0
"""Roundings of the size of an energy that its sum over terms is trusted to stay within."""
COPIES = 24
"""Conformations that are evaluated at once, in all checks: one size, one compilation."""

Function = Callable[[np.ndarray, Graph], tuple[jax.Array, jax.Array, jax.Array]]


class Chains(NamedTuple):
    """Beads of every residue type in two chains of 12 and 8: residue types [20], and linked [19]."""

    types: np.ndarray = np.arange(N_TYPES)
    linked: np.ndarray = np.arange(N_TYPES - 1) != 11

    def graph(self, positions: np.ndarray) -> Graph:
        """Graph of conformations [R, 20, 3], with all pairs."""
        return build_graph(self.types, self.linked, positions, math.inf)


def random_conformations(count: int, bond_A: float = 3.8, apart_A: float = 5.0) -> np.ndarray:
    """float32 [count, 20, 3] Å: random walks that do not cross themselves, always the same.

    Args:
        count: of conformations.
        bond_A: length of every step.
        apart_A: beads that do not follow each other are farther apart than this.
    """
    random = np.random.Generator(np.random.Philox(0))
    return np.stack([_random_walk(random, bond_A, apart_A) for _ in range(count)]).astype(np.float32)


def _random_walk(random: np.random.Generator, bond_A: float, apart_A: float) -> np.ndarray:
    beads = [np.zeros(3)]
    while len(beads) < N_TYPES:
        step = random.standard_normal(3)
        new = beads[-1] + bond_A * step / np.linalg.norm(step)
        if all(np.linalg.norm(new - other) > apart_A for other in beads[:-1]):
            beads.append(new)
        elif random.random() < 0.05:
            # Back out of a pocket.
            del beads[max(1, len(beads) - 4) :]
    return np.array(beads) - np.mean(beads, axis=0)


class Agreement(NamedTuple):
    """How far two functions are apart: of forces over their RMS, and of energies over max(|E|, N kT)."""

    forces: float
    energy: float


def agreement(function: Function, model: Model, params: Params, temperature_K: float) -> Agreement:
    """A module's function, best compiled, against the model in JAX on random conformations; NaN where a number is
    none."""
    frames = random_conformations(COPIES)
    flat, graph = frames.reshape(-1, 3), Chains().graph(frames)
    energy, forces, _ = (np.asarray(part, float) for part in function(flat, graph))
    reference = jax.jit(partial(energy_and_forces, model, params))(flat, graph)
    energy_0, forces_0 = (np.asarray(part, float) for part in reference[:2])
    rms = np.sqrt(np.mean(forces_0**2)) or 1.0
    scale = np.maximum(np.abs(energy_0), N_TYPES * thermal_energy(temperature_K))
    return Agreement(float(np.abs(forces - forces_0).max() / rms), float((np.abs(energy - energy_0) / scale).max()))


def slopes(function: Function, frame: np.ndarray) -> tuple[np.ndarray, float]:
    """−∂E/∂x [20, 3] of a function's own energies in kcal/mol/Å, and what rounding may have added to a component.

    Central differences D(h) and D(2h), from which (4 D(h) − D(2h)) / 3 takes the term in h² away.

    Args:
        function: best compiled.
        frame: [20, 3] Å.
    """
    n = frame.size
    steps = np.eye(n).reshape(n, *frame.shape)
    displaced = np.concatenate([frame + h * steps for h in (STEP_A, -STEP_A, 2 * STEP_A, -2 * STEP_A)])
    displaced = displaced.astype(np.float32)
    graph, energies = Chains().graph(displaced[:COPIES]), np.zeros(len(displaced))
    for first in range(0, len(displaced), COPIES):
        # The last call is filled up with the first ones.
        rows = np.arange(first, first + COPIES) % len(displaced)
        terms = function(displaced[rows].reshape(-1, 3), graph)[2]
        energies[rows] = np.asarray(terms, float).sum(axis=1)
    up, down, up_2, down_2 = energies.reshape(4, n)
    # As far as single precision really moved the coordinate.
    where = displaced.astype(float).reshape(4, n, n)[:, np.arange(n), np.arange(n)]
    near, far = (up - down) / (where[0] - where[1]), (up_2 - down_2) / (where[2] - where[3])
    rounding = ROUNDINGS * np.finfo(np.float32).eps * np.abs(energies).max() / STEP_A
    return -((4 * near - far) / 3).reshape(frame.shape), float(rounding)


def verify(path: Path) -> list[CheckResult]:
    """All checks of a bundle, in the order of `CHECKS`; those that could not be made after a failure are left out.

    Args:
        path: folder of the bundle.

    Raises:
        UserError: no bundle there, or one of another schema version.
    """
    manifest = read_manifest(path)
    wrong = wrong_files(path, manifest) | dict.fromkeys(foreign_files(path, manifest), "is not in manifest.json")
    sentence = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
    results = [_result(FILES, path, len(wrong), 0, sentence or f"{len(manifest['files'])} files have their digests")]
    try:
        bundle = load_bundle(path)
    except UserError as error:
        return [*results, _result(LOADS, path, 0, 1, str(error))]
    results.append(_result(LOADS, path, 1, 1, f"jax {jax.__version__} reads the module for {bundle.platform}"))
    return results + _run(bundle)


def _run(bundle: Bundle) -> list[CheckResult]:
    frames, function = random_conformations(COPIES), jax.jit(bundle.function)
    parts = [np.asarray(part, float) for part in function(frames.reshape(-1, 3), Chains().graph(frames))]
    strange = sum(int((~np.isfinite(part)).sum()) for part in parts)
    numbers = sum(part.size for part in parts)
    found = agreement(function, bundle.model, bundle.params, bundle.temperature_K)
    forces = parts[1].reshape(frames.shape)[0]
    slope, rounding = slopes(function, frames[0])
    # Where there is no force at all, differences count as they are.
    rms = float(np.sqrt(np.mean(forces**2))) or 1.0
    off = float(np.abs(forces - slope).max())
    sizes = f"{COPIES} conformations of {N_TYPES} beads in two chains"
    return [
        _result(FINITE, bundle.path, strange, 0, f"{numbers - strange} of {numbers} numbers are finite, {sizes}"),
        _result(FORCES, bundle.path, found.forces, FORCE_LIMIT, "the module against the model from the parameters"),
        _result(ENERGY, bundle.path, found.energy, ENERGY_LIMIT, "the same"),
        _result(
            GRADIENT, bundle.path, off / rms, GRADIENT_LIMIT + rounding / rms,
            f"at most {off:.1e} kcal/mol/Å, where the RMS force is {rms:.3g}",
        ),
    ]  # fmt: skip


def _result(check: Check, path: Path, value: float, limit: float, reason: str) -> CheckResult:
    verdict = decide(float(value), 0.0, limit, check.direction)
    return CheckResult(check.name, path.name, float(value), 0.0, limit, verdict, reason, unit=check.unit)


def as_text(results: Sequence[CheckResult]) -> str:
    """What `verify` found, for a terminal."""
    titles = {check.name: check.title for check in CHECKS}
    rows = [
        (titles[one.check], f"{one.value:.2g}", f"{one.threshold:.2g}", one.verdict.upper(), one.reason)
        for one in results
    ]
    failed = sum(one.verdict != "pass" for one in results)
    rows += [(check.title, "–", "–", "NOT MADE", "") for check in CHECKS[len(results) :]]
    end = "all checks pass" if not failed else f"{failed} of {len(results)} checks failed"
    return "\n".join([*table(("check", "value", "limit", "", ""), rows, left=(0, 3, 4)), "", end])
