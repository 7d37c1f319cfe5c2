"""PaiNN: equivariant message passing between beads, each with scalars and vectors.

Source: K. T. Schütt, O. T. Unke, M. Gastegger, Equivariant message passing for the prediction of tensorial properties
and molecular spectra, ICML 2021 (arXiv:2102.03150), eqs. 7 to 10. Bead i has scalars s_i [F] and vectors v_i [3, F].
In each layer it is sent messages by its neighbours j, with φ a network of two layers and W linear in the radial basis:

    s_i += Σ_j φ_s(s_j) W_s(d_ij)        v_i += Σ_j v_j φ_v(s_j) W_v(d_ij) + r̂_ij φ_r(s_j) W_r(d_ij)

and is then updated by itself, with U and V linear maps of channels and a a network of (s_i, |V v_i|):

    s_i += a_s + a_sv ⟨U v_i, V v_i⟩     v_i += a_v U v_i

The energy of a bead is a network of s_i in the end. Its neighbours' neighbours count, too: each layer reaches one
cutoff further.

Differences to the paper. Filters go to zero with the envelope that Allegro has here: a cosine has no continuous second
derivative. Sums over neighbours are divided by the root of their mean number. Lengths of vectors are √(1 + |x|²) − 1,
smooth at zero as well, and the scalar product is divided by √(1 + |U v|² + |V v|²): products of products would grow
without bound where beads crowd. The energy is counted from that of the same residue alone, so that a bead without
neighbours has none. The scalars of the paper do not change in a mirror: "O3" has these alone. Under "SO3" there is a
third map W, and a is also given the triple product of U v, V v and W v, a pseudo-scalar, over 1 and their squares.
"""

from dataclasses import dataclass
from math import sqrt

import jax
import jax.numpy as jnp

from cgloop.model.contraction import dot, gather, segment_sum
from cgloop.model.geometry import norm
from cgloop.model.layers import Params, envelope, mlp, mlp_init, radial_basis, random_weights
from cgloop.residues import N_TYPES

MESSAGE_INIT = 0.2
"""Factor on the untrained filters: neighbours along a chain add up in phase, layer upon layer."""

UPDATE_INIT = 0.3
"""Factor on the untrained updates: products with features upon products would grow with every layer."""

READOUT_INIT = 0.1
"""Standard deviation of the untrained output: with delta learning the model starts close to the prior."""


@dataclass(frozen=True)
class PainnSpec:
    """Hyper-parameters; hashable, so that it can be a static argument of jit.

    Attributes:
        cutoff_A: beyond this distance beads send no messages, Å.
        symmetry: "SO3" can tell mirror images apart; "O3", as in the paper, cannot.
        n_layers: number of messages, each with an update.
        features: F, number of scalars and of vectors of a bead.
        n_radial: number of radial basis functions.
        envelope_p: power p of the polynomial envelope.
        avg_num_neighbors: mean number of edges per bead in the training set; normalises sums over neighbours.
        energy_scale: kcal/mol, unit of the network's output.
        trained_types: for each of the 20 residue types, whether it was in training. A bead of another type has no
            energy, and sends and receives no messages.
    """

    cutoff_A: float = 12.0
    symmetry: str = "SO3"
    n_layers: int = 3
    features: int = 64
    n_radial: int = 20
    envelope_p: int = 6
    avg_num_neighbors: float = 9.0
    energy_scale: float = 1.0
    trained_types: tuple[bool, ...] = (True,) * N_TYPES

    @property
    def hops(self) -> int:
        """Cutoffs that the energy of a bead reaches."""
        return self.n_layers


