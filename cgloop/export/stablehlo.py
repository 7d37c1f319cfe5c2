"""The model as a module of its own: StableHLO with symbolic sizes, for any protein and any number of replicas.

Parameters are baked in; topology and pairs are inputs. The module is what LAMMPS runs, and what a cluster without
this package can run with nothing but JAX. A module is for one platform; that for CUDA is made without a GPU.
"""

import contextlib
import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from cgloop.export.manifest import TEXT
from cgloop.model.graph import Graph
from cgloop.model.hybrid import Model, Params, energy_and_forces
from cgloop.model.names import TERM_NAMES

PLATFORMS = ("cpu", "cuda")
"""Platforms of JAX that a bundle has a module for."""

# Number of beads, replicas, edges, bonds, angles, dihedrals: each at least 1, padding has its mask False.
SIZES = ("n", "r", "e", "b", "a", "d")

ARGUMENTS: dict[str, tuple[str, str]] = {
    "positions": ("n, 3", "float32"),
    "types": ("n", "int32"),
    "bead_mask": ("n", "bool"),
    "replica": ("n", "int32"),
    "replica_mask": ("r", "bool"),
    "senders": ("e", "int32"),
    "receivers": ("e", "int32"),
    "edge_mask": ("e", "bool"),
    "separation": ("e", "int32"),
    "bonds": ("b, 2", "int32"),
    "bond_mask": ("b", "bool"),
    "angles": ("a, 3", "int32"),
    "angle_mask": ("a", "bool"),
    "dihedrals": ("d, 4", "int32"),
    "dihedral_mask": ("d", "bool"),
}
"""Shape and type of each argument of the exported function, in order; behind `positions` the fields of `Graph`."""

MEANINGS: dict[str, str] = {
    "positions": "positions of beads in angstrom, not wrapped into a periodic cell",
    "types": "residue type of each bead, `id` of `types`",
    "bead_mask": "whether the bead is there",
    "replica": "number of the replica that the bead belongs to; replicas do not interact",
    "replica_mask": "whether the replica is there",
    "senders": "bead j of each pair within `cutoff_A`; each pair is listed in both directions",
    "receivers": "bead i of each pair",
    "edge_mask": "whether the pair is there",
    "separation": "|i - j| along a chain where an unbroken chain of bonds joins the two; `unlinked_separation` between "
    "different chains and across a chain break",
    "bonds": "beads i, i+1 of each bond",
    "bond_mask": "whether the bond is there",
    "angles": "beads i, i+1, i+2 of each angle, whose vertex is the middle one",
    "angle_mask": "whether the angle is there",
    "dihedrals": "beads i to i+3 of each dihedral",
    "dihedral_mask": "whether the dihedral is there",
    "energies": "energy of each replica, kcal/mol",
    "forces": "force on each bead, kcal/mol/angstrom",
    "terms": "energy of each replica by term, kcal/mol, columns in the order of `energy.terms`",
}
"""What each argument and result holds, as the manifest says it; names in backquotes are its keys."""

RESULTS: dict[str, tuple[str, str]] = {
    "energies": ("r", "float32"),
    "forces": ("n, 3", "float32"),
    "terms": (f"r, {len(TERM_NAMES)}", "float32"),
}


def export_model(model: Model, params: Params, platforms: Sequence[str] = PLATFORMS) -> dict[str, export.Exported]:
    """The energy function with its parameters as serializable modules.

    Args:
        model: what the energy consists of.
        params: its parameters; float32 in the modules.
        platforms: of JAX; they need not be there.

    Returns:
        for each platform the module of a function with the arguments of `ARGUMENTS` and the results of `RESULTS`:
        energies kcal/mol, forces kcal/mol/Å, terms kcal/mol in the order of `TERM_NAMES`. No location of a source file
        is in it.
    """
    constants = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

    def function(positions: jax.Array, *graph: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return energy_and_forces(model, constants, positions, Graph(*graph))

    scope = export.SymbolicScope()
    shapes = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.dtype(dtype))
        for shape, dtype in ARGUMENTS.values()
    ]
    with reproducible_lowering():
        # One function for all: it is traced once.
        compiled = jax.jit(function)
        return {name: export.export(compiled, platforms=(name,))(*shapes) for name in platforms}


@contextlib.contextmanager
def reproducible_lowering() -> Iterator[None]:
    """What is lowered meanwhile is the same for the same function, whatever the machine and whatever ran before."""
    with _without_locations(), _without_collection():
        yield


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Keep paths of source files out of what is lowered meanwhile."""
    options = {"jax_traceback_in_locations_limit": 0, "jax_hlo_source_file_canonicalization_regex": ".*"}
    earlier = {name: getattr(jax.config, name) for name in options}
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in earlier.items():
            jax.config.update(name, value)


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage meanwhile: JAX finds constants again through weak references, and which of them are still
    there decides in what order constants stand in the module. The same model is to give the same bytes."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def signature(module: export.Exported) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    """Arguments and results of a module, written as `ARGUMENTS` and `RESULTS` are. Names are given in order; what has
    none there is called by its number."""

    def described(names: Mapping[str, Any], avals: Sequence[Any]) -> dict[str, tuple[str, str]]:
        called = [*names, *map(str, range(len(names), len(avals)))]
        pairs = zip(called, avals, strict=False)
        return {name: (", ".join(str(size) for size in aval.shape), str(aval.dtype)) for name, aval in pairs}

    return described(ARGUMENTS, module.in_avals), described(RESULTS, module.out_avals)


_LOCATION = re.compile(r' loc\((?:#loc\d*|unknown|"[^"]*"(?:\(#loc\d*\))?)\)')


def readable_text(exported: export.Exported) -> str:
    """The module as MLIR text without notes on where its operations come from."""
    lines = exported.mlir_module().splitlines()
    return "\n".join(_LOCATION.sub("", line) for line in lines if not line.startswith("#loc")) + "\n"


def readable_texts(modules: Mapping[str, export.Exported]) -> dict[str, tuple[str, list[str]]]:
    """Files to read: name to text and the platforms whose module it is. `model.mlir` is that of the first platform,
    and of all others that have the same; the rest have their own, as `model.cuda.mlir`."""
    texts: dict[str, tuple[str, list[str]]] = {}
    for platform, module in modules.items():
        text = readable_text(module)
        for known, platforms in texts.values():
            if text == known:
                platforms.append(platform)
                break
        else:
            texts[f"model.{platform}.mlir" if texts else TEXT] = (text, [platform])
    return texts
