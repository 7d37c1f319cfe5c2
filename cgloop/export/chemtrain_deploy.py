"""`model.ptb`: the network as LAMMPS's `pair_style chemtrain_deploy` takes it. Prior terms are LAMMPS's own styles.

The file is the message that chemtrain 0.2.0 writes and the plugin of that time reads (P. Fuchs, W. Chen, S. Thaler,
J. Zavadlav, arXiv:2506.04055): a function as StableHLO text, and what kind of neighbour list it wants. The plugin calls
it on every rank with the beads of a domain, first those it owns ("local"), then copies of others ("ghosts"), then
padding. docs/deploy.md has the protocol, and where each fact was found.

What makes a sum over domains right: the energy of a pair belongs to the bead that it is the environment of, that of a
bead to the domain that owns it, and of these the function adds up its own. Forces are slopes

- with `newton on` of that sum, by all beads: LAMMPS adds those of ghosts to their owners;
- with `newton off` of the sum over all beads, ghosts included, by its own beads: nothing is sent. Ghosts then need
  neighbours of their own, twice as far away.
"""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from jax import export

from cgloop.export.stablehlo import readable_text, reproducible_lowering
from cgloop.model.graph import Graph
from cgloop.model.hybrid import Model, Params, bead_energies, without_prior
from cgloop.model.networks import NETWORKS, NetworkSpec, name_of
from cgloop.model.topology import UNLINKED

log = logging.getLogger("cgloop.export")

PTB = "model.ptb"
PLATFORM = "cuda"
"""The plugin asks for a module of this platform, wherever it runs it. No operation of ours is special to one."""

CALLING_CONVENTION = 9
"""Of `jax.export`; the plugin's loader knows no newer one."""

UNIT_STYLE = "real"
SIMPLE_SPARSE = 0
"""The kind of neighbour list: pairs, in two arrays of indices."""

CHECKED = "by emulation, not with the plugin"

# Beads n - 1, listed pairs p - 1, edges that are computed e. A rank may own nothing and see nothing, and symbolic sizes
# are at least 1: so there is one bead and one pair more inside, which is also where indices of padding point to.
ARGUMENTS: dict[str, tuple[str, str]] = {
    "positions": ("n - 1, 3", "float32"),
    "species": ("n - 1", "int32"),
    "n_local": ("", "int32"),
    "n_ghost": ("", "int32"),
    "newton": ("", "bool"),
    "senders": ("p - 1", "int32"),
    "receivers": ("p - 1", "int32"),
    "mask": ("e", "bool"),
}
"""Shape and type of each argument, in order. Of `mask` only the size counts: so many edges there is room for."""

RESULTS: dict[str, tuple[str, str]] = {
    "forces": ("n - 1, 3", "float32"),
    "energy": ("", "float32"),
    "edges_needed": ("", "int32"),
    "pairs_within_cutoff": ("", "int32"),
}
"""Shape and type of each result, in order. If more edges are needed than there is room for, the plugin throws the
results away and calls again with more room."""

_NEIGHBOR_MASK = 0x1FFFFFFF
"""Bits of an index in LAMMPS's neighbour lists; above them stands whether the pair is special, that is, bonded."""


