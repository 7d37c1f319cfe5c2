"""Prior energy terms: bonds, angles, dihedrals, repulsion, electrostatics, contacts. Units: kcal/mol and Å.

Each term gives one energy per bond, angle, dihedral or directed edge; `hybrid.py` sums them over replicas or beads.
`PriorForms` says which functions (`potentials.py`) the terms are, `PriorParams` holds their parameters.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgloop.model import geometry, potentials
from cgloop.model.graph import Graph
from cgloop.model.names import PRIOR_TERM_NAMES, TERM_NAMES
from cgloop.model.potentials import LINEAR_BELOW
from cgloop.residues import N_TYPES, RESIDUES, TYPE_ID

__all__ = ["DEFAULT_FORMS", "LINEAR_BELOW", "PRIOR_TERM_NAMES", "TERM_NAMES", "PriorForms", "PriorParams"]

N_SEPARATION_CLASSES = 3
"""Classes of repulsion by separation along the chain, see `PriorForms.separations`."""

CHARGES = np.array([residue.charge for residue in RESIDUES], dtype=np.float32)

KEY_NAMES: dict[str, tuple[str, ...]] = {
    "global": ("all",),
    "class": ("other", "GLY", "PRO"),
    "residue": tuple(residue.name for residue in RESIDUES),
}
"""Groups of residues with parameters of their own, by the setting `PriorForms.keyed`."""


@dataclass(frozen=True)
class PriorForms:
    """Which functions the prior consists of; hashable, a static part of the model.

    Attributes:
        angle: key of `potentials.ANGLE_FORMS`.
        dihedral: "fourier" or "spline".
        repulsion: key of `potentials.REPULSION_FORMS`, for the last class of separations; nearer ones are always "wca".
        keyed: key of `KEY_NAMES`: "global", or parameters by class or type of residue. A bond has the key of its second
            bead (a peptide bond before proline may be cis), an angle that of its middle bead, a dihedral those of
            its two middle beads.
        electrostatics: whether charged residues interact.
        electrostatics_separation: smallest separation at which they do.
        contacts: whether there are residue-pair contact energies, in the last class of separations.
        repulsion_separation: smallest separation of that class.
    """

    angle: str = "fourier"
    dihedral: str = "fourier"
    repulsion: str = "wca"
    keyed: str = "global"
    electrostatics: bool = False
    electrostatics_separation: int = 4
    contacts: bool = False
    repulsion_separation: int = 6

    @property
    def separations(self) -> tuple[tuple[int, int | None], ...]:
        """First and last separation of each class of repulsion; None: no end, and other chains."""
        return (2, 2), (3, self.repulsion_separation - 1), (self.repulsion_separation, None)


DEFAULT_FORMS = PriorForms()


class PriorParams(NamedTuple):
    """Parameters of the prior, a pytree of arrays (any float dtype; computed with in that of the positions).

    With `PriorForms.keyed` other than "global", parameters of bonds and angles have one row per key, [K, …], and those
    of dihedrals one per pair of keys, [K², …], row K·(key of the second bead) + (key of the third).

    Attributes:
        bond_k: [] kcal/mol/Å², in U = ½ k (r − r0)².
        bond_r0: [] Å.
        angle_coeffs: kcal/mol; "fourier": [order + 1] in U(θ) = Σ a_n cos nθ; "harmonic": [2], k in kcal/mol/rad² and
            θ0 in rad; "spline": [intervals + 3] of a cubic B-spline in cos θ.
        dihedral_cos: [order + 1] kcal/mol, a_n in U(φ) = Σ a_n cos nφ + b_n sin nφ; a_0 has no effect: energies of
            dihedrals have the mean zero, see `dihedral_energies`.
        dihedral_sin: [order + 1] kcal/mol, b_n; b_0 has no effect.
        repulsion_epsilon: [3] kcal/mol, for separations 2, 3 to 5, and 6 or more.
        repulsion_r_min: [3] Å, where the repulsion ends; σ of power laws, the minimum of Lennard-Jones.
        weights: [len(PRIOR_TERM_NAMES)] factors on the energies; 1 is right. Terms that an older file lacks have 1.
        dihedral_spline: [intervals] kcal/mol, of a periodic cubic B-spline, instead of the series; its mean has no
            effect.
        electrostatics: [2], kcal/mol·Å of two unit charges in the solvent, and Debye length in Å.
        contact_energy: [20, 20] kcal/mol by residue types; its symmetric part counts.
    """

    bond_k: np.ndarray
    bond_r0: np.ndarray
    angle_coeffs: np.ndarray
    dihedral_cos: np.ndarray
    dihedral_sin: np.ndarray
    repulsion_epsilon: np.ndarray
    repulsion_r_min: np.ndarray
    weights: np.ndarray
    dihedral_spline: np.ndarray = np.zeros(1, dtype=np.float32)
    electrostatics: np.ndarray = np.array([0.0, 1.0], dtype=np.float32)
    contact_energy: np.ndarray = np.zeros((1, 1), dtype=np.float32)


def zero_prior() -> PriorParams:
    """A prior without energy, for models that are `ml-only`."""
    zero = np.zeros((), dtype=np.float32)
    series = np.zeros(1, dtype=np.float32)
    return PriorParams(
        bond_k=zero,
        bond_r0=zero + np.float32(3.8),
        angle_coeffs=series,
        dihedral_cos=series,
        dihedral_sin=series,
        repulsion_epsilon=np.zeros(3, dtype=np.float32),
        repulsion_r_min=np.ones(3, dtype=np.float32),
        weights=np.ones(len(PRIOR_TERM_NAMES), dtype=np.float32),
    )


def bond_potential(r: jax.Array, params: PriorParams) -> jax.Array:
    """½ k (r − r0)² for lengths r in Å."""
    return potentials.harmonic(r, params.bond_k, params.bond_r0)


def angle_potential(cosine: jax.Array, params: PriorParams, form: str = "fourier") -> jax.Array:
    """Energy of angles with the given cosine."""
    return potentials.ANGLE_FORMS[form](cosine, params.angle_coeffs)


def dihedral_potential(cosine: jax.Array, sine: jax.Array, params: PriorParams, form: str = "fourier") -> jax.Array:
    """Energy of dihedrals with the given cosine and sine, whose angles are not near π; its mean over φ is zero."""
    if form == "spline":
        return potentials.periodic_spline(cosine, sine, params.dihedral_spline) - params.dihedral_spline.mean(axis=-1)
    return (
        potentials.periodic_series(cosine, sine, params.dihedral_cos, params.dihedral_sin) - params.dihedral_cos[..., 0]
    )


repulsion_potential = potentials.wca


def separation_class(separation: jax.Array, forms: PriorForms = DEFAULT_FORMS) -> jax.Array:
    """Index into `PriorForms.separations`; bonded neighbours (separation 1) get 0 and are masked elsewhere."""
    _, (middle, _), (far, _) = forms.separations
    return (separation >= middle).astype(jnp.int32) + (separation >= far)


def key_of_type(keyed: str) -> np.ndarray:
    """int32 [20]: index into `KEY_NAMES[keyed]` of each residue type."""
    if keyed == "residue":
        return np.arange(N_TYPES, dtype=np.int32)
    keys = np.zeros(N_TYPES, dtype=np.int32)
    if keyed == "class":
        keys[[TYPE_ID["GLY"], TYPE_ID["PRO"]]] = 1, 2
    return keys


def row_of_items(keyed: str, types: jax.Array, items: jax.Array) -> jax.Array:
    """Row of the parameters, [M], of bonds, angles or dihedrals [M, 2..4] between beads of these types."""
    keys = jnp.asarray(key_of_type(keyed))[types]
    if items.shape[1] < 4:
        return keys[items[:, 1]]
    return len(KEY_NAMES[keyed]) * keys[items[:, 1]] + keys[items[:, 2]]


BOND_FIELDS, ANGLE_FIELDS = ("bond_k", "bond_r0"), ("angle_coeffs",)
DIHEDRAL_FIELDS = ("dihedral_cos", "dihedral_sin", "dihedral_spline")


def _chosen(params: PriorParams, forms: PriorForms, fields: tuple[str, ...], graph: Graph, items) -> PriorParams:
    """The prior with the given fields per item instead of per key."""
    if forms.keyed == "global":
        return params
    rows = row_of_items(forms.keyed, jnp.asarray(graph.types), jnp.asarray(items))
    # A form that is not used has a single row.
    return params._replace(**{f: v[rows] for f in fields if (v := getattr(params, f)).shape[0] > 1})


def _weight(params: PriorParams, name: str) -> jax.Array | float:
    place = PRIOR_TERM_NAMES.index(name)
    return params.weights[place] if place < params.weights.shape[0] else 1.0


# Scopes name operations in a profile; they compute nothing.
@jax.named_scope("bond")
def bond_energies(
    params: PriorParams, positions: jax.Array, graph: Graph, forms: PriorForms = DEFAULT_FORMS
) -> jax.Array:
    """Energies [B] of the bonds, weight included, 0 where masked."""
    params = _chosen(cast_prior(params, positions.dtype), forms, BOND_FIELDS, graph, graph.bonds)
    lengths = geometry.bond_lengths(positions, graph.bonds)
    return _weight(params, "bond") * jnp.where(graph.bond_mask, bond_potential(lengths, params), 0.0)


@jax.named_scope("angle")
def angle_energies(
    params: PriorParams, positions: jax.Array, graph: Graph, forms: PriorForms = DEFAULT_FORMS
) -> jax.Array:
    """Energies [A] of the angles, weight included, 0 where masked."""
    params = _chosen(cast_prior(params, positions.dtype), forms, ANGLE_FIELDS, graph, graph.angles)
    cosines = geometry.angle_cosines(positions, graph.angles)
    energies = angle_potential(cosines, params, forms.angle)
    return _weight(params, "angle") * jnp.where(graph.angle_mask, energies, 0.0)


@jax.named_scope("dihedral")
def dihedral_energies(
    params: PriorParams, positions: jax.Array, graph: Graph, forms: PriorForms = DEFAULT_FORMS
) -> jax.Array:
    """Energies [D] of the dihedrals, weight included, 0 where masked."""
    params = _chosen(cast_prior(params, positions.dtype), forms, DIHEDRAL_FIELDS, graph, graph.dihedrals)
    found = geometry.dihedral_geometry(positions, graph.dihedrals)
    # Of mean zero, so that damping neither draws angles to π nor keeps them away.
    energies = dihedral_potential(found.cosine, found.sine, params, forms.dihedral)
    energies = energies * potentials.straight_damping(found.bend_1) * potentials.straight_damping(found.bend_2)
    return _weight(params, "dihedral") * jnp.where(graph.dihedral_mask, energies, 0.0)


@jax.named_scope("repulsion")
def repulsion_energies(
    params: PriorParams,
    lengths: jax.Array,
    graph: Graph,
    forms: PriorForms = DEFAULT_FORMS,
    cutoff_A: float | None = None,
) -> jax.Array:
    """Energies [E] of the directed edges: half of the pair's energy each, since both directions are listed.

    Args:
        params: the prior.
        lengths: [E] Å, of the edges.
        graph: its separations and edge mask are used; bonded neighbours have no repulsion.
        forms: which function acts in the last class of separations, and where that begins.
        cutoff_A: where functions that do not end by themselves are switched off, Å; "wca" needs none.
    """
    params = cast_prior(params, lengths.dtype)
    kind = separation_class(graph.separation, forms)
    pair = potentials.wca(lengths, params.repulsion_epsilon[kind], params.repulsion_r_min[kind])
    if forms.repulsion != "wca":
        far = potentials.REPULSION_FORMS[forms.repulsion](
            lengths, params.repulsion_epsilon[2], params.repulsion_r_min[2]
        )
        pair = jnp.where(kind == 2, far * _switched(lengths, cutoff_A), pair)
    counted = graph.edge_mask & (graph.separation >= forms.separations[0][0])
    return 0.5 * _weight(params, "repulsion") * jnp.where(counted, pair, 0.0)


@jax.named_scope("electrostatics")
def electrostatics_energies(
    params: PriorParams, lengths: jax.Array, graph: Graph, forms: PriorForms, cutoff_A: float
) -> jax.Array:
    """Screened Coulomb energies [E] of the directed edges, half of the pair's each; charges are those at pH 7."""
    params = cast_prior(params, lengths.dtype)
    charge = jnp.asarray(CHARGES, lengths.dtype)[graph.types]
    strength = params.electrostatics[0] * charge[graph.senders] * charge[graph.receivers]
    pair = potentials.debye_hueckel(lengths, strength, params.electrostatics[1]) * _switched(lengths, cutoff_A)
    counted = graph.edge_mask & (graph.separation >= forms.electrostatics_separation)
    return 0.5 * _weight(params, "electrostatics") * jnp.where(counted, pair, 0.0)


@jax.named_scope("contact")
def contact_energies(
    params: PriorParams, lengths: jax.Array, graph: Graph, forms: PriorForms = DEFAULT_FORMS
) -> jax.Array:
    """Residue-pair contact energies [E] of the directed edges, half of the pair's each."""
    params = cast_prior(params, lengths.dtype)
    table = 0.5 * (params.contact_energy + params.contact_energy.T)
    types = jnp.asarray(graph.types)
    pair = table[types[graph.senders], types[graph.receivers]] * potentials.contact(lengths)
    counted = graph.edge_mask & (graph.separation >= forms.repulsion_separation)
    return 0.5 * _weight(params, "contact") * jnp.where(counted, pair, 0.0)


def _switched(lengths: jax.Array, cutoff_A: float | None) -> jax.Array:
    if cutoff_A is None:
        raise ValueError("a term that reaches to the cutoff needs to know it")
    return potentials.switch(lengths, potentials.SWITCH_FROM * cutoff_A, cutoff_A)


def cast_prior(params: PriorParams, dtype) -> PriorParams:
    """The prior with all parameters in one floating-point type."""
    return PriorParams(*(jnp.asarray(value, dtype=dtype) for value in params))
