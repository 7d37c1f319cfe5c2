"""MACE (Batatia et al., arXiv:2206.07697) as `chemutils` has it, the models of chemtrain's authors.

chemutils is in no registry: it comes with https://github.com/tummfm/chemtrain-deploy, and imports what
requirements/chemtrain.txt installs. Its class is called with what its own `mace_neighborlist_pp` gives it; energies of
single residues, which move nothing, are left out.
"""

import importlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp

from cgloop.errors import UserError
from cgloop.model.geometry import norm
from cgloop.model.layers import Params
from cgloop.residues import N_TYPES


@dataclass(frozen=True)
class ChemutilsMaceSpec:
    """Hyper-parameters; hashable, so that it can be a static argument of jit.

    Attributes:
        cutoff_A: beyond this distance beads send no messages, Å.
        symmetry: "O3", the only one that it has.
        n_layers: number of messages.
        max_ell: highest degree of the harmonics.
        correlation: a message is of products of so many neighbours at most.
        n_radial: number of radial basis functions.
        envelope_p: power p of the polynomial envelope.
        species_embedding: length of the vector of a residue type.
        hidden, readout: irreps of a bead, and of the last layer before the energy.
        avg_num_neighbors: mean number of edges per bead in the training set.
        energy_scale: kcal/mol, unit of the network's output.
        trained_types: for each of the 20 residue types, whether it was in training.
    """

    cutoff_A: float = 12.0
    symmetry: str = "O3"
    n_layers: int = 2
    max_ell: int = 2
    correlation: int = 3
    n_radial: int = 8
    envelope_p: int = 6
    species_embedding: int = 32
    hidden: str = "32x0e+32x1o"
    readout: str = "16x0e"
    avg_num_neighbors: float = 9.0
    energy_scale: float = 1.0
    trained_types: tuple[bool, ...] = (True,) * N_TYPES

    @property
    def hops(self) -> int:
        """Cutoffs that the energy of a bead reaches."""
        return self.n_layers


def init_mace(spec: ChemutilsMaceSpec, key: jax.Array) -> Params:
    """Random parameters.

    Raises:
        UserError: chemutils is not installed.
    """
    some = jnp.zeros(2, jnp.int32)
    return _plain_names(_network(spec).init(key, jnp.ones((2, 3)), some, some, some))


def bead_energies(
    params: Params,
    spec: ChemutilsMaceSpec,
    vectors: jax.Array,
    types: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    edge_mask: jax.Array,
) -> jax.Array:
    """Energy [N] in kcal/mol of every bead; arguments as in `allegro.edge_energies`."""
    trained = jnp.asarray(spec.trained_types)[types]
    # Beads at the same place have no direction to each other.
    apart = jnp.any(vectors != 0.0, axis=1) & (norm(vectors) < spec.cutoff_A)
    there = edge_mask & apart & trained[senders] & trained[receivers]
    # As chemutils marks edges that are not there: at the cutoff, and of a bead behind the last, which scatters drop.
    vectors = jnp.where(there[:, None], vectors / spec.cutoff_A, 3**-0.5)
    senders, receivers = (jnp.where(there, beads, types.shape[0]) for beads in (senders, receivers))
    energies = _network(spec).apply(_own_names(params), vectors, types, senders, receivers)
    return jnp.where(trained, spec.energy_scale * energies, 0.0)


def _network(spec: ChemutilsMaceSpec) -> Any:
    """Pure functions `init` and `apply` of (vectors [E, 3] over the cutoff, types [N], senders, receivers [E])."""
    packages = _import()

    def energies(vectors: jax.Array, types: jax.Array, senders: jax.Array, receivers: jax.Array) -> jax.Array:
        mace = packages.model.MACE(
            output_irreps="1x0e",
            num_interactions=spec.n_layers,
            hidden_irreps=spec.hidden,
            readout_mlp_irreps=spec.readout,
            avg_num_neighbors=spec.avg_num_neighbors,
            num_species=N_TYPES,
            max_ell=spec.max_ell,
            correlation=spec.correlation,
            n_radial_basis=spec.n_radial,
            envelope_p=spec.envelope_p,
            embed_dim=spec.species_embedding,
        )
        return mace(packages.e3nn.IrrepsArray("1o", vectors), senders, receivers, types).array[:, 0]

    return packages.haiku.without_apply_rng(packages.haiku.transform(energies))


def _import() -> Any:
    try:
        return SimpleNamespace(
            model=importlib.import_module("chemutils.models.mace.model"),
            e3nn=importlib.import_module("e3nn_jax"),
            haiku=importlib.import_module("haiku"),
        )
    except ImportError as error:
        raise UserError(
            f"`model.network: chemutils-mace` cannot be imported: {error}",
            remedy="install requirements/chemtrain.txt and chemutils (docs/model.md), or choose another network",
        ) from None


def _plain_names(params: Any) -> Params:
    """Haiku's parameters with module names that are no paths."""
    return {module.replace("/", "|"): dict(values) for module, values in params.items()}


def _own_names(params: Params) -> Any:
    """The inverse, as arrays of JAX: haiku's modules index them with what is traced."""
    return {module.replace("|", "/"): jax.tree.map(jnp.asarray, values) for module, values in params.items()}
