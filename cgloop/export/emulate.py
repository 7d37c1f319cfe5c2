"""A `model.ptb` run here, on a CPU, as LAMMPS and its plugin would run it: what is tested is the file itself.

The StableHLO text of the file is compiled for CPUs; nothing else of the exporter is used. Around it is written anew
what LAMMPS does (a domain of own beads and ghosts, neighbour lists with a skin, forces of ghosts sent back) and what
the plugin does (indices, padding, room that grows). This is no proof that the plugin, which is in no registry, reads
the file: its parser is another one, of an older XLA.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from google.protobuf.message import DecodeError
from jax import export
from jax.extend import mlir
from scipy.spatial import cKDTree

from cgloop.errors import UserError
from cgloop.export.chemtrain_deploy import ARGUMENTS, PLATFORM, RESULTS, SIMPLE_SPARSE, UNIT_STYLE, ModelMessage
from cgloop.model.compilation import quickly
from cgloop.model.graph import build_graph, find_edges
from cgloop.model.hybrid import Model, Params, energy_and_forces, without_prior

STABLEHLO = "1.8.5"
"""Version of StableHLO whose operations the text has to do with: that of JAX 0.4.37, which the plugin is built with."""

SKIN_A = 2.0
"""Added to all distances of neighbour lists and ghosts; LAMMPS's default in `real` units."""

MAX_TRIALS = 10
"""How often the plugin tries again with more room."""


@dataclass(frozen=True)
class Ptb:
    """Contents of a .ptb file.

    Attributes:
        text: the module.
        cutoff_A: of the network.
        nbr_order: cutoffs that ghosts are needed in, with `newton on` and with `newton off`.
    """

    text: str
    cutoff_A: float
    nbr_order: tuple[int, int]

    def reach_A(self, newton: bool) -> float:
        """How far from its own beads a domain needs others, Å; a skin is added to it."""
        return self.cutoff_A * self.nbr_order[0 if newton else 1]


def read_ptb(path: Path) -> Ptb:
    """Read a file that `write_ptb` wrote.

    Raises:
        UserError: it is not there, no such message, or of another kind; or its module asks for more than StableHLO.
    """
    remedy = "export the model again"
    message: Any = ModelMessage()
    try:
        message.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"cannot be read: {error}", where=path, remedy=remedy) from None
    found = message.neighbor_list
    kind = (found.type, found.half_list, len(found.nbr_order), message.unit_style)
    if kind != (SIMPLE_SPARSE, False, 2, UNIT_STYLE):
        raise UserError(
            f"not a sparse whole neighbour list in `{UNIT_STYLE}` units: only such files can be emulated",
            where=path,
            remedy=remedy,
        )
    # A check of sizes is all that may be called; whatever else has a name is special to a platform.
    called = set(re.findall(r"custom_call @([\w.]+)", message.mlir_module)) - {"shape_assertion"}
    if called:
        raise UserError(f"the module calls {', '.join(sorted(called))}", where=path, remedy=remedy)
    try:
        _portable(message.mlir_module)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"no module in StableHLO {STABLEHLO}: {reason}", where=path, remedy=remedy) from None
    order_on, order_off = found.nbr_order
    return Ptb(message.mlir_module, found.cutoff, (order_on, order_off))


def _portable(text: str) -> bytes:
    return bytes(mlir.serialize_portable_artifact(text, STABLEHLO))


def runnable(text: str) -> Callable[..., tuple[jax.Array, ...]]:
    """The function that a module's text says, to be jitted, on the platform of this process.

    Args:
        text: StableHLO with the arguments and results of `chemtrain_deploy`, as `read_ptb` has found it readable.
    """
    scope = export.SymbolicScope()

    def shapes(described: Mapping[str, tuple[str, str]]) -> list[jax.ShapeDtypeStruct]:
        return [
            jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.dtype(dtype))
            for shape, dtype in described.values()
        ]

    # A function that does nothing but has the same signature, in whose place the text is put: so JAX itself refines
    # its symbolic sizes and compiles it.
    nothing = jax.jit(lambda *_: tuple(jnp.zeros(one.shape, one.dtype) for one in shapes(RESULTS)), keep_unused=True)
    checks = [export.DisabledSafetyCheck.platform()]
    empty = export.export(nothing, platforms=(PLATFORM,), disabled_checks=checks)(*shapes(ARGUMENTS))
    return replace(empty, mlir_module_serialized=_portable(text), uses_global_constants=True).call