def init_painn(spec: PainnSpec, key: jax.Array) -> Params:
    """Random parameters, a nested dict of float32 arrays (float64 where x64 is enabled).

    Weights are normal with variance 1/n_in. Only what reaches the energy is there: the first layer has no vectors to
    send on, and the last need not update them.
    """
    width = spec.features
    # U, V, and W for the triple product; a is given one invariant less than there are maps, and the scalars.
    n_maps = 3 if spec.symmetry == "SO3" else 2
    keys = iter(jax.random.split(key, 3 + 6 * spec.n_layers))

    def linear(n_in: int, n_out: int, scale: float = 1.0) -> jax.Array:
        return random_weights(next(keys), (n_in, n_out), n_in, scale)

    params: Params = {"species": random_weights(next(keys), (N_TYPES, width), n_in=1)}
    for layer in range(spec.n_layers):
        n_messages, n_updates = 3 - (layer == 0), 3 - (layer == spec.n_layers - 1)
        params[f"layer_{layer}"] = {
            "sender": mlp_init(next(keys), width, (width,)),
            "message": linear(width, n_messages * width),
            "filter": linear(spec.n_radial, n_messages * width, MESSAGE_INIT),
            "maps": linear(width, n_maps * width),
            "own": mlp_init(next(keys), n_maps * width, (width,)),
            "update": linear(width, n_updates * width, UPDATE_INIT),
        }
    params["output"] = mlp_init(next(keys), width, (width,))
    params["readout"] = random_weights(next(keys), (width,), width, READOUT_INIT)
    return params


def bead_energies(
    params: Params,
    spec: PainnSpec,
    vectors: jax.Array,
    types: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    edge_mask: jax.Array,
) -> jax.Array:
    """Energy [N] in kcal/mol of every bead; arguments as in `allegro.edge_energies`.

    Zero without neighbours, and exactly 0 for types that were not in training.
    """
    dtype, n_beads = vectors.dtype, types.shape[0]
    params = jax.tree.map(lambda value: jnp.asarray(value, dtype=dtype), params)
    # Behind the beads one of every type without neighbours, from whose energy that of the others is counted.
    types = jnp.concatenate([types, jnp.arange(N_TYPES, dtype=types.dtype)])
    known = jnp.asarray(spec.trained_types)[types]
    distances = norm(vectors)
    cut = envelope(distances, spec.cutoff_A, spec.envelope_p) / sqrt(spec.avg_num_neighbors)
    cut = jnp.where(edge_mask & known[senders] & known[receivers], cut, 0.0)
    radial = radial_basis(distances, spec.cutoff_A, spec.n_radial) * cut[:, None]
    unit = (vectors / distances[:, None])[:, :, None]

    scalars = gather(params["species"], types)
    tensors: jax.Array | None = None
    for layer in range(spec.n_layers):
        layer_params = params[f"layer_{layer}"]
        filters = dot(radial, layer_params["filter"])
        messages = gather(dot(mlp(layer_params["sender"], scalars), layer_params["message"]), senders) * filters
        of_scalars, of_direction, *of_vectors = _split(messages, spec.features)
        change = unit * of_direction[:, None]
        if tensors is not None:
            change += gather(tensors, senders) * of_vectors[0][:, None]
        scalars += segment_sum(of_scalars, receivers, scalars.shape[0])
        received = segment_sum(change, receivers, scalars.shape[0])
        tensors = received if tensors is None else tensors + received
        scalars, tensors = _updated(layer_params, scalars, tensors)
    energies = spec.energy_scale * dot(mlp(params["output"], scalars), params["readout"])
    return jnp.where(known, energies - gather(energies[n_beads:], types), 0.0)[:n_beads]


def _split(values: jax.Array, width: int) -> list[jax.Array]:
    return jnp.split(values, values.shape[-1] // width, axis=-1)


def _updated(params: Params, scalars: jax.Array, tensors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scalars [N, F] and vectors [N, 3, F] after a bead's own update; in the last layer vectors stay what they were."""
    maps = _split(dot(tensors, params["maps"]), scalars.shape[1])
    first, second = maps[:2]
    squares = [jnp.sum(one * one, axis=1) for one in maps]
    size = 1.0 + sum(squares)
    invariants = [jnp.sqrt(1.0 + squares[1]) - 1.0]
    if len(maps) == 3:
        invariants.append(jnp.sum(jnp.cross(first, second, axis=1) * maps[2], axis=1) / size)
    hidden = mlp(params["own"], jnp.concatenate([scalars, *invariants], axis=-1))
    alone, of_product, *of_vectors = _split(dot(hidden, params["update"]), scalars.shape[1])
    scalars += alone + of_product * jnp.sum(first * second, axis=1) / jnp.sqrt(size)
    return scalars, tensors + of_vectors[0][:, None] * first if of_vectors else tensors
