"""Structural checks: does the model live where the reference lives, at the same temperature?

All but the mirror check are one pattern: a per-frame feature, a distance between two samples of it, and a limit
calibrated by the reference's own noise (`comparison.compare`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import wasserstein_distance

from cgloop.checks import Check, CheckResult, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate import geometry
from cgloop.validate.comparison import (
    Measure,
    Metric,
    Sample,
    compare,
    equilibrated,
    in_words,
    replica_doubts,
    sampling_doubts,
    together,
)
from cgloop.validate.statistics import longer_run_factor, mean_over_replicas

RMSD = Check(
    "structure.rmsd",
    "CA-RMSD to native",
    "Å",
    "at most",
    "Wasserstein-1 distance between the distributions of the Kabsch CA-RMSD to the native structure in the model's "
    "NVT frames and in the reference at the same temperature; the limit is the floor or the reference's own noise, "
    "whichever is larger.",
)
MIRROR = Check(
    "structure.mirror",
    "handedness of the fold",
    "Å",
    "at least",
    "RMSD to the mirror image of the native structure minus RMSD to the native one, mean over folded frames: those "
    "in which the smaller of both is below the 95th percentile of the reference's RMSD.",
)
CONTACTS = Check(
    "structure.contacts",
    "contact map",
    "",
    "at most",
    "Mean absolute difference of contact probabilities (CA–CA closer than the cutoff, declared separation) over pairs "
    "with p > 0.05 in the model or the reference; Pearson's r over these pairs is limited as well.",
)
Q = Check(
    "structure.q",
    "fraction of native contacts",
    "",
    "at most",
    "Wasserstein-1 distance between the distributions of the Best–Hummer fraction of native contacts in the model's "
    "NVT frames and in the reference at the same temperature.",
)
RG = Check(
    "structure.rg",
    "radius of gyration",
    "Å",
    "reported",
    "Wasserstein-1 distance between the distributions of the radius of gyration, to be read against the reference's "
    "own noise.",
)

CONTACT_PROBABILITY = 0.05
FOLDED_PERCENTILE = 95.0
CONSTANT = 1e-9
MIRRORED_FRACTION = 0.9
"""A replica with so many of its folded frames closer to the mirror image has folded to the mirror image."""


@dataclass(frozen=True)
class Protein:
    """What is known of a protein before any frame.

    Attributes:
        native: [N, 3], Å.
        linked: bool [N-1].
        pairs: int [P, 2], pairs whose contacts are counted.
        contacts: those of the native structure.
    """

    native: np.ndarray
    linked: np.ndarray
    pairs: np.ndarray
    contacts: geometry.NativeContacts

    @classmethod
    def of(cls, native: np.ndarray, linked: np.ndarray, settings: ValidateConfig) -> "Protein":
        pairs = geometry.distant_pairs(linked, settings.contact_min_separation)
        return cls(native, linked, pairs, geometry.native_contacts(native, pairs, settings.contact_cutoff_A))


@dataclass(frozen=True)
class Frames:
    """Per-frame observables of one replica: rmsd, mirror_rmsd, rg in Å, q in 0..1, contacts uint8 [F, P]."""

    rmsd: np.ndarray
    mirror_rmsd: np.ndarray
    rg: np.ndarray
    q: np.ndarray
    contacts: np.ndarray

    @property
    def n_contacts(self) -> np.ndarray:
        return self.contacts.sum(axis=1).astype(float)


def observe(positions: np.ndarray, protein: Protein, settings: ValidateConfig) -> Frames:
    """Everything that the structural checks need, from positions [F, N, 3] in Å, finite."""
    rmsd, mirror = geometry.kabsch_rmsd(positions, protein.native)
    close = geometry.pair_distances(positions, protein.pairs) < settings.contact_cutoff_A
    q = geometry.fraction_native(positions, protein.contacts, settings.q_beta_per_A, settings.q_lambda)
    return Frames(rmsd, mirror, geometry.radius_of_gyration(positions), q, close.astype(np.uint8))


def wasserstein(model: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance of two samples, as an array of one."""
    return np.array([wasserstein_distance(model, reference)])


