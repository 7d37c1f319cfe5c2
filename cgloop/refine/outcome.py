"""What a refinement changed, for people: distributions, contacts, energies of beads, curves of the prior."""

from collections.abc import Sequence

import jax
import numpy as np

from cgloop.config.refine import Refined
from cgloop.model.terms import KEY_NAMES, PriorForms, PriorParams, angle_potential, dihedral_potential, key_of_type
from cgloop.refine.chains import ProteinChains
from cgloop.refine.energy import Trained
from cgloop.refine.result import ContactMaps, Histogram, PriorCurve, RefinedProtein, Used
from cgloop.refine.subject import Subject
from cgloop.residues import RESIDUES
from cgloop.validate.observables import Frames

BINS = 40
CURVE_POINTS = 73
BEAD_FRAMES = 200
"""Training frames over which the energies of beads are averaged."""


def refined_protein(
    protein: ProteinChains,
    before: np.ndarray,
    after: np.ndarray,
    start: Trained,
    result: Trained,
    started_from: Sequence[int],
) -> RefinedProtein:
    """Return what became of a protein.

    Args:
        protein: its chains, at the end.
        before, after: frames [R, K, N, 3] of the first round and of the result.
        start, result: trained parameters.
        started_from: further replicas of the reference that dynamics whose frames were used started from.
    """
    subject = protein.subject
    first, last = (protein.observe(frames.reshape(-1, *frames.shape[2:])) for frames in (before, after))
    crossings = protein.crossings
    return RefinedProtein(
        beads=subject.n_beads,
        chains=protein.lengths.chains,
        outside=f"{protein.outside} from {subject.outside_from}" if protein.outside else "none",
        used=Used(list(subject.training.replicas), list(subject.validation.replicas), list(started_from)),
        folded=crossings.folded,
        unfolded=crossings.unfolded,
        populations_determined=crossings.enough,
        bead_energy_change=_bead_changes(protein, start, result),
        histograms=_histograms(subject, first, last),
        contacts=ContactMaps(
            subject.protein.pairs.tolist(),
            *(frames.contacts.mean(axis=0).round(4).tolist() for frames in (subject.observed, first, last)),
        ),
    )


def _bead_changes(protein: ProteinChains, start: Trained, result: Trained) -> list[float]:
    positions = protein.subject.training.positions
    chosen = positions[:: max(1, len(positions) // BEAD_FRAMES)]

    @jax.jit
    def mean(trained: Trained) -> jax.Array:
        return jax.lax.map(lambda one: protein.energy.beads(trained, one), chosen).mean(axis=0)

    change = np.asarray(mean(result), np.float64) - np.asarray(mean(start), np.float64)
    return [round(float(value), 5) for value in change]


def _histograms(subject: Subject, before: Frames, after: Frames) -> list[Histogram]:
    found = []
    for name, unit in (("rmsd", "Å"), ("q", ""), ("rg", "Å")):
        values = [np.asarray(getattr(frames, name)) for frames in (subject.observed, before, after)]
        if np.isnan(values[0]).any():
            continue
        low, high = (0.0, 1.0) if name == "q" else (min(map(np.min, values)), max(map(np.max, values)))
        edges = np.linspace(low, high + 1e-6, BINS + 1)
        densities = [np.histogram(one, edges, density=True)[0].round(5).tolist() for one in values]
        found.append(Histogram(name, unit, edges.round(5).tolist(), *densities))
    return found


def prior_curves(
    moving: Refined, forms: PriorForms, before: PriorParams, after: PriorParams, subjects: Sequence[Subject]
) -> list[PriorCurve]:
    """Return angle, dihedral and contact terms before and after, of keys that the proteins have; none if nothing moved.

    Potentials of angles and dihedrals are zero at their minimum.
    """
    if moving == "network":
        return []
    kinds = sorted({int(kind) for subject in subjects for kind in subject.residue_type})
    names, key = KEY_NAMES[forms.keyed], key_of_type(forms.keyed)
    rows = sorted({int(key[kind]) for kind in kinds})
    found = []
    theta = np.linspace(60.0, 180.0, CURVE_POINTS)
    for row in rows:
        curves = [
            np.asarray(angle_potential(np.cos(np.radians(theta)), _row(prior, row, forms), forms.angle))
            for prior in (before, after)
        ]
        found.append(_curve("angle", names[row], theta, curves))
    phi = np.linspace(-180.0, 180.0, CURVE_POINTS)
    for second, third in _middle_pairs(subjects, key):
        curves = [
            np.asarray(
                dihedral_potential(
                    np.cos(np.radians(phi)),
                    np.sin(np.radians(phi)),
                    _row(prior, len(names) * second + third, forms),
                    forms.dihedral,
                )
            )
            for prior in (before, after)
        ]
        label = names[second] if forms.keyed == "global" else f"{names[second]}-{names[third]}"
        found.append(_curve("dihedral", label, phi, curves))
    if forms.contacts:
        for k, first in enumerate(kinds):
            for other in kinds[k:]:
                depths = [
                    0.5 * (p.contact_energy[first, other] + p.contact_energy[other, first]) for p in (before, after)
                ]
                label = f"{RESIDUES[first].name}-{RESIDUES[other].name}"
                found.append(PriorCurve("contact", label, "", [], *([round(float(one), 5)] for one in depths)))
    return found


def _middle_pairs(subjects: Sequence[Subject], key: np.ndarray) -> list[tuple[int, int]]:
    """Return the keys of the middle beads of all dihedrals."""
    pairs = set()
    for subject in subjects:
        for beads in subject.protein.dihedrals:
            second, third = (int(key[int(subject.residue_type[bead])]) for bead in beads[1:3])
            pairs.add((second, third))
    return sorted(pairs)


def _row(prior: PriorParams, row: int, forms: PriorForms) -> PriorParams:
    """Return the prior with the parameters of one key alone."""
    if forms.keyed == "global":
        return prior
    fields = ("angle_coeffs", "dihedral_cos", "dihedral_sin", "dihedral_spline")
    own = {
        name: value[row]
        for name in fields
        if np.ndim(value := np.asarray(getattr(prior, name))) > 1 and row < len(value)
    }
    return prior._replace(**own)


def _curve(term: str, label: str, degrees: np.ndarray, curves: Sequence[np.ndarray]) -> PriorCurve:
    shifted = [(curve - curve.min()).round(4).tolist() for curve in curves]
    return PriorCurve(term, label, "degrees", degrees.round(2).tolist(), *shifted)