class Domain(NamedTuple):
    """The beads that a rank knows.

    Attributes:
        positions: [n, 3] Å; own beads first, then ghosts.
        types: int [n], LAMMPS's types.
        n_local: how many are its own.
        bead: int [n], which bead of the whole system each is, or is an image of.
    """

    positions: np.ndarray
    types: np.ndarray
    n_local: int
    bead: np.ndarray


def split(
    positions: np.ndarray, types: np.ndarray, rank: np.ndarray, reach_A: float, box_A: np.ndarray | None = None
) -> list[Domain]:
    """Domains of a system, each with the ghosts within reach of its own beads and no others.

    Args:
        positions: [N, 3] Å.
        types: int [N], LAMMPS's types.
        rank: int [N], who owns each bead; ranks up to the largest, also such as own nothing.
        reach_A: distance.
        box_A: [3], a periodic box at least as large as `reach_A`; None: there is none.
    """
    shifts = np.zeros((1, 3)) if box_A is None else np.indices((3, 3, 3)).reshape(3, -1).T * box_A - box_A
    shifts = shifts[np.argsort(np.any(shifts != 0, axis=1), kind="stable")]
    images = (positions + shifts[:, None]).reshape(-1, 3)
    bead = np.tile(np.arange(len(positions)), len(shifts))
    is_itself = np.arange(len(images)) < len(positions)
    domains = []
    for number in range(int(rank.max()) + 1):
        own = np.flatnonzero(rank == number)
        near = np.zeros(len(images), dtype=bool)
        if len(own):
            near = np.isfinite(cKDTree(positions[own]).query(images, distance_upper_bound=reach_A)[0])
        ghosts = np.flatnonzero(near & ~(is_itself & (rank[bead] == number)))
        known = np.concatenate([own, ghosts])
        domains.append(Domain(images[known], types[bead[known]], len(own), bead[known]))
    return domains


class Pairs(NamedTuple):
    """A neighbour list of LAMMPS, whole: both directions of a pair, where both beads have a list.

    Attributes:
        centres, neighbors: int [P]. Bits above those of an index may say that a pair is special.
    """

    centres: np.ndarray
    neighbors: np.ndarray


def list_pairs(domain: Domain, cutoff_A: float, *, of_ghosts: bool) -> Pairs:
    """Neighbours of own beads, or of ghosts as well, up to a cutoff and the skin."""
    neighbors, centres = find_edges(domain.positions, cutoff_A + SKIN_A)
    listed = np.full(len(centres), True) if of_ghosts else centres < domain.n_local
    return Pairs(centres[listed], neighbors[listed])


@lru_cache(maxsize=8)
def _compiled(text: str, options: tuple[tuple[str, Any], ...]) -> Callable[..., tuple[jax.Array, ...]]:
    return jax.jit(runnable(text), compiler_options=dict(options))


@dataclass
class Room:
    """Sizes of the arrays that the function is compiled for; edges start at one, as in the plugin."""

    beads: int = 0
    pairs: int = 0
    edges: int = 1