def contact_differences(model: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean absolute difference and 1 − Pearson r of contact probabilities.

    Over pairs with p > 0.05 in either. A map without variation among its pairs has no correlation: r counts as
    1 if the maps are the same, else as 0.

    Args:
        model, reference: uint8 [F, P].
    """
    p, q = model.mean(axis=0), reference.mean(axis=0)
    present = (p > CONTACT_PROBABILITY) | (q > CONTACT_PROBABILITY)
    p, q = p[present], q[present]
    if not len(p):
        return np.zeros(2)
    if len(p) < 2 or np.std(p) == 0 or np.std(q) == 0:
        r = 1.0 if np.allclose(p, q) else 0.0
    else:
        r = float(np.corrcoef(p, q)[0, 1])
    return np.array([np.abs(p - q).mean(), 1.0 - r])


@dataclass(frozen=True)
class StructuralCheck:
    """One comparison of distributions.

    Attributes:
        check: its declaration.
        feature: what is compared, [F, …] of a replica.
        series: [F], what equilibration and effective sample size are judged by.
        metric: the distances.
        measures: names and floors of the distances.
    """

    check: Check
    feature: Callable[[Frames], np.ndarray]
    series: Callable[[Frames], np.ndarray]
    metric: Metric
    measures: Callable[[ValidateConfig], tuple[Measure, ...]]

    def sample(self, replicas: list[Frames], settings: ValidateConfig) -> Sample:
        """The equilibrated part of some replicas.

        A chain without any contact has constant contacts and a constant Q, however much it moves: its effective
        size is that of its radius of gyration.
        """
        series = [self.series(frames) for frames in replicas]
        if np.ptp(np.concatenate(series)) <= CONSTANT:
            series = [frames.rg for frames in replicas]
        return equilibrated([self.feature(frames) for frames in replicas], series, settings.max_trim)


COMPARISONS: tuple[StructuralCheck, ...] = (
    StructuralCheck(
        RMSD,
        lambda frames: frames.rmsd,
        lambda frames: frames.rmsd,
        wasserstein,
        lambda settings: (Measure("distance of distributions", "Å", settings.rmsd_wasserstein_A),),
    ),
    StructuralCheck(
        CONTACTS,
        lambda frames: frames.contacts,
        lambda frames: frames.n_contacts,
        contact_differences,
        lambda settings: (
            Measure("mean absolute difference", "", settings.contact_mad),
            Measure("Pearson r", "", 1.0 - settings.contact_pearson, similarity=True),
        ),
    ),
    StructuralCheck(
        Q,
        lambda frames: frames.q,
        lambda frames: frames.q,
        wasserstein,
        lambda settings: (Measure("distance of distributions", "", settings.q_wasserstein),),
    ),
    StructuralCheck(
        RG,
        lambda frames: frames.rg,
        lambda frames: frames.rg,
        wasserstein,
        lambda settings: (Measure("distance of distributions", "Å", 0.0),),
    ),
)


def run_comparison(
    spec: StructuralCheck, model: list[Frames], reference: list[Frames], settings: ValidateConfig, subject: str
) -> CheckResult:
    """One structural check of a model against the reference ensemble.

    Args:
        spec: one of `COMPARISONS`.
        model, reference: observables per replica.
        subject: the protein.

    Returns:
        The first measure as value, all of them in `detail`.
    """
    missing = _not_applicable(spec, model + reference)
    if missing:
        return CheckResult(spec.check.name, subject, None, 0.0, None, "inconclusive", missing, unit=spec.check.unit)
    mine, theirs = spec.sample(model, settings), spec.sample(reference, settings)
    measures = spec.measures(settings)
    outcome = compare(mine, theirs, spec.metric, measures, settings)
    detail: dict[str, Any] = {
        "measures": [
            {
                "name": f"1 − {m.name}" if m.similarity else m.name,
                "unit": m.unit,
                "value": v,
                "error": e,
                "limit": limit,
                "reference_noise": noise,
            }
            for m, v, e, limit, noise in zip(
                measures, outcome.values, outcome.errors, outcome.limits, outcome.noise, strict=True
            )
        ],
        "n_effective_reference": outcome.n_effective_reference,
        "trimmed_frames": mine.starts,
        "trimmed_frames_reference": theirs.starts,
        "non_stationary": mine.non_stationary,
        "non_stationary_reference": theirs.non_stationary,
        "needs": outcome.needs,
        **_moments(spec, mine, theirs),
    }
    reported = spec.check.direction == "reported"
    reason = _reported(outcome.values[0], outcome.noise[0], spec.check.unit) if reported else outcome.reason
    if "mean_model" in detail:
        reason = f"mean {detail['mean_model']:.3g} (reference {detail['mean_reference']:.3g}); {reason}"
    return CheckResult(
        check=spec.check.name,
        subject=subject,
        value=float(outcome.values[0]),
        error=float(outcome.errors[0]),
        threshold=None if reported else float(outcome.limits[0]),
        verdict="reported" if reported else outcome.verdict,
        reason=reason,
        unit=spec.check.unit,
        reference=float(outcome.noise[0]),
        n_effective=outcome.n_effective,
        detail=detail,
    )


def _reported(value: float, noise: float, unit: str) -> str:
    relation = "within" if value <= noise else "beyond"
    return f"differs by {value:.3g} {unit}, {relation} the reference's own noise of {noise:.3g} {unit}"


def _not_applicable(spec: StructuralCheck, replicas: list[Frames]) -> str:
    """Why a check says nothing about this protein, or nothing."""
    if spec.check is Q and np.isnan(replicas[0].q).all():
        return "the native structure has no contacts at this cutoff and separation"
    if spec.check is CONTACTS and not any(frames.contacts.any() for frames in replicas):
        return "neither the model nor the reference has contacts at this cutoff and separation"
    return ""


def _moments(spec: StructuralCheck, model: Sample, reference: Sample) -> dict[str, Any]:
    if spec.check is CONTACTS:
        return {"pearson_r": 1.0 - float(spec.metric(model.pooled(), reference.pooled())[1])}
    return {
        f"{moment}_{name}": float(getattr(sample.pooled(), moment)())
        for name, sample in (("model", model), ("reference", reference))
        for moment in ("mean", "std")
    }


def mirror_check(model: list[Frames], reference: list[Frames], settings: ValidateConfig, subject: str) -> CheckResult:
    """Is the folded state the native one or its mirror image?

    A CA trace determines handedness, but energies of distances and unsigned angles do not: a model may fold to
    the mirror image with perfect contacts. If every replica did so there is nothing left to doubt, however
    slowly its series move: that is a fail even where effective samples are too few for a pass.
    """
    limit = float(np.percentile(np.concatenate([frames.rmsd for frames in reference]), FOLDED_PERCENTILE))
    differences = [part for frames in model if len(part := _folded_difference(frames, limit))]
    total = sum(len(frames.rmsd) for frames in model)
    count = sum(map(len, differences))
    result = CheckResult(
        check=MIRROR.name, subject=subject, value=None, error=0.0, threshold=0.0, verdict="inconclusive",
        reason=f"no folded frame (within {limit:.2f} Å of the native structure or its mirror image)", unit=MIRROR.unit,
        detail={"folded_limit_A": limit, "folded_frames": count, "frames": total},
    )  # fmt: skip
    if not differences:
        return result
    sample = equilibrated(differences, differences, settings.max_trim)
    value, error = mean_over_replicas([part.mean() for part in sample.replicas])
    undoubted = verdict = decide(value, error, 0.0, "at least")
    side = "farther" if value > 0 else "closer"
    shown = f"mirror image {side} by {abs(value):.2f} ± {error:.2g} Å in the {count} of {total} frames that are folded"
    doubts = sampling_doubts("model", sample, settings) + replica_doubts(len(differences), settings)
    mirrored = [float(np.mean(part < 0)) for part in differences]
    all_mirrored = len(differences) >= settings.min_replicas and min(mirrored) >= MIRRORED_FRACTION
    if all_mirrored:
        verdict = "fail"
    elif doubts:
        verdict, shown = "inconclusive", f"{shown}, but {in_words(doubts)}"
    needs = together(doubts) or {"run_factor": longer_run_factor(value, error)}
    return replace(
        result, value=value, error=error, verdict=verdict, reason=shown, n_effective=sample.n_effective,
        reference=float(np.mean(np.concatenate([f.mirror_rmsd - f.rmsd for f in reference]))),
        detail={
            **result.detail, "mirrored_fractions": mirrored, "verdict_of_error_bar": undoubted,
            "needs": needs if verdict == "inconclusive" else {}, "by_own_rule": all_mirrored,
        },
    )  # fmt: skip


def _folded_difference(frames: Frames, limit: float) -> np.ndarray:
    """Mirror RMSD minus RMSD of the frames that are close to the native structure or to its mirror image."""
    return (frames.mirror_rmsd - frames.rmsd)[np.minimum(frames.rmsd, frames.mirror_rmsd) <= limit]
