"""The whole energy, E = prior + network: energies per term and replica, forces, and how a model is written down."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model import geometry, terms
from cgloop.model.force import minus_gradient
from cgloop.model.graph import Graph
from cgloop.model.networks import NetworkSpec, make_spec, network_of, spec_from_json, spec_to_json
from cgloop.model.terms import DEFAULT_FORMS, PRIOR_TERM_NAMES, TERM_NAMES, PriorForms, PriorParams, zero_prior
from cgloop.residues import N_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cgloop.config.model import ModelConfig

Params = dict[str, Any]
"""{"prior": PriorParams, "ml": parameters of the network, {} if there is none}"""


@dataclass(frozen=True)
class Model:
    """What the energy consists of; hashable, so that it can be a static argument of jit.

    Attributes:
        spec: the network; None if there is none.
        energy: "hybrid", "prior-only" or "ml-only".
        cutoff_A: pairs up to this distance are needed as edges, Å.
        forms: functions that the prior terms are.
        ml_energy_bound_kcal_per_mol: the learned energy of every bead stays below it; None: there is no bound.
    """

    spec: NetworkSpec | None
    energy: str
    cutoff_A: float
    forms: PriorForms = DEFAULT_FORMS
    ml_energy_bound_kcal_per_mol: float | None = None

    @property
    def has_prior(self) -> bool:
        """Whether the prior terms count."""
        return self.energy != "ml-only"

    @property
    def has_ml(self) -> bool:
        """Whether the network counts."""
        return self.energy != "prior-only"

    @property
    def receptive_field_A(self) -> float:
        """How far from a bead there may be others, not bonded to it, that its energy depends on, Å."""
        return self.cutoff_A if self.spec is None else max(self.cutoff_A, self.spec.hops * self.spec.cutoff_A)


def without_prior(model: Model) -> Model:
    """The network of a model alone, its bound included."""
    return replace(model, energy="ml-only")


def build_model(
    config: "ModelConfig",
    *,
    avg_num_neighbors: float = 9.0,
    trained_types: "Sequence[bool]" = (True,) * N_TYPES,
    energy_scale: float = 1.0,
    forms: PriorForms = DEFAULT_FORMS,
) -> Model:
    """The model that a config describes.

    Args:
        config: section `model:`.
        avg_num_neighbors: mean number of edges per bead in the training set.
        trained_types: 20 flags, whether a residue type was in training.
        energy_scale: kcal/mol, unit of the network's output.
        forms: of the prior's terms, as its file says.
    """
    if config.energy == "prior-only":
        return Model(spec=None, energy=config.energy, cutoff_A=config.cutoff_A, forms=forms)
    spec = make_spec(
        config,
        avg_num_neighbors=float(max(avg_num_neighbors, 1.0)),
        energy_scale=float(energy_scale),
        trained_types=tuple(bool(flag) for flag in trained_types),
    )
    bound = config.ml_energy_bound_kcal_per_mol
    return Model(spec, config.energy, config.cutoff_A, forms, bound)


def init_params(model: Model, prior: PriorParams | None, key: jax.Array) -> Params:
    """Parameters to start from: the given prior (None: one without energy) and a random network."""
    return {
        "prior": zero_prior() if prior is None else prior,
        "ml": {} if model.spec is None else network_of(model.spec).init(model.spec, key),
    }


class Items(NamedTuple):
    """Energies of single interactions, kcal/mol; only terms that the model has are in the dictionaries.

    Attributes:
        bonded: "bond" [B], "angle" [A], "dihedral" [D].
        edges: other terms, [E] of the directed edges.
        beads: terms that are of whole beads, [N].
    """

    bonded: dict[str, jax.Array]
    edges: dict[str, jax.Array]
    beads: dict[str, jax.Array]


def _items(model: Model, params: Params, positions: jax.Array, graph: Graph) -> Items:
    vectors = geometry.edge_vectors(positions, graph.senders, graph.receivers, graph.edge_mask)
    items = Items({}, {}, {})
    if model.has_prior:
        prior, forms = params["prior"], model.forms
        items.bonded["bond"] = terms.bond_energies(prior, positions, graph, forms)
        items.bonded["angle"] = terms.angle_energies(prior, positions, graph, forms)
        items.bonded["dihedral"] = terms.dihedral_energies(prior, positions, graph, forms)
        lengths = geometry.norm(vectors)
        items.edges["repulsion"] = terms.repulsion_energies(prior, lengths, graph, forms, model.cutoff_A)
        if forms.electrostatics:
            items.edges["electrostatics"] = terms.electrostatics_energies(prior, lengths, graph, forms, model.cutoff_A)
        if forms.contacts:
            items.edges["contact"] = terms.contact_energies(prior, lengths, graph, forms)
    if model.spec is not None and model.has_ml:
        network = network_of(model.spec)
        energies = network.energies(
            params["ml"], model.spec, vectors, graph.types, graph.senders, graph.receivers, graph.edge_mask
        )
        if network.per == "bead":
            items.beads["ml"] = _bounded(model, jnp.where(graph.bead_mask, energies, 0.0))
        elif model.ml_energy_bound_kcal_per_mol is None:
            items.edges["ml"] = energies
        else:
            of_beads = jax.ops.segment_sum(energies, graph.receivers, num_segments=positions.shape[0])
            items.beads["ml"] = _bounded(model, of_beads)
    return items


def _bounded(model: Model, energies: jax.Array) -> jax.Array:
    """B tanh(E/B) of the learned energies [N] of beads: E where it is small, never beyond ±B; forces shrink smoothly by
    1 − (E_bounded/B)²."""
    bound = model.ml_energy_bound_kcal_per_mol
    return energies if bound is None else bound * jnp.tanh(energies / bound)


def energy_terms(model: Model, params: Params, positions: jax.Array, graph: Graph) -> dict[str, jax.Array]:
    """Energy of every term for every replica, kcal/mol.

    Args:
        model, params: the energy function.
        positions: float [N, 3] Å, finite also where padded.
        graph: with all pairs within the cutoff; more (a skin) do not matter.

    Returns:
        for each of `TERM_NAMES` float [R]; 0 for terms that the model does not have, and for padding.
    """
    items = _items(model, params, positions, graph)
    n_replicas = graph.replica_mask.shape[0]
    replica = jnp.asarray(graph.replica)

    def per_replica(energies: jax.Array, beads: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(energies, replica[beads], num_segments=n_replicas)

    owners = {"bond": graph.bonds, "angle": graph.angles, "dihedral": graph.dihedrals}
    sums = {name: per_replica(energies, owners[name][:, 0]) for name, energies in items.bonded.items()}
    if items.edges:
        table = per_replica(jnp.stack(list(items.edges.values()), axis=-1), graph.receivers)
        sums |= {name: table[:, column] for column, name in enumerate(items.edges)}
    sums |= {name: jax.ops.segment_sum(values, replica, n_replicas) for name, values in items.beads.items()}
    zero = jnp.zeros(n_replicas, dtype=positions.dtype)
    return {name: sums.get(name, zero) for name in TERM_NAMES}


def energy(model: Model, params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
    """Energy of all replicas together, a scalar in kcal/mol."""
    return sum(jnp.sum(values) for values in energy_terms(model, params, positions, graph).values())


def bead_energies(model: Model, params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
    """Energy [N] of every bead, kcal/mol; they add up to `energy`.

    Bonds are shared by both beads, dihedrals by the two middle ones; angles belong to the middle bead, edges to the
    receiver.
    """
    items = _items(model, params, positions, graph)

    def per_bead(energies: jax.Array, beads: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(energies, jnp.asarray(beads), num_segments=positions.shape[0])

    total = jnp.zeros(positions.shape[0], dtype=positions.dtype)
    for energies in items.edges.values():
        total += per_bead(energies, graph.receivers)
    for energies in items.beads.values():
        total += energies
    if model.has_prior:
        bonded = items.bonded
        total += per_bead(0.5 * bonded["bond"], graph.bonds[:, 0]) + per_bead(0.5 * bonded["bond"], graph.bonds[:, 1])
        total += per_bead(bonded["angle"], graph.angles[:, 1])
        for middle in (1, 2):
            total += per_bead(0.5 * bonded["dihedral"], graph.dihedrals[:, middle])
    return total


def energy_and_forces(
    model: Model, params: Params, positions: jax.Array, graph: Graph
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Energies [R] kcal/mol, forces [N, 3] kcal/mol/Å, and terms [R, n_terms] in the order of `TERM_NAMES`."""
    return energy_of_terms(model, params, positions, graph, TERM_NAMES)


