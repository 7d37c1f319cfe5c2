"""What an Allegro network consists of: its hyper-parameters, and the products of tensors that it computes."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from cgloop.errors import UserError
from cgloop.model.tensor import Irrep, clebsch_gordan, parse_irreps
from cgloop.residues import N_TYPES

Path = tuple[Irrep, Irrep, Irrep]
"""A product of tensors: irreps of V, of Γ, and of the result."""


@dataclass(frozen=True)
class AllegroSpec:
    """Hyper-parameters; hashable, so that it can be a static argument of jit.

    Attributes:
        cutoff_A: beyond this distance pairs do not interact, Å.
        symmetry: "SO3" ignores parity and can tell mirror images apart (from two layers on: one layer only makes
            products of two vectors, which have no handedness); "O3" cannot.
        max_ell: largest degree of the spherical harmonics of r̂.
        n_layers: number of tensor products.
        n_radial: number of radial basis functions.
        envelope_p: power p of the polynomial envelope.
        embedding: widths of the network that makes the first latent from types and distance.
        species_embedding: length of the vector of a residue type.
        mlp: widths of the latent network of every layer.
        hidden: irreps kept between layers; their multiplicity is the number of channels. Under "SO3" the parities
            are ignored: of 1o and 1e there is one vector.
        avg_num_neighbors: mean number of edges per bead in the training set; normalises sums over neighbours.
        energy_scale: kcal/mol, unit of the network's output.
        trained_types: for each of the 20 residue types, whether it was in training. An edge that touches another
            type does not exist for the network.
    """

    cutoff_A: float = 12.0
    symmetry: str = "SO3"
    max_ell: int = 2
    n_layers: int = 2
    n_radial: int = 8
    envelope_p: int = 6
    embedding: tuple[int, ...] = (64, 64)
    species_embedding: int = 32
    mlp: tuple[int, ...] = (64, 64)
    hidden: str = "32x0e+32x1o+32x2e"
    avg_num_neighbors: float = 9.0
    energy_scale: float = 1.0
    trained_types: tuple[bool, ...] = (True,) * N_TYPES

    @property
    def channels(self) -> int:
        """Multiplicity of every irrep of the tensor track."""
        return parse_irreps(self.hidden)[0]

    @property
    def hops(self) -> int:
        """Cutoffs that the energy of a bead reaches: strictly local, whatever the number of layers."""
        return 1


def irrep_of(spec: AllegroSpec, degree: int, parity: int) -> Irrep:
    """An irrep as this model sees it: under SO3 there is no parity, and all are marked +1."""
    return Irrep(degree, parity if spec.symmetry == "O3" else 1)


def harmonic_irreps(spec: AllegroSpec) -> list[Irrep]:
    """Irreps of the spherical harmonics: parity (−1)^l."""
    return [irrep_of(spec, degree, (-1) ** degree) for degree in range(spec.max_ell + 1)]


@cache
def layer_paths(spec: AllegroSpec) -> tuple[tuple[Path, ...], ...]:
    """For every layer the products that are computed.

    Only what can reach the energy is: the last layer has scalars alone, and the one before makes only irreps that the
    last one can turn into scalars. Scalars are 0e under O3, and all of degree 0 under SO3.

    Raises:
        UserError: nothing of `hidden` is left for the last layer.
    """
    harmonics = harmonic_irreps(spec)
    scalar = irrep_of(spec, 0, 1)
    hidden = {irrep_of(spec, *irrep) for irrep in parse_irreps(spec.hidden)[1]}
    features = list(harmonics)
    layers = []
    for layer in range(spec.n_layers):
        last, next_to_last = layer == spec.n_layers - 1, layer == spec.n_layers - 2
        kept = set() if last else hidden & set(harmonics) if next_to_last else hidden
        results = sorted(kept | {scalar})
        paths = tuple(
            (first, second, result)
            for result in results
            for first in features
            for second in harmonics
            if abs(first.degree - second.degree) <= result.degree <= first.degree + second.degree
            and first.parity * second.parity == result.parity
        )
        layers.append(paths)
        features = [irrep for irrep in results if irrep in kept and any(path[2] == irrep for path in paths)]
    if not layers[-1]:
        raise UserError(
            f"hidden `{spec.hidden}` leaves nothing for the last layer, which multiplies it with the harmonics",
            remedy=f"keep an irrep that harmonics up to degree {spec.max_ell} have, such as 0e",
        )
    return tuple(layers)


def scalar_paths(spec: AllegroSpec, layer: int) -> list[Path]:
    """The paths of a layer that end in the scalars of the next latent. Pseudo-scalars (0o) of O3 are none of them."""
    return [path for path in layer_paths(spec)[layer] if path[2] == irrep_of(spec, 0, 1)]


def mixed_paths(spec: AllegroSpec, layer: int) -> dict[Irrep, list[Path]]:
    """For each irrep that a layer hands on, the paths that end in it."""
    if layer == spec.n_layers - 1:
        return {}
    paths = layer_paths(spec)
    used = {first for first, _, _ in paths[layer + 1]}
    return {irrep: [path for path in paths[layer] if path[2] == irrep] for irrep in sorted(used)}


def layer_inputs(spec: AllegroSpec, layer: int) -> list[Irrep]:
    """Irreps of V in a layer."""
    return harmonic_irreps(spec) if layer == 0 else list(mixed_paths(spec, layer - 1))


def places(irreps: list[Irrep]) -> dict[Irrep, slice]:
    """Where the components of each irrep are when they lie one after the other."""
    ends = np.cumsum([2 * irrep.degree + 1 for irrep in irreps]).tolist()
    return {irrep: slice(end - 2 * irrep.degree - 1, end) for irrep, end in zip(irreps, ends, strict=True)}


@dataclass(frozen=True, eq=False)
class Coupling:
    """The linear map of a layer, M[a, b] = Σ_k matrix[a·B + b, k] · weight[path[k]] · Γ[component[k]].

    Attributes:
        matrix: float64 [A·B, K], Clebsch–Gordan coefficients.
        path: int32 [K], number among the mixed paths of the layer.
        component: int32 [K], component of Γ.
        shape: (A, B), components of V before and behind the layer.
    """

    matrix: np.ndarray
    path: np.ndarray
    component: np.ndarray
    shape: tuple[int, int]


@cache
def layer_coupling(spec: AllegroSpec, layer: int) -> Coupling:
    """How a layer that is not the last one multiplies V with Γ."""
    before, behind = places(layer_inputs(spec, layer)), places(layer_inputs(spec, layer + 1))
    of_environment = places(harmonic_irreps(spec))
    shape = (max(s.stop for s in before.values()), max(s.stop for s in behind.values()))
    columns, numbers, components = [], [], []
    paths = [path for group in mixed_paths(spec, layer).values() for path in group]
    for number, (first, second, result) in enumerate(paths):
        coefficients = clebsch_gordan(first.degree, second.degree, result.degree)
        for m in range(2 * second.degree + 1):
            column = np.zeros(shape)
            column[before[first], behind[result]] = coefficients[:, m]
            columns.append(column.ravel())
            numbers.append(number)
            components.append(of_environment[second].start + m)
    return Coupling(np.stack(columns, axis=1), np.array(numbers, np.int32), np.array(components, np.int32), shape)


@cache
def scalar_selection(spec: AllegroSpec, layer: int) -> np.ndarray:
    """float64 [paths·B, H]: for each scalar path the vector t, V · t = scalar, from the components of Γ."""
    before, of_environment = places(layer_inputs(spec, layer)), places(harmonic_irreps(spec))
    paths = scalar_paths(spec, layer)
    out = np.zeros((len(paths), max(s.stop for s in before.values()), (spec.max_ell + 1) ** 2))
    for number, (first, second, _) in enumerate(paths):
        out[number, before[first], of_environment[second]] = clebsch_gordan(first.degree, second.degree, 0)[:, :, 0]
    return out.reshape(-1, out.shape[-1])
