"""Handedness: a CA trace has one, and energies of distances and unsigned angles do not know it."""

from dataclasses import replace
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult, Curve, Evidence, Plot, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.comparison import Comparison
from cgloop.validate.distances import Disagreement, Metric
from cgloop.validate.evidence import FEWEST_MODEL, margin_of
from cgloop.validate.figures import MAX_BARS, densities
from cgloop.validate.measure import Measure
from cgloop.validate.observables import Frames
from cgloop.validate.sample import Sample, equilibrated, in_words, replica_doubts, sampling_doubts, together
from cgloop.validate.statistics import longer_run_factor, mean_over_replicas
from cgloop.validate.structure import Certain, StructuralCheck, Target, View

MIRROR = Check(
    "structure.mirror",
    "handedness of the fold",
    "Å",
    "at least",
    "RMSD to the mirror image of the native structure minus RMSD to the native one, mean over folded frames: those "
    "in which the smaller of both is below the 95th percentile of the reference's RMSD.",
)
HANDEDNESS = Check(
    "structure.handedness",
    "signs of dihedrals",
    "",
    "at least",
    "Fraction of signed CA dihedrals (i to i+3) with the reference's sign, over frames and over the dihedrals whose "
    "sign is the same in at least 90 % of the reference.",
)

FOLDED_PERCENTILE = 95.0
MIRRORED_FRACTION = 0.9
"""A replica with more of its folded frames closer to the mirror image has folded to the mirror image."""

OTHER_HAND = 0.5
"""A replica in which fewer of the signs are those of the reference has the other hand."""


def _handedness_view(target: Target) -> View:
    settings, protein = target.settings, target.protein
    positive = (np.concatenate([frames.dihedrals for frames in target.frames]) > 0).mean(axis=0)
    decided = np.flatnonzero(np.maximum(positive, 1.0 - positive) >= settings.handedness_decided)
    right = positive[decided] > 0.5

    def feature(frames: Frames) -> np.ndarray:
        return (frames.dihedrals[:, decided] > 0) == right

    def certain(model: Sample) -> Certain | None:
        # Slow series have few effective samples; that every replica has the other hand leaves nothing to doubt.
        fractions = [float(values.mean()) for values in model.replicas]
        if len(fractions) < settings.min_replicas or not max(fractions) < OTHER_HAND:
            return None
        text = "in every replica most dihedrals have the other sign"
        return Certain(text, "largest fraction of a replica", max(fractions), OTHER_HAND)

    def detail(model: Sample, reference: Sample, metric: Metric) -> dict[str, Any]:
        return {
            "dihedrals": len(decided),
            "of_dihedrals": len(positive),
            "fraction_model": float(model.pooled().mean()),
            "fraction_reference": float(reference.pooled().mean()),
        }

    def plot(model: Sample, reference: Sample, metric: Metric, outcome: Comparison) -> Plot:
        mine, theirs = model.pooled().mean(axis=0), reference.pooled().mean(axis=0)
        shown = np.sort(np.argsort(mine - theirs, kind="stable")[:MAX_BARS])
        place = list(range(len(shown)))
        return Plot(
            "bars", "dihedral", "fraction with the reference's sign",
            [Curve("model", "model", place, mine[shown].tolist()),
             Curve("reference", "reference", place, theirs[shown].tolist())],
            ticks=[protein.label(protein.dihedrals[decided[i]]) for i in shown],
        )  # fmt: skip

    return View(
        feature=feature,
        series=lambda frames: feature(frames).mean(axis=1),
        metric=lambda model, reference: Disagreement(),
        measures=(
            Measure("fraction with the reference's sign", "", 1.0 - settings.handedness_fraction, similarity=True),
        ),
        plot=plot,
        detail=detail,
        certain=certain,
        missing="" if len(decided) else "no dihedral of the reference has one sign often enough",
    )


COMPARISONS = (StructuralCheck(HANDEDNESS, _handedness_view),)


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
    measured = ""
    doubts = sampling_doubts("model", sample, settings) + replica_doubts(len(differences), settings)
    mirrored = [float(np.mean(part < 0)) for part in differences]
    all_mirrored = len(differences) >= settings.min_replicas and min(mirrored) > MIRRORED_FRACTION
    evidence = _mirrored_evidence(value, error, len(differences))
    evident = evidence is not None and evidence.evident
    # The number that decides: the error bar, or else the least mirrored replica.
    by_fraction = all_mirrored and not evident and (bool(doubts) or undoubted != "fail")
    if all_mirrored or evident:
        verdict = "fail"
    elif doubts:
        verdict, measured, shown = "inconclusive", shown, f"{shown}, but {in_words(doubts)}"
    needs = together(doubts) or {"run_factor": longer_run_factor(value, error)}
    theirs = np.concatenate([frames.mirror_rmsd - frames.rmsd for frames in reference])
    if by_fraction:
        shown += f"; in every replica more than {MIRRORED_FRACTION:.0%} of these are closer to the mirror image"
    found = replace(
        result, value=value, error=error, verdict=verdict, reason=shown, measured=measured,
        n_effective=sample.n_effective, reference=float(theirs.mean()), evident=evident,
        detail={
            **result.detail, "mirrored_fractions": mirrored, "verdict_of_error_bar": undoubted,
            "needs": needs if verdict == "inconclusive" else {}, "by_own_rule": all_mirrored,
            "evidence": evidence.to_json() if evidence else None,
        },
        plot=densities(
            "RMSD to the mirror image less RMSD (Å)", np.concatenate([f.mirror_rmsd - f.rmsd for f in model]), theirs
        ),
    )  # fmt: skip
    if not by_fraction:
        return found
    return replace(
        found, value=min(mirrored), error=0.0, threshold=MIRRORED_FRACTION, unit="", reference=None,
        quantity="smallest share of mirrored frames in a replica", direction="at most",
    )  # fmt: skip


def _mirrored_evidence(value: float, error: float, replicas: int) -> Evidence | None:
    """Return how evidently the mirror image is closer: the native structure is the reference, and has no error."""
    if replicas < FEWEST_MODEL:
        return None
    margin = margin_of(-value, error, 0.0, 0.0, squared=False)
    return Evidence("RMSD less RMSD to the mirror image", -value, "native structure", error, 0.0, 0.0, margin)


def _folded_difference(frames: Frames, limit: float) -> np.ndarray:
    """Mirror RMSD minus RMSD of the frames that are close to the native structure or to its mirror image."""
    return (frames.mirror_rmsd - frames.rmsd)[np.minimum(frames.rmsd, frames.mirror_rmsd) <= limit]
