"""The network of cgloop.model.allegro as its formulas say it: the reference in float64, and for speed.

Source: A. Musaelian et al., Nat. Commun. 14, 579 (2023). Every ordered pair i←j within the cutoff has a latent vector
x_ij of scalars and a set of tensors V_ij. In each layer the tensors are multiplied with the environment of the centre,
Γ_i = Σ_k w(x_ik) Y(r̂_ik); scalars among the products go into the next latent, the others into the next V_ij. The
energy of the pair is linear in the last latent. An envelope u(d) on all latents lets everything go to zero, with two
continuous derivatives, where a neighbour leaves the cutoff.

Differences to the paper: products are mixed over paths for each channel by itself (channels mix in the latents, as in
newer versions of the authors' code), and the readout is linear.
"""

from functools import partial
from math import sqrt
from typing import Any

import jax
import jax.numpy as jnp

from cgloop.model.allegro_paths import AllegroSpec
from cgloop.model.geometry import norm
from cgloop.model.tensor import Irrep, Tensor, couple, parse_irreps, spherical_harmonics

Params = dict[str, Any]

SILU_GAIN = 1.6765324703310907
"""Makes the mean square of silu(z) one for normally distributed z."""

_dot = partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)


def _irrep(spec: AllegroSpec, degree: int, parity: int) -> Irrep:
    """An irrep as this model sees it: under SO3 there is no parity, and all are marked +1."""
    return Irrep(degree, parity if spec.symmetry == "O3" else 1)


def _harmonic_irreps(spec: AllegroSpec) -> list[Irrep]:
    """Irreps of the spherical harmonics: parity (−1)^l."""
    return [_irrep(spec, degree, (-1) ** degree) for degree in range(spec.max_ell + 1)]


def layer_paths(spec: AllegroSpec) -> list[list[tuple[Irrep, Irrep, Irrep]]]:
    """For every layer the products (of V, of Γ, result) that are computed.

    Only what can reach the energy is: the last layer has scalars alone, and the one before makes only irreps that the
    last one can turn into scalars. Scalars are 0e under O3, and all of degree 0 under SO3.
    """
    harmonics = _harmonic_irreps(spec)
    scalar = _irrep(spec, 0, 1)
    hidden = {_irrep(spec, *irrep) for irrep in parse_irreps(spec.hidden)[1]}
    features = list(harmonics)
    layers = []
    for layer in range(spec.n_layers):
        last, next_to_last = layer == spec.n_layers - 1, layer == spec.n_layers - 2
        kept = set() if last else hidden & set(harmonics) if next_to_last else hidden
        results = sorted(kept | {scalar})
        paths = [
            (first, second, result)
            for result in results
            for first in features
            for second in harmonics
            if abs(first.degree - second.degree) <= result.degree <= first.degree + second.degree
            and first.parity * second.parity == result.parity
        ]
        layers.append(paths)
        features = [irrep for irrep in results if irrep in kept and any(path[2] == irrep for path in paths)]
    return layers


def _mixed_paths(spec: AllegroSpec, layer: int) -> dict[Irrep, list[int]]:
    """For each irrep that a layer hands on, the numbers of the paths that end in it."""
    if layer == spec.n_layers - 1:
        return {}
    paths = layer_paths(spec)
    used = {path[0] for path in paths[layer + 1]}
    return {irrep: [i for i, path in enumerate(paths[layer]) if path[2] == irrep] for irrep in sorted(used)}


def _mix_name(irrep: Irrep) -> str:
    return f"mix_{irrep.degree}{'e' if irrep.parity == 1 else 'o'}"


def _silu(x: jax.Array) -> jax.Array:
    return SILU_GAIN * jax.nn.silu(x)


def _mlp(params: Params, x: jax.Array, first: int = 0) -> jax.Array:
    """Dense layers from number `first` on, each followed by SiLU."""
    for i in range(first, len(params) // 2):
        x = _silu(_dot(x, params[f"weight_{i}"]) + params[f"bias_{i}"])
    return x


def envelope(distances: jax.Array, cutoff_A: float, p: int) -> jax.Array:
    """u(d): 1 at 0, 0 from the cutoff on, two continuous derivatives.

    Source: J. Gasteiger, J. Groß, S. Günnemann, Directional message passing, ICLR 2020, eq. 8.
    """
    x = jnp.minimum(distances / cutoff_A, 1.0)
    return 1.0 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)