def _describe_message() -> type[Message]:
    """Class of the message `chemsim.Model`, made without generated code."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="model.proto", package="chemsim", syntax="proto2")
    model = file.message_type.add(name="Model")

    def add(message: Any, name: str, number: int, kind: int, label: int, type_name: str | None = None) -> None:
        message.field.add(name=name, number=number, type=kind, label=label, type_name=type_name)

    neighbors, kinds = ".chemsim.Model.NeighborList", ".chemsim.Model.NeighborListType"
    add(model, "mlir_module", 1, field.TYPE_STRING, field.LABEL_REQUIRED)
    add(model, "neighbor_list", 4, field.TYPE_MESSAGE, field.LABEL_REQUIRED, neighbors)
    add(model, "unit_style", 5, field.TYPE_STRING, field.LABEL_OPTIONAL)
    nested = model.nested_type.add(name="NeighborList")
    add(nested, "type", 1, field.TYPE_ENUM, field.LABEL_REQUIRED, kinds)
    add(nested, "cutoff", 2, field.TYPE_FLOAT, field.LABEL_REQUIRED)
    add(nested, "nbr_order", 3, field.TYPE_INT32, field.LABEL_REPEATED)
    add(nested, "half_list", 4, field.TYPE_BOOL, field.LABEL_OPTIONAL)
    enum = model.enum_type.add(name="NeighborListType")
    for name, number in (("SIMPLE_SPARSE", SIMPLE_SPARSE), ("SIMPLE_DENSE", 2), ("DEVICE_SPARSE", 1)):
        enum.value.add(name=name, number=number)
    # A pool of its own: where chemtrain is installed, another file of that name is in the default one.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("chemsim.Model"))


ModelMessage = _describe_message()
"""Class of the message in a .ptb file."""


def neighbor_orders(spec: NetworkSpec) -> tuple[int, int]:
    """How many cutoffs away a domain has to know beads, with `newton on` and with `newton off`.

    With `newton off` forces on own beads are also from energies of ghosts, `hops` cutoffs away, each of which reaches
    as far again.
    """
    return spec.hops, 2 * spec.hops


def export_network(model: Model, params: Params) -> export.Exported:
    """The network as the function that the plugin calls.

    Args:
        model, params: with a network. What the model has beside it is left out.

    Returns:
        Module of a function with the arguments of `ARGUMENTS` and the results of `RESULTS`, kcal/mol and Å, for
        `PLATFORM`, in `CALLING_CONVENTION`. No location of a source file is in it.

    Raises:
        ValueError: the model has no network, or this JAX does not write that convention.
    """
    if model.spec is None or not model.has_ml:
        raise ValueError("the model has no network")
    spec, network = model.spec, without_prior(model)
    constants = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)

    def function(
        positions: jax.Array,
        species: jax.Array,
        n_local: jax.Array,
        n_ghost: jax.Array,
        newton: jax.Array,
        senders: jax.Array,
        receivers: jax.Array,
        mask: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        outside = positions.shape[0]
        beads = jnp.arange(outside + 1, dtype=jnp.int32)
        local, real = beads < n_local, beads < n_local + n_ghost
        centres, neighbors = (_within(index, outside) for index in (senders, receivers))
        if spec.hops == 1:
            # The list is of own beads alone. In it they are the senders; in later versions of chemtrain the receivers.
            turned = newton & ~local[centres]
            centres, neighbors = jnp.where(turned, neighbors, centres), jnp.where(turned, centres, neighbors)
        with_outside = _one_row_more(positions)
        vectors = with_outside[neighbors] - with_outside[centres]
        near = real[centres] & real[neighbors] & (jnp.sum(vectors * vectors, axis=-1) <= spec.cutoff_A**2)
        counted = near & _counted_beads(spec, local, newton, centres, neighbors, near)[centres]
        needed = jnp.sum(counted, dtype=jnp.int32)
        # A stable sort, because it is one plain operation: a cumulated sum of symbolic length is not.
        order = jnp.argsort((~counted).astype(jnp.int32), stable=True)
        slots = jnp.arange(mask.shape[0], dtype=jnp.int32)
        chosen = order.at[slots].get(mode="clip")
        graph = _graph_of_pairs(_one_row_more(species), real, neighbors[chosen], centres[chosen], slots < needed)

        def minus_energy(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
            energies = bead_energies(network, constants, _one_row_more(positions), graph)
            own = jnp.sum(jnp.where(local, energies, 0.0))
            return -jnp.where(newton, own, jnp.sum(jnp.where(real, energies, 0.0))), own

        forces, energy = jax.grad(minus_energy, has_aux=True)(positions)
        return forces, energy, needed, jnp.sum(near, dtype=jnp.int32)

    scope = export.SymbolicScope()
    shapes = [
        jax.ShapeDtypeStruct(export.symbolic_shape(shape, scope=scope), jnp.dtype(dtype))
        for shape, dtype in ARGUMENTS.values()
    ]
    earlier = jax.config.jax_export_calling_convention_version
    with reproducible_lowering():
        try:
            jax.config.update("jax_export_calling_convention_version", CALLING_CONVENTION)
            # The plugin passes all arguments, used or not.
            exported = export.export(jax.jit(function, keep_unused=True), platforms=(PLATFORM,))(*shapes)
        finally:
            jax.config.update("jax_export_calling_convention_version", earlier)
    if exported.calling_convention_version != CALLING_CONVENTION:
        raise ValueError(f"jax {jax.__version__} does not write calling convention {CALLING_CONVENTION}")
    return exported


def _within(index: jax.Array, outside: int) -> jax.Array:
    """Indices without special bits, and one more at the end; whatever is no bead becomes `outside`."""
    plain = jnp.minimum(index & _NEIGHBOR_MASK, outside)
    return jnp.concatenate([plain, jnp.full((1,), outside, dtype=jnp.int32)])


def _one_row_more(values: jax.Array) -> jax.Array:
    return jnp.concatenate([values, jnp.zeros((1, *values.shape[1:]), dtype=values.dtype)])


def _counted_beads(
    spec: NetworkSpec, local: jax.Array, newton: jax.Array, centres: jax.Array, neighbors: jax.Array, near: jax.Array
) -> jax.Array:
    """bool [n]: beads whose environment matters to what is returned; those of other ghosts are not computed.

    An own bead's energy needs environments up to hops − 1 pairs away, those of ghosts that it reaches hops more.
    """
    with_newton, without = (order - 1 for order in neighbor_orders(spec))
    counted = local
    for step in range(without):
        further = counted.at[neighbors].max(counted[centres] & near)
        counted = further if step < with_newton else jnp.where(newton, counted, further)
    return counted


def _graph_of_pairs(
    types: jax.Array, bead_mask: jax.Array, senders: jax.Array, receivers: jax.Array, edge_mask: jax.Array
) -> Graph:
    """Graph of one system without bonds."""
    none = jnp.zeros(1, dtype=bool)
    bonded = {name: jnp.zeros((1, n), dtype=jnp.int32) for name, n in (("bonds", 2), ("angles", 3), ("dihedrals", 4))}
    return Graph(
        types=types,
        bead_mask=bead_mask,
        replica=jnp.zeros_like(types),
        replica_mask=~none,
        senders=senders,
        receivers=receivers,
        edge_mask=edge_mask,
        separation=jnp.full_like(senders, UNLINKED),
        bond_mask=none,
        angle_mask=none,
        dihedral_mask=none,
        **bonded,
    )


def write_ptb(path: Path, model: Model, params: Params) -> dict[str, Any]:
    """Write `model.ptb` of a model's network.

    Args:
        path: the file.
        model, params: the energy function.

    Returns:
        What the manifest of a bundle says of it: with "file" None, and why, if there is none to write. The same model
        gives the same bytes.
    """
    if model.spec is None or not model.has_ml:
        return {"file": None, "reason": "the model has no network"}
    if not export.minimum_supported_calling_convention_version <= CALLING_CONVENTION:
        reason = f"jax {jax.__version__} no longer writes calling convention {CALLING_CONVENTION}"
        log.warning("no %s: %s", path.name, reason)
        return {"file": None, "reason": reason}
    exported = export_network(model, params)
    message: Any = ModelMessage()
    message.mlir_module = readable_text(exported)
    message.neighbor_list.type = SIMPLE_SPARSE
    message.neighbor_list.cutoff = model.spec.cutoff_A
    message.neighbor_list.nbr_order.extend(neighbor_orders(model.spec))
    # Half a list would do with `newton off`; but with it on for bonds alone the plugin gives a whole one unasked.
    message.neighbor_list.half_list = False
    message.unit_style = UNIT_STYLE
    path.write_bytes(message.SerializeToString(deterministic=True))
    return {
        "file": path.name,
        "contains": f"the network {NETWORKS[name_of(model.spec)].title} alone: prior terms are LAMMPS's own styles",
        "message": "chemsim.Model of chemtrain 0.2.0",
        "cutoff_A": float(model.spec.cutoff_A),
        "nbr_order": list(neighbor_orders(model.spec)),
        "half_list": False,
        "unit_style": UNIT_STYLE,
        "species": "LAMMPS type - 1",
        "platform": PLATFORM,
        "calling_convention": exported.calling_convention_version,
        "jax": jax.__version__,
        "checked": CHECKED,
    }