def energy_of_terms(
    model: Model, params: Params, positions: jax.Array, graph: Graph, names: "Sequence[str]"
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `energy_and_forces`, of these terms alone; the energies of all others are zero."""

    def total(positions: jax.Array) -> tuple[jax.Array, jax.Array]:
        by_term = energy_terms(model, params, positions, graph)
        columns = [by_term[name] if name in names else jnp.zeros_like(by_term[name]) for name in TERM_NAMES]
        table = jnp.stack(columns, axis=-1)
        return jnp.sum(table), table

    gradient, table = jax.grad(total, has_aux=True)(positions)
    return jnp.sum(table, axis=-1), -gradient, table


def prior_forces(model: Model, params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
    """Forces [N, 3] of the prior terms alone, kcal/mol/Å (zero for an `ml-only` model). Only the prior is computed; the
    parameters of the network need not be there."""
    alone = replace(model, spec=None)
    return _forces_of(alone, {"prior": params["prior"], "ml": {}}, positions, graph, PRIOR_TERM_NAMES)


def ml_forces(model: Model, params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
    """Forces [N, 3] of the network alone, kcal/mol/Å (zero for a `prior-only` model)."""
    return _forces_of(model, params, positions, graph, ("ml",))


def _forces_of(model: Model, params: Params, positions: jax.Array, graph: Graph, names: tuple[str, ...]) -> jax.Array:
    def total(params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
        by_term = energy_terms(model, params, positions, graph)
        return sum(jnp.sum(by_term[name]) for name in names)

    return minus_gradient(total)(params, positions, graph)


def term_forces(model: Model, params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
    """Forces [n_terms, N, 3] of every term, kcal/mol/Å, in the order of `TERM_NAMES`."""
    return jnp.stack([_forces_of(model, params, positions, graph, (name,)) for name in TERM_NAMES])


def model_to_json(model: Model) -> dict[str, Any]:
    """A model as plain JSON data; without a bound it is as it was before there were bounds."""
    data = asdict(replace(model, spec=None))
    if model.ml_energy_bound_kcal_per_mol is None:
        data.pop("ml_energy_bound_kcal_per_mol")
    return data | {"spec": None if model.spec is None else spec_to_json(model.spec)}


def model_from_json(data: dict[str, Any]) -> Model:
    """The model that `model_to_json` wrote.

    Raises:
        TypeError: unknown or missing keys; `forms` and the bound may be missing, as in models older than them.
        ValueError: a network that is not known here.
    """
    spec = None if data["spec"] is None else spec_from_json(data["spec"])
    return Model(**{**data, "spec": spec, "forms": PriorForms(**data.get("forms", {}))})


def flatten_params(params: Params) -> dict[str, np.ndarray]:
    """Parameters as named arrays, sorted by name: `prior/bond_k`, `ml/layer_0/latent/weight_0`, …"""
    tree = {"prior": params["prior"]._asdict(), "ml": params["ml"]}
    flat: dict[str, np.ndarray] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, child in node.items():
                visit(f"{name}/{key}" if name else key, child)
        else:
            flat[name] = np.asarray(node)

    visit("", tree)
    return dict(sorted(flat.items()))


def unflatten_params(flat: dict[str, np.ndarray]) -> Params:
    """Inverse of `flatten_params`.

    Raises:
        TypeError: a parameter of the prior is missing or unknown.
    """
    tree: Params = {"prior": {}, "ml": {}}
    for name, array in flat.items():
        *path, leaf = name.split("/")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = array
    return {"prior": PriorParams(**tree["prior"]), "ml": tree["ml"]}