def radial_basis(distances: jax.Array, cutoff_A: float, n_radial: int) -> jax.Array:
    """sin(nπx)/x of x = d/cutoff, n = 1 … n_radial: [E, n_radial]; of the order of one at the distances of chains."""
    x = (distances / cutoff_A)[:, None]
    return jnp.sin(jnp.arange(1, n_radial + 1, dtype=distances.dtype) * jnp.pi * x) / x


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
    harmonics = spherical_harmonics(vectors / distances[:, None], spec.max_ell)
    sum_scale = 1.0 / sqrt(spec.avg_num_neighbors)

    latent = _two_body_latent(params, spec, distances, types, senders, receivers) * cut
    features = dict(zip(_harmonic_irreps(spec), _weighted(latent, params["tensors"], harmonics), strict=True))
    for layer, paths in enumerate(layer_paths(spec)):
        layer_params = params[f"layer_{layer}"]
        weighted = _weighted(latent, layer_params["environment"], harmonics)
        environment = dict(
            zip(_harmonic_irreps(spec), _sum_over_neighbours(weighted, receivers, types.shape[0]), strict=True)
        )
        products = [
            couple(features[first], [sum_scale * part for part in environment[second]], result.degree)
            for first, second, result in paths
        ]
        scalars = [product[0] for product, path in zip(products, paths, strict=True) if path[2] == _irrep(spec, 0, 1)]
        update = _mlp(layer_params["latent"], jnp.concatenate([latent, *scalars], axis=-1)) * cut
        latent = (latent + update) / sqrt(2) if latent.shape == update.shape else update
        features = {
            irrep: _mix(layer_params[_mix_name(irrep)], [products[i] for i in numbers])
            for irrep, numbers in _mixed_paths(spec, layer).items()
        }
    return spec.energy_scale * sum_scale * _dot(latent, params["readout"])


def _two_body_latent(
    params: Params, spec: AllegroSpec, distances: jax.Array, types: jax.Array, senders: jax.Array, receivers: jax.Array
) -> jax.Array:
    """First latent [E, width] from both types and the distance.

    The first dense layer acts on (centre, neighbour, radial); its first two parts are computed once per type.
    """
    mlp, n = params["two_body"], spec.species_embedding
    of_centre, of_neighbour, of_radial = jnp.split(mlp["weight_0"], [n, 2 * n])
    radial = radial_basis(distances, spec.cutoff_A, spec.n_radial)
    radial = radial * envelope(distances, spec.cutoff_A, spec.envelope_p)[:, None]
    first = (
        _dot(params["species"], of_centre)[types[receivers]]
        + _dot(params["species"], of_neighbour)[types[senders]]
        + _dot(radial, of_radial)
        + mlp["bias_0"]
    )
    return _mlp(mlp, _silu(first), first=1)


def _weighted(latent: jax.Array, weights: jax.Array, harmonics: list[Tensor]) -> list[Tensor]:
    """Spherical harmonics times a linear function of the latent for each degree and channel: components [E, C]."""
    factors = jnp.split(_dot(latent, weights), len(harmonics), axis=-1)
    return [[factor * part[:, None] for part in harmonic] for factor, harmonic in zip(factors, harmonics, strict=True)]


def _sum_over_neighbours(tensors: list[Tensor], receivers: jax.Array, n_beads: int) -> list[Tensor]:
    """Sums over all edges with the same centre, given back to each of these edges."""
    parts = [part for tensor in tensors for part in tensor]
    rows = jnp.concatenate(parts, axis=-1)
    sums = jax.ops.segment_sum(rows, receivers, num_segments=n_beads)[receivers]
    # Split, not slices: its derivative is one concatenation instead of a sum of padded arrays.
    iterator = iter(jnp.split(sums, len(parts), axis=-1))
    return [[next(iterator) for _ in tensor] for tensor in tensors]


def _mix(weights: jax.Array, products: list[Tensor]) -> Tensor:
    """Σ_paths w[path, channel] · product, component by component."""
    return [
        sum((weights[i] * product[m] for i, product in enumerate(products[1:], 1)), start=weights[0] * products[0][m])
        for m in range(len(products[0]))
    ]
