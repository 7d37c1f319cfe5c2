"""Prior parameters by Boltzmann inversion: U = −kT ln(p / Jacobian), with Jacobian r² for bonds and sin θ for angles.

Each term is inverted on its own, as if terms were independent (D. Reith, M. Pütz, F. Müller-Plathe, J. Comput. Chem.
24, 1624 (2003), first iteration). What that misses, and everything many-body, is the network's part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cgloop.config.priors import PriorsConfig
from cgloop.data.dataset import ProteinData
from cgloop.errors import UserError
from cgloop.model.names import PRIOR_TERM_NAMES
from cgloop.model.potentials import CONTACT_OUTER_A
from cgloop.model.terms import DEFAULT_FORMS, PriorForms, PriorParams
from cgloop.priors.bonded import fit_angle, fit_bond, fit_dihedral, fit_dihedral_basis
from cgloop.priors.forms import forms_of, repulsion_shape
from cgloop.priors.pairs import electrostatics, invert_contacts
from cgloop.priors.samples import BOND_ORIGIN_A, Histogram, Samples
from cgloop.units import thermal_energy

DECIMALS = 6
"""Parameters are rounded to so many decimals, so that the readable file and the parameters are the same numbers."""

DEFAULT_R_MIN_A = (4.8, 4.0, 3.8)
"""Smallest CA–CA distances of folded proteins per separation class: the range of repulsion where the reference has no
such pair, and its upper limit where it has, because a short trajectory of one protein sees too few close pairs."""

CONTACT_A, CONTACT_KT = 3.0, 3.0
"""Two beads that are not neighbours but two bonds or more apart must cost so much at this distance."""


@dataclass(frozen=True)
class Fit:
    """Parameters with what they were made from.

    Attributes:
        params: the prior.
        samples: the distributions.
        temperature_K: K.
        r_min_from: per separation class, where its range comes from, in words.
        angle_range: θ where the data's range begins and ends, radians; None without angles.
        forms: functions that the terms are.
        common: the prior with one set of bonded parameters, to which scarce keys shrink; the same as `params` if there
            are no keys.
    """

    params: PriorParams
    samples: Samples
    temperature_K: float
    r_min_from: tuple[str, ...]
    angle_range: tuple[float, float] | None
    forms: PriorForms = DEFAULT_FORMS
    common: PriorParams | None = None


def fit_priors(
    proteins: Sequence[ProteinData], config: PriorsConfig, temperature_K: float, cutoff_A: float
) -> PriorParams:
    """Prior parameters from reference frames.

    Args:
        proteins: frames of the train split at the temperature, nothing else.
        config: orders, ridge, strength of the repulsion, weights.
        temperature_K: of the frames, K.
        cutoff_A: of non-bonded terms; repulsion must end before it.

    Raises:
        UserError: fewer than `min_frames` frames, positions that cannot be a protein's, or too short a cutoff.
    """
    samples = Samples(forms=forms_of(config))
    for protein in proteins:
        check_temperature(protein, temperature_K)
        samples.add(protein)
    return fit_samples(samples, config, temperature_K, cutoff_A).params


def fit_samples(samples: Samples, config: PriorsConfig, temperature_K: float, cutoff_A: float) -> Fit:
    """As `fit_priors`, from distributions."""
    if samples.n_frames < config.min_frames:
        raise UserError(
            f"{samples.n_frames} training frames at {temperature_K:g} K, the priors need {config.min_frames}",
            remedy="give more training frames (`data.split`), or lower `priors.min_frames`",
        )
    kT, forms = thermal_energy(temperature_K), forms_of(config)
    bond_k, bond_r0 = fit_bond(samples, kT)
    angle_coeffs, angle_range = fit_angle(samples.angles, angle_size(config), config.ridge, kT, forms.angle)
    dihedral = fit_dihedral_form(samples.dihedrals, config, kT)
    r_min, origins = fit_repulsion(samples.smallest, config.repulsion_epsilon_kT)
    epsilon = np.full(len(r_min), config.repulsion_epsilon_kT * kT)
    epsilon[-1] = far_epsilon(forms.repulsion, float(r_min[-1]), config.repulsion_epsilon_kT) * kT
    if forms.repulsion == "lj":
        # The reference's smallest distance is where the energy crosses zero.
        r_min[-1] *= 2.0 ** (1.0 / 6.0)
    reach = max(float(r_min.max()), CONTACT_OUTER_A if forms.contacts else 0.0)
    if not cutoff_A > reach:
        what = "contact terms reach" if reach == CONTACT_OUTER_A else "the repulsion reaches"
        raise UserError(f"`model.cutoff_A` is {cutoff_A:g}, {what} to {reach:.2f} Å", remedy="choose a larger cutoff")
    weights = config.weights
    params = PriorParams(
        bond_k=bond_k,
        bond_r0=bond_r0,
        angle_coeffs=angle_coeffs,
        repulsion_epsilon=epsilon,
        repulsion_r_min=r_min,
        weights=np.array([getattr(weights, name) for name in PRIOR_TERM_NAMES]),
        **dihedral,
    )
    if forms.electrostatics:
        params = params._replace(electrostatics=electrostatics(config.electrostatics, temperature_K))
    if forms.contacts:
        params = params._replace(contact_energy=invert_contacts(samples.contacts, config.contacts.pseudo_counts, kT))
    common = rounded(params)
    keyed = rounded(fit_keys(samples, config, kT, params)) if forms.keyed != "global" else common
    return Fit(keyed, samples, temperature_K, origins, angle_range, forms, common)


def mixed_fit(fits: Sequence[Fit], temperature_K: float) -> Fit:
    """The fit at the model's temperature with parameters averaged over all fits, weighted by their frames.

    Each temperature was inverted with its own kT; what differs between the results is entropy. A repulsion ends at the
    smallest distance of any of them.

    Args:
        fits: one per temperature, of the same forms; that of `temperature_K` among them.
        temperature_K: of the model.
    """
    own = next(fit for fit in fits if fit.temperature_K == temperature_K)
    if len(fits) == 1:
        return own
    weights = [fit.samples.n_frames for fit in fits]

    def average(all_params: Sequence[PriorParams]) -> PriorParams:
        mean = PriorParams(*(np.average(np.stack(v), axis=0, weights=weights) for v in zip(*all_params, strict=True)))
        return rounded(mean._replace(repulsion_r_min=np.min([one.repulsion_r_min for one in all_params], axis=0)))

    common = average([fit.common or fit.params for fit in fits])
    return replace(own, params=average([fit.params for fit in fits]), common=common)


def check_temperature(protein: ProteinData, temperature_K: float) -> None:
    """Raise UserError if a frame is not at the temperature: kT of the inversion would be wrong."""
    others = np.unique(protein.temperature_K[np.abs(protein.temperature_K - temperature_K) > 0.5])
    if len(others):
        raise UserError(
            f"{protein.name} has frames at {others[0]:g} K, the priors are those of {temperature_K:g} K",
            remedy="fit each temperature by itself, or set `priors.temperatures: mixed`",
        )


def rounded(params: PriorParams) -> PriorParams:
    """With as many decimals as the file has."""
    return PriorParams(*(np.round(np.asarray(value, np.float64), DECIMALS) for value in params))


def angle_size(config: PriorsConfig) -> int:
    """Order of the series, or intervals of the spline."""
    return config.angle_intervals if config.angle_form == "spline" else config.angle_order


def fit_dihedral_form(dihedrals: Histogram, config: PriorsConfig, kT: float) -> dict[str, np.ndarray]:
    """The fields of `PriorParams` that dihedrals have in the form of the config; others are single zeros."""
    none = np.zeros(1)
    if config.dihedral_form == "fourier":
        cosines, sines = fit_dihedral(dihedrals, config.dihedral_order, config.ridge, kT)
        return {"dihedral_cos": cosines, "dihedral_sin": sines, "dihedral_spline": none}
    spline = fit_dihedral_basis(dihedrals, "spline", config.dihedral_intervals, config.ridge, kT)
    return {"dihedral_cos": none, "dihedral_sin": none, "dihedral_spline": spline}


def shrunk(common: Histogram, counts: np.ndarray, extra: float) -> Histogram:
    """The distribution of one key with `extra` samples of that of all; that of all if the key has none of its own."""
    if not counts.any():
        return common
    return Histogram(common.edges, counts + extra * common.counts / common.counts.sum())


def fit_keys(samples: Samples, config: PriorsConfig, kT: float, common: PriorParams) -> PriorParams:
    """One row of bonded parameters per key, from its own samples and `shrinkage` samples of all keys together.

    With that many pseudo-samples a key that is rare has the common distribution, hence the common parameters, and one
    that is frequent its own. Keys without samples keep the common parameters to the last digit.
    """
    extra = config.shrinkage

    k = np.tile(common.bond_k, len(samples.key_bonds))
    r0 = np.tile(common.bond_r0, len(samples.key_bonds))
    for row, (n, total, squares) in enumerate(samples.key_bonds):
        if n:
            mean = (total + extra * (samples.bond_mean - BOND_ORIGIN_A)) / (n + extra)
            about = samples.bond_variance + (samples.bond_mean - BOND_ORIGIN_A) ** 2
            variance = (squares + extra * about) / (n + extra) - mean**2
            own = Samples(n_bonds=int(n), bond_mean=mean + BOND_ORIGIN_A, bond_variance=variance)
            k[row], r0[row] = fit_bond(own, kT)
    angles = [
        fit_angle(shrunk(samples.angles, counts, extra), angle_size(config), config.ridge, kT, config.angle_form)[0]
        if counts.any()
        else common.angle_coeffs
        for counts in samples.key_angles
    ]
    dihedrals = [
        fit_dihedral_form(shrunk(samples.dihedrals, counts, extra), config, kT)
        if counts.any()
        else {name: getattr(common, name) for name in ("dihedral_cos", "dihedral_sin", "dihedral_spline")}
        for counts in samples.key_dihedrals
    ]
    used = ("dihedral_spline",) if config.dihedral_form == "spline" else ("dihedral_cos", "dihedral_sin")
    by_pair = {name: np.stack([row[name] for row in dihedrals]) for name in used}
    return common._replace(bond_k=k, bond_r0=r0, angle_coeffs=np.stack(angles), **by_pair)


def fit_repulsion(smallest: np.ndarray, epsilon_kT: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """r_min (Å) per separation class, and in words where each comes from.

    It is the smallest distance of the reference, above which the repulsion is zero, so that it counts nothing twice
    that the network learns; at most `DEFAULT_R_MIN_A`, and at least so much that U(3 Å) is 3 kT.
    """
    # ε [(r_m/r)⁶ − 1]² = CONTACT_KT kT at r = CONTACT_A
    least = CONTACT_A * (1.0 + np.sqrt(CONTACT_KT / epsilon_kT)) ** (1.0 / 6.0) + 10.0**-DECIMALS
    values, origins = [], []
    for found, default in zip(smallest, DEFAULT_R_MIN_A, strict=True):
        value, origin = float(found), "smallest distance in the reference"
        if not np.isfinite(found):
            value, origin = default, "default: the reference has no such pair"
        elif found > default:
            value, origin = default, f"default: the reference's smallest distance is {found:.3f}"
        if value < least:
            value, origin = least, f"raised so that U({CONTACT_A:g} Å) is {CONTACT_KT:g} kT; was {value:.3f}"
        values.append(value)
        origins.append(origin)
    return np.array(values), tuple(origins)


def far_epsilon(form: str, r_min: float, epsilon_kT: float) -> float:
    """ε in kT of the repulsion in the last class of separations.

    Of a form that reaches to the cutoff so much that `CONTACT_A` costs `CONTACT_KT`, and at least 1 kT for power laws
    (at the reference's smallest distance) and 0.2 kT for the well of Lennard-Jones.
    """
    if form == "wca":
        return epsilon_kT
    ratio = CONTACT_A / (r_min * 2.0 ** (1.0 / 6.0) if form == "lj" else r_min)
    # A little more than enough: the file has six decimals.
    needed = 1.0001 * CONTACT_KT / float(repulsion_shape(form, np.asarray(ratio)))
    return max(needed, 0.2 if form == "lj" else 1.0)