class Plugin:
    """One rank's plugin.

    Args:
        ptb: the file.
        newton: LAMMPS's setting.
        multiplier: how much more room is taken than is needed.
        room: to start with.
        compiler_options: of XLA.
    """

    def __init__(
        self,
        ptb: Ptb,
        *,
        newton: bool,
        multiplier: float = 1.1,
        room: Room | None = None,
        compiler_options: Mapping[str, Any] | None = None,
    ):
        self.ptb, self.newton, self.multiplier = ptb, newton, multiplier
        self.room = room or Room()
        self._function = _compiled(ptb.text, tuple(sorted((compiler_options or {}).items())))

    def pairs(self, domain: Domain) -> Pairs:
        """The neighbour list that the plugin asks LAMMPS for."""
        order = self.ptb.nbr_order[0 if self.newton else 1]
        return list_pairs(domain, self.ptb.cutoff_A, of_ghosts=order > 1)

    def compute(self, domain: Domain, pairs: Pairs | None = None) -> tuple[np.ndarray, float]:
        """Forces [n, 3] kcal/mol/Å on all beads of a domain, and its energy in kcal/mol.

        Args:
            domain: what the rank knows.
            pairs: another neighbour list than its own.

        Raises:
            RuntimeError: there is still too little room after `MAX_TRIALS`.
        """
        pairs = self.pairs(domain) if pairs is None else pairs
        room, n_beads, n_pairs = self.room, len(domain.positions), len(pairs.centres)
        for _ in range(MAX_TRIALS):
            room.beads = room.beads if n_beads <= room.beads else ceil(self.multiplier * n_beads)
            room.pairs = room.pairs if n_pairs <= room.pairs else ceil(self.multiplier * n_pairs)
            forces, energy, needed, _ = self._function(
                _padded(domain.positions, room.beads, 0, np.float32),
                _padded(domain.types - 1, room.beads, 0, np.int32),
                np.int32(domain.n_local),
                np.int32(n_beads - domain.n_local),
                np.bool_(self.newton),
                _padded(pairs.centres, room.pairs, room.beads, np.int32),
                _padded(pairs.neighbors, room.pairs, room.beads, np.int32),
                np.zeros(room.edges, dtype=bool),
            )
            if int(needed) <= room.edges:
                return np.asarray(forces, np.float64)[:n_beads], float(energy)
            room.edges = min(ceil(self.multiplier * int(needed)), 2 * room.pairs)
        raise RuntimeError(f"no room for {int(needed)} edges after {MAX_TRIALS} trials")


def _padded(values: np.ndarray, size: int, fill: int, dtype: Any) -> np.ndarray:
    out = np.full((size, *values.shape[1:]), fill, dtype=dtype)
    # The special bits of an index may be the sign of an int32, as they are in LAMMPS.
    out[: len(values)] = values.astype(dtype)
    return out


def gather_forces(domains: Sequence[Domain], plugin: Plugin, n_beads: int) -> tuple[np.ndarray, float]:
    """Forces [N, 3] and energy of the whole system: with `newton on` those of ghosts are added to their beads, with
    `newton off` each rank has the whole force on its own."""
    total, energy = np.zeros((n_beads, 3)), 0.0
    for domain in domains:
        forces, of_domain = plugin.compute(domain)
        counted = len(forces) if plugin.newton else domain.n_local
        np.add.at(total, domain.bead[:counted], forces[:counted])
        energy += of_domain
    return total, energy


def compare(
    path: Path,
    model: Model,
    params: Params,
    positions: np.ndarray,
    types: np.ndarray,
    n_domains: Sequence[int] = (1, 3),
) -> dict[str, Any]:
    """How far the file is from the model it was made of, on one conformation, with `newton` on and off.

    Args:
        path: the file.
        model, params: the energy function; its network is compared.
        positions: [N, 3] Å.
        types: int [N], residue types 0..19.
        n_domains: numbers of domains of as many beads each, cut across the longest axis.

    Returns:
        "energy" in kcal/mol and "force_rms" in kcal/mol/Å of the network; "max_force_difference", relative to the
        latter, and "max_energy_difference" in kcal/mol, the largest of all cases; "cases": how many those are.
    """
    ptb, network = read_ptb(path), without_prior(model)
    graph = build_graph(types, np.zeros(len(types) - 1, dtype=bool), positions, network.cutoff_A)
    function = jax.jit(lambda x: energy_and_forces(network, params, x, graph), compiler_options=quickly())
    energy, forces, _ = (np.asarray(part, np.float64) for part in function(np.asarray(positions, np.float32)))
    rms = float(np.sqrt(np.mean(forces**2)))
    axis = np.argmax(np.ptp(positions, axis=0))
    place = np.argsort(np.argsort(positions[:, axis], kind="stable"))
    # Room for all pairs there can be, so that one compiled function does for all cases.
    room = Room(len(types), len(types) * (len(types) - 1), len(types) * (len(types) - 1))
    differences = []
    for newton in (True, False):
        plugin = Plugin(ptb, newton=newton, room=room, compiler_options=quickly())
        for number in n_domains:
            domains = split(positions, types + 1, place * number // len(place), ptb.reach_A(newton) + SKIN_A)
            found, total = gather_forces(domains, plugin, len(positions))
            differences.append((np.max(np.abs(found - forces)) / rms, abs(total - energy.item())))
    of_forces, of_energies = np.max(differences, axis=0)
    return {
        "energy": energy.item(),
        "force_rms": rms,
        "max_force_difference": float(of_forces),
        "max_energy_difference": float(of_energies),
        "cases": len(differences),
    }
