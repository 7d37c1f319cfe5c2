"""Allegro: a strictly local, equivariant network on ordered pairs of beads.

Source: A. Musaelian et al., Nat. Commun. 14, 579 (2023). Every ordered pair i←j within the cutoff has a latent vector
x_ij of scalars and a set of tensors V_ij. In each layer the tensors are multiplied with the environment of the centre,
Γ_i = Σ_k w(x_ik) Y(r̂_ik); scalars among the products go into the next latent, the others into the next V_ij. The
energy of the pair is linear in the last latent. An envelope u(d) on all latents lets everything go to zero, with two
continuous derivatives, where a neighbour leaves the cutoff.

Differences to the paper: products are mixed over paths for each channel by itself (channels mix in the latents, as in
newer versions of the authors' code), and the readout is linear.

How it is computed. All environments that V_ij is multiplied with are those of bead i. So one layer is a matrix M_i for
each bead and channel, V_ij ← V_ij M_i, and the scalars of a later layer are V⁰_ij · (M⁰_i M¹_i … Γ_i): the product in
brackets is made once per bead, from the right, and only its product with V⁰_ij = w(x⁰_ij) Y(r̂_ij) is left for each
pair. No tensors but V⁰ ever exist on pairs. tests/model/plain_allegro.py is the same network as the formulas say it.
"""

from math import sqrt

import jax
import jax.numpy as jnp

from cgloop.model import contraction
from cgloop.model.allegro_paths import AllegroSpec, layer_coupling, mixed_paths, scalar_paths, scalar_selection
from cgloop.model.contraction import dot
from cgloop.model.geometry import norm
from cgloop.model.layers import Params, envelope, mlp, mlp_init, radial_basis, random_weights, silu
from cgloop.model.tensor import Irrep, spherical_harmonics
from cgloop.residues import N_TYPES

ENVIRONMENT_INIT = 0.4
"""Factor on the untrained environments. Neighbours along a chain add up in phase, and every layer multiplies with the
environment once more: without the factor the tensors grow with each layer, and with them the untrained forces."""

READOUT_INIT = 0.05
"""Standard deviation of the untrained output: with delta learning the model starts close to the prior."""


def init_allegro(spec: AllegroSpec, key: jax.Array) -> Params:
    """Random parameters, a nested dict of float32 arrays (float64 where x64 is enabled).

    Weights are normal with variance 1/n_in, so that activations start with unit variance.
    """
    keys = iter(jax.random.split(key, 4 + 3 * spec.n_layers))
    channels, n_degrees, width = spec.channels, spec.max_ell + 1, spec.embedding[-1]
    n_in = 2 * spec.species_embedding + spec.n_radial
    params: Params = {
        "species": random_weights(next(keys), (N_TYPES, spec.species_embedding), n_in=1),
        "two_body": mlp_init(next(keys), n_in, spec.embedding),
        "tensors": random_weights(next(keys), (width, n_degrees * channels), width),
    }
    for layer in range(spec.n_layers):
        n_scalars = channels * len(scalar_paths(spec, layer))
        params[f"layer_{layer}"] = {
            "environment": random_weights(next(keys), (width, n_degrees * channels), width, ENVIRONMENT_INIT),
            "latent": mlp_init(next(keys), width + n_scalars, spec.mlp),
        }
        mixing = mixed_paths(spec, layer)
        mixing_keys = jax.random.split(next(keys), len(mixing) + 1)
        for key_i, (irrep, paths) in zip(mixing_keys[1:], mixing.items(), strict=True):
            weights = random_weights(key_i, (len(paths), channels), len(paths))
            params[f"layer_{layer}"][_mix_name(irrep)] = weights
        width = spec.mlp[-1]
    params["readout"] = random_weights(next(keys), (width,), width, READOUT_INIT)
    return params


def _mix_name(irrep: Irrep) -> str:
    return f"mix_{irrep.degree}{'e' if irrep.parity == 1 else 'o'}"


