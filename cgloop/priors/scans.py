"""Every prior term along its own coordinate, through the energy function of the model; with what the data say of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from cgloop.model.compilation import quickly
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, Params, energy_terms
from cgloop.model.terms import CHARGES, KEY_NAMES, key_of_type
from cgloop.priors.tables import class_key
from cgloop.residues import N_TYPES
from cgloop.units import DEGREES_PER_RADIAN

BOND_A = np.arange(2.5, 5.51, 0.05)
ANGLE_DEGREES = np.arange(0.0, 180.1, 2.0)
DIHEDRAL_DEGREES = np.arange(-180.0, 180.0, 3.0)
PAIR_A = np.arange(1.0, 12.01, 0.1)
USUAL_BOND_A, USUAL_ANGLE_DEGREES = 3.8, 100.0


def scan_prior(model: Model, params: Params, curves: dict[str, Any]) -> list[dict[str, Any]]:
    """Scans of bonds, angles and dihedrals of every kind of residue, and of pairs of every separation.

    Args:
        model, params: of which only the prior is looked at.
        curves: contents of `curves.json`: where the data are, and their free energy.

    Returns:
        Per scan: `term`, `key` (residues, or the separation), `unit`, `grid`, `energy` (kcal/mol), `known` (bool per
        point, where the data are; empty for pairs), `reference_range` (kcal/mol, highest less lowest free energy of the
        data, None where it is not known). Of pairs that depend on types the energy is the lowest of all types.
    """
    alone = replace(model, energy="prior-only", spec=None)
    constants = {"prior": params["prior"], "ml": {}}
    terms = _Terms(alone, constants)
    data = {entry["term"]: entry for entry in curves["terms"] if entry["term"] in ("bond", "angle", "dihedral")}
    kinds = _one_type_of_each_key(model.forms.keyed)
    names = KEY_NAMES[model.forms.keyed]
    scans = []
    for key, kind in enumerate(kinds):
        scans.append(_scan("bond", names[key], "Å", BOND_A, terms.bonded("bond", [kind] * 2, _bonds()), data))
        energies = terms.bonded("angle", [kind] * 3, _angles())
        scans.append(_scan("angle", names[key], "degree", ANGLE_DEGREES, energies, data))
        for other_key, other in enumerate(kinds):
            energies = terms.bonded("dihedral", [kind, kind, other, other], _dihedrals())
            name = names[key] if len(kinds) == 1 else f"{names[key]}-{names[other_key]}"
            scans.append(_scan("dihedral", name, "degree", DIHEDRAL_DEGREES, energies, data))
    pairs = _different_pairs(model)
    for row, (first, _) in enumerate(model.forms.separations):
        energies = np.min([terms.pair(pair, first) for pair in pairs], axis=0)
        scans.append(_scan("pair", class_key(row, model.forms), "Å", PAIR_A, energies, {}))
    return scans


@cache
def _compiled(model: Model) -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(partial(energy_terms, model), compiler_options=quickly())


class _Terms:
    """Energies of the prior for many conformations of a few beads at once, float64."""

    def __init__(self, model: Model, params: Params):
        self._params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        self._function = _compiled(model)
        self._cutoff = model.cutoff_A

    def _terms(self, types: Sequence[int], linked: Sequence[bool], frames: np.ndarray, separation: int | None = None):
        graph = build_graph(np.array(types), np.array(linked), frames, 2.0 * self._cutoff)
        if separation is not None:
            graph = graph._replace(separation=np.full_like(graph.separation, separation))
        with jax.enable_x64(True):
            found = self._function(self._params, frames.reshape(-1, 3).astype(np.float64), graph)
            return {name: np.asarray(values) for name, values in found.items()}

    def bonded(self, term: str, types: Sequence[int], frames: np.ndarray) -> np.ndarray:
        """Energies [F] of one term of a chain of beads in frames [F, n, 3]."""
        return self._terms(types, [True] * (len(types) - 1), frames)[term]

    def pair(self, types: tuple[int, int], separation: int) -> np.ndarray:
        """Energies of a pair, all terms that act between beads that are not bonded, along `PAIR_A`."""
        frames = np.zeros((len(PAIR_A), 2, 3))
        frames[:, 1, 0] = PAIR_A
        found = self._terms(types, [False], frames, separation)
        return found["repulsion"] + found["electrostatics"] + found["contact"]


def _one_type_of_each_key(keyed: str) -> list[int]:
    keys = key_of_type(keyed)
    return [int(np.argmax(keys == key)) for key in range(len(KEY_NAMES[keyed]))]


def _different_pairs(model: Model) -> list[tuple[int, int]]:
    """Pairs of residue types whose energies may differ."""
    if model.forms.contacts:
        return [(i, j) for i in range(N_TYPES) for j in range(i + 1)]
    if model.forms.electrostatics:
        positive, negative, none = (int(np.argmax(charge == CHARGES)) for charge in (1, -1, 0))
        return [(none, none), (positive, positive), (positive, negative)]
    return [(0, 0)]


def _bonds() -> np.ndarray:
    frames = np.zeros((len(BOND_A), 2, 3))
    frames[:, 1, 0] = BOND_A
    return frames


def _angles() -> np.ndarray:
    theta = ANGLE_DEGREES / DEGREES_PER_RADIAN
    frames = np.zeros((len(theta), 3, 3))
    frames[:, 0, 0] = USUAL_BOND_A
    frames[:, 2, 0], frames[:, 2, 1] = USUAL_BOND_A * np.cos(theta), USUAL_BOND_A * np.sin(theta)
    return frames


def _dihedrals() -> np.ndarray:
    """Four beads with usual bonds and angles, turned about the middle bond; cis is 0."""
    phi, theta = DIHEDRAL_DEGREES / DEGREES_PER_RADIAN, USUAL_ANGLE_DEGREES / DEGREES_PER_RADIAN
    along, across = -USUAL_BOND_A * np.cos(theta), USUAL_BOND_A * np.sin(theta)
    frames = np.zeros((len(phi), 4, 3))
    frames[:, 0, 0], frames[:, 0, 1] = -along, across
    frames[:, 2, 0] = USUAL_BOND_A
    frames[:, 3, 0] = USUAL_BOND_A + along
    frames[:, 3, 1], frames[:, 3, 2] = across * np.cos(phi), across * np.sin(phi)
    return frames


def _scan(
    term: str, key: str, unit: str, grid: np.ndarray, energy: np.ndarray, data: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    known, spread = np.zeros(0, bool), None
    if (entry := data.get(term)) is not None and entry["samples"]:
        centres = np.array(entry["grid"])
        seen = np.array(entry["density"]) > 0
        reference = np.array([np.nan if value is None else value for value in entry["reference"]])
        if term == "dihedral":
            # Periodic: every point of the scan is at one of the bins.
            nearest = np.abs((grid[:, None] - centres + 180.0) % 360.0 - 180.0).argmin(axis=1)
            known = seen[nearest]
        else:
            known = (grid >= centres[seen].min()) & (grid <= centres[seen].max())
        if np.isfinite(reference).any():
            spread = float(np.nanmax(reference) - np.nanmin(reference))
    return {
        "term": term, "key": key, "unit": unit, "grid": np.round(grid, 6), "energy": energy, "known": known,
        "reference_range": spread,
    }  # fmt: skip