def edge_energies(
    params: Params,
    spec: AllegroSpec,
    vectors: jax.Array,
    types: jax.Array,
    senders: jax.Array,
    receivers: jax.Array,
    edge_mask: jax.Array,
) -> jax.Array:
    """Energy [E] in kcal/mol of every ordered pair; it belongs to the receiver. Exactly 0 where masked, beyond the
    cutoff, and where a type was not in training.

    Args:
        params: from `init_allegro`.
        spec: the hyper-parameters they were made with.
        vectors: [E, 3] Å, r_ij = x_j − x_i from receiver i to sender j; not zero where masked (`edge_vectors`).
        types: int [N].
        senders, receivers: int [E].
        edge_mask: bool [E].
    """
    dtype = vectors.dtype
    params = jax.tree.map(lambda value: jnp.asarray(value, dtype=dtype), params)
    known = jnp.asarray(spec.trained_types)[types]
    distances = norm(vectors)
    cut = envelope(distances, spec.cutoff_A, spec.envelope_p)
    cut = jnp.where(edge_mask & known[senders] & known[receivers], cut, 0.0)[:, None]
    unit = spherical_harmonics(vectors / distances[:, None], spec.max_ell)
    harmonics = jnp.stack([component for tensor in unit for component in tensor], axis=1)
    sum_scale = 1.0 / sqrt(spec.avg_num_neighbors)

    # Scopes name operations in a profile; they compute nothing.
    with jax.named_scope("two_body"):
        latent = _two_body_latent(params, spec, distances, types, senders, receivers) * cut
    with jax.named_scope("tensors"):
        pairs = _PairTensors(harmonics, latent, params["tensors"], spec, receivers)
    matrices: list[jax.Array] = []
    for layer in range(spec.n_layers):
        layer_params = params[f"layer_{layer}"]
        with jax.named_scope(f"layer_{layer}.environment"):
            weights = sum_scale * layer_params["environment"].reshape(latent.shape[1], spec.max_ell + 1, spec.channels)
            environment = _environment(harmonics, latent, weights, receivers, types)
        with jax.named_scope(f"layer_{layer}.scalars"):
            scalars = pairs.scalars(environment, matrices, layer)
        with jax.named_scope(f"layer_{layer}.latent"):
            update = mlp(layer_params["latent"], jnp.concatenate([latent, scalars], axis=-1)) * cut
            latent = (latent + update) / sqrt(2) if latent.shape == update.shape else update
        if layer < spec.n_layers - 1:
            with jax.named_scope(f"layer_{layer}.mixing"):
                matrices.append(_bead_matrices(layer_params, spec, layer, environment))
    return spec.energy_scale * sum_scale * dot(latent, params["readout"])


def _two_body_latent(
    params: Params, spec: AllegroSpec, distances: jax.Array, types: jax.Array, senders: jax.Array, receivers: jax.Array
) -> jax.Array:
    """First latent [E, width] from both types and the distance.

    The first dense layer acts on (centre, neighbour, radial); its first two parts are computed once per type.
    """
    layers, n = params["two_body"], spec.species_embedding
    of_centre, of_neighbour, of_radial = jnp.split(layers["weight_0"], [n, 2 * n])
    radial = radial_basis(distances, spec.cutoff_A, spec.n_radial)
    radial = radial * envelope(distances, spec.cutoff_A, spec.envelope_p)[:, None]
    first = (
        dot(params["species"], of_centre)[types[receivers]]
        + dot(params["species"], of_neighbour)[types[senders]]
        + dot(radial, of_radial)
        + layers["bias_0"]
    )
    return mlp(layers, silu(first), first=1)


def _outer_with_linear(harmonics: jax.Array, latent: jax.Array, weights: jax.Array) -> jax.Array:
    """Y[e, m] Σ_f x[e, f] w[f, l(m), c], [E, H, C]."""
    n_features, n_degrees, channels = weights.shape
    by_degree = jnp.split(weights, n_degrees, axis=1)
    repeated = [jnp.tile(part, (1, 2 * degree + 1, 1)) for degree, part in enumerate(by_degree)]
    factors = dot(latent, jnp.concatenate(repeated, axis=1).reshape(n_features, -1))
    return contraction.outer(harmonics, factors.reshape(*harmonics.shape, channels))


def _environment(
    harmonics: jax.Array, latent: jax.Array, weights: jax.Array, receivers: jax.Array, beads: jax.Array
) -> jax.Array:
    """Γ [N, H, C] of every bead, from weights [F, L, C]: summed over pairs in the space that has fewer dimensions."""
    if weights.shape[2] < latent.shape[1]:
        return contraction.segment_sum(_outer_with_linear(harmonics, latent, weights), receivers, beads.shape[0])
    return contraction.mix_by_degree(contraction.sum_over_pairs(harmonics, latent, receivers, beads), weights)


class _PairTensors:
    """V⁰, and its scalar products with what the beads make of their environments."""

    def __init__(
        self, harmonics: jax.Array, latent: jax.Array, weights: jax.Array, spec: AllegroSpec, receivers: jax.Array
    ):
        self._harmonics, self._latent, self._spec, self._receivers = harmonics, latent, spec, receivers
        self._weights = weights.reshape(latent.shape[1], spec.max_ell + 1, spec.channels)
        self._tensors = _outer_with_linear(harmonics, latent, self._weights)

    def scalars(self, environment: jax.Array, matrices: list[jax.Array], layer: int) -> jax.Array:
        """Scalars [E, paths·C] of a layer: V⁰ M⁰ … Mᵏ Γ for the part of Γ that each of its paths takes.

        Args:
            environment: Γ of this layer, [N, H, C].
            matrices: M of all layers before, [A, B, N·C].
            layer: its number.
        """
        spec, (n_beads, n_components, channels) = self._spec, environment.shape
        if not matrices:
            signed = environment * jnp.asarray(scalar_selection(spec, 0).sum(axis=0), environment.dtype)[:, None]
            return contraction.own_scalars(self._tensors, signed, self._receivers)
        flat = jnp.swapaxes(environment, 0, 1).reshape(n_components, n_beads * channels)
        chains = contraction.const_dot(scalar_selection(spec, layer), flat)
        chains = chains.reshape(len(scalar_paths(spec, layer)), -1, n_beads * channels)
        n_scalars = len(chains)
        for matrix in matrices[:0:-1]:
            product = contraction.apply_matrices(matrix, chains).reshape(-1, channels)
            chains = contraction.stored(product).reshape(n_scalars, len(matrix), n_beads * channels)
        chains = contraction.apply_matrices(matrices[0], chains).reshape(n_scalars, n_components, n_beads, channels)
        chains = contraction.stored(chains.transpose(2, 1, 0, 3))
        repeated = jnp.tile(self._weights, (1, 1, n_scalars)).reshape(self._latent.shape[1], -1)
        factors = dot(self._latent, repeated).reshape(-1, spec.max_ell + 1, n_scalars * channels)
        return contraction.scalars(self._tensors, self._harmonics, factors, chains, self._receivers)


def _bead_matrices(layer_params: Params, spec: AllegroSpec, layer: int, environment: jax.Array) -> jax.Array:
    """M [A, B, N·C] of a layer, from its environments [N, H, C]: V ← V M, for each bead and channel by itself."""
    coupling = layer_coupling(spec, layer)
    n_beads, _, channels = environment.shape
    weights = jnp.concatenate([layer_params[_mix_name(irrep)] for irrep in mixed_paths(spec, layer)])
    of_path = contraction.gather(weights, coupling.path)[:, None]
    terms = of_path * contraction.gather(jnp.swapaxes(environment, 0, 1), coupling.component)
    matrices = contraction.const_dot(coupling.matrix, terms.reshape(-1, n_beads * channels))
    return matrices.reshape(*coupling.shape, n_beads * channels)
