"""Is a simulated ensemble the reference's, within what the reference itself can tell? Arrays in, a verdict out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cgloop.checks import Evidence, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.distances import Metric
from cgloop.validate.evidence import evidence_against
from cgloop.validate.measure import Measure
from cgloop.validate.sample import Doubt, Needs, Sample, in_words, replica_doubts, sampling_doubts, together
from cgloop.validate.statistics import CircularBlocks, jackknife_half_width, longer_run_factor, mean_over_replicas

NOISE_PERCENTILE = 95.0
UNDECIDABLE_NOISE = 2.0
"""A reference whose own noise exceeds the floor by this factor cannot decide (VALIDATION, "Statistics first")."""

STILL_RELAXES = "against the reference as given, which shows no transition away from its start"
"""Said of a fail where the lineages of the reference still leave the one conformation that they were begun in."""

WOULD_DECIDE = "a longer reference, or one begun in several conformations, would decide"
"""Said beside it."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`; arrays are [K], one entry per measure.

    Attributes:
        values: distances between model and reference.
        errors: 95 % half-widths, by the scatter between the model's lineages.
        reference_errors: the same by the scatter between the reference's lineages; 0 for a single one, which does not
            show it. They count where a model is to fail, not where it is to pass: then the reference's effective
            samples do.
        noise: the reference against itself, `NOISE_PERCENTILE`.
        limits: max(floor, noise).
        verdict: of all measures together.
        shown: values, errors and limits in words.
        reason: one sentence.
        needs: what would decide it; empty unless inconclusive.
        evidence: how far the model is from the nearest lineage of the reference; None with too few lineages.
        caveat: what makes the reference doubtful where the model fails against it, or nothing.
    """

    values: np.ndarray
    errors: np.ndarray
    reference_errors: np.ndarray
    noise: np.ndarray
    limits: np.ndarray
    n_effective: float
    n_effective_reference: float
    verdict: Verdict
    shown: str
    reason: str
    needs: Needs
    evidence: Evidence | None = None
    caveat: str = ""

    @property
    def evident(self) -> bool:
        """Whether the model fails whatever the effective samples are."""
        return self.verdict == "fail" and self.evidence is not None and self.evidence.evident


def reference_noise(reference: Sample, n_effective: float, metric: Metric, blocks: int) -> tuple[np.ndarray, int]:
    """How far a sample of the model's effective size may be from the reference by chance alone.

    Blocks of consecutive reference frames with `n_effective` independent samples (at most half of the
    reference) are compared with the rest of the reference.

    Returns:
        The 95th percentile of each distance [K], and the length of a block in frames.
    """
    total = reference.n_frames
    length = max(1, min(round(n_effective * total / reference.n_effective), total // 2))
    ring = CircularBlocks.of(total, length, blocks)
    pieces = metric.summaries(reference.pooled(), ring.cuts)
    inside = ring.sums(pieces)
    distances = metric.distances(inside, pieces.sum(axis=0) - inside)
    return np.percentile(distances, NOISE_PERCENTILE, axis=0), length


def compare(
    model: Sample, reference: Sample, metric: Metric, measures: Sequence[Measure], settings: ValidateConfig
) -> Comparison:
    """Compare a model with the reference: distances with errors, noise-calibrated limits, and a verdict.

    The error bar is a jackknife over the model's lineages with Student's factor. A model that is farther than limit and
    errors even from the nearest lineage of the reference fails, see `evidence`. Otherwise anything that the data cannot
    decide is inconclusive: too few replicas or effective samples on either side, a drift common to the lineages, or a
    reference whose own noise is beyond twice the floor. Otherwise a value passes that is inside the limit with its
    error, and one fails that is outside by more than the errors of model and reference together: lineages shorter
    than the time between two transitions may show a state too often, which the noise of blocks cannot tell.
    """
    mine = metric.summaries(model.pooled(), model.first_frames)
    each = metric.summaries(reference.pooled(), reference.first_frames)
    whole, theirs = mine.sum(axis=0), each.sum(axis=0)
    values = metric.distances(whole, theirs)
    errors = jackknife_half_width(metric.distances(whole - mine, theirs) if len(mine) > 1 else values[None])
    without = metric.distances(theirs - each, whole) if len(each) > 1 else None
    reference_errors = np.zeros(len(values)) if without is None else jackknife_half_width(without)
    noise, _ = reference_noise(reference, model.n_effective, metric, settings.noise_blocks)
    limits = np.maximum([measure.floor for measure in measures], noise)
    names = [reference.name(number) for number in range(len(each))]
    evidence = evidence_against(mine, each, names, metric, measures, limits)
    rows = [_Row(*row) for row in zip(measures, values, errors, reference_errors, noise, limits, strict=True)]
    decided = _decided(rows, model, reference, evidence, settings)
    caveat, reason = "", decided.reason
    if decided.verdict == "fail" and reference.relaxes:
        caveat = _caveat(reference)
        reason = f"{reason}; {STILL_RELAXES} ({caveat}): {WOULD_DECIDE}"
    return Comparison(
        values, errors, reference_errors, noise, limits, model.n_effective, reference.n_effective,
        decided.verdict, decided.shown, reason, decided.needs, evidence, caveat,
    )  # fmt: skip


class _Row(NamedTuple):
    """One of the distances with all that is to be judged."""

    measure: Measure
    value: float
    error: float
    reference_error: float
    noise: float
    limit: float

    @property
    def undecided(self) -> bool:
        """Whether it cannot be judged for the reason that its measure gives."""
        return self.measure.is_open(self.value, self.error, self.noise)

    @property
    def verdict_of_the_model(self) -> Verdict:
        """The verdict with the model's error alone."""
        return decide(float(self.value), float(self.error), float(self.limit), "at most")

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.value, self.error, self.reference_error, self.limit)


def verdict_of(value: float, error: float, reference_error: float, limit: float) -> Verdict:
    """Return the verdict of one distance: a fail has to exceed the error of the reference as well."""
    found = decide(float(value), float(error), float(limit), "at most")
    if found == "fail" and math.isfinite(value) and not value - math.hypot(error, reference_error) > limit:
        return "inconclusive"
    return found


class _Decided(NamedTuple):
    verdict: Verdict
    shown: str
    reason: str
    needs: Needs


def _decided(
    rows: Sequence[_Row], model: Sample, reference: Sample, evidence: Evidence | None, settings: ValidateConfig
) -> _Decided:
    counted = [row for row in rows if row.measure.judged]
    judged = [row for row in counted if not row.undecided]
    unknown = [Doubt(row.measure.undefined, {}) for row in counted if row.undecided]
    if not all(np.isfinite(row.value) for row in judged):
        text = "cannot be computed from these frames"
        return _Decided("fail", text, text, {})
    shown = "; ".join(row.measure.in_words(row.value, row.error, row.limit) for row in judged)
    if evidence is not None and evidence.evident:
        return _Decided("fail", shown, f"{shown}: {_beyond(evidence, rows)}", {})
    doubts = sampling_doubts("model", model, settings) + replica_doubts(len(model.replicas), settings)
    doubts += sampling_doubts("reference", reference, settings) + _noise_doubts(judged)
    if doubts:
        return _Decided("inconclusive", shown, f"{shown}, but {in_words([*doubts, *unknown])}", together(doubts))
    verdict = worst([row.verdict for row in judged])
    if unknown and verdict != "fail":
        return _Decided("inconclusive", shown, f"{in_words(unknown)}; {shown}", {})
    if verdict != "inconclusive":
        return _Decided(verdict, shown, shown, {})
    crossing = [row for row in judged if row.verdict_of_the_model == "inconclusive"]
    if not crossing:
        scatter = next(row.reference_error for row in judged if row.verdict == "inconclusive")
        why = f"the scatter between the lineages of the reference, ± {scatter:.2g}, may explain it"
        return _Decided(verdict, shown, f"{shown}, but {why}", {"longer_reference": True})
    longer = max(longer_run_factor(float(row.limit - row.value), float(row.error)) for row in crossing)
    return _Decided(verdict, shown, f"{shown}: the error bar reaches across the limit", {"run_factor": longer})


def _noise_doubts(judged: Sequence[_Row]) -> list[Doubt]:
    """Return a doubt for each distance whose noise in the reference is beyond twice the floor."""
    return [
        Doubt(
            f"the reference cannot decide: its own blocks differ by more than twice the limit ({row.measure.name})",
            {"longer_reference": True},
        )
        for row in judged
        if not row.noise <= UNDECIDABLE_NOISE * row.measure.floor
    ]


def _beyond(evidence: Evidence, rows: Sequence[_Row]) -> str:
    """Say that a model is farther than limit and errors, with the numbers of the rule."""
    unit = next(row.measure.unit for row in rows if row.measure.name == evidence.measure)
    distance = f"{evidence.distance:.3g}{f' {unit}' if unit else ''}"
    return (
        f"{distance} from {evidence.lineage}, the nearest lineage of the reference, by {evidence.measure}: beyond the "
        f"limit {evidence.limit:.3g} and the errors {evidence.model_error:.2g} (model) and "
        f"{evidence.reference_error:.2g} (reference)"
    )


def _caveat(reference: Sample) -> str:
    """Say in what way the reference still leaves its start."""
    if reference.drift:
        return f"its lineages drift together by {reference.drift:+.1f} standard deviations in half their length"
    return f"{len(reference.non_stationary)} of its {len(reference.replicas)} lineages have not come to rest"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """`fail` if any fails, else `inconclusive` if any is, else `pass`."""
    for verdict in ("fail", "inconclusive"):
        if verdict in verdicts:
            return verdict
    return "pass"


def leave_one_out(
    reference: Sample, metric: Metric, measures: Sequence[Measure], settings: ValidateConfig
) -> tuple[Verdict, np.ndarray, np.ndarray]:
    """Compare every lineage of the reference with the others, as an independent test of the limits.

    Returns:
        Verdict, mean distance [K] and its 95 % half-width [K].
    """
    count = len(reference.replicas)
    if count < 2:
        return "inconclusive", np.full(len(measures), math.nan), np.full(len(measures), math.inf)
    each = metric.summaries(reference.pooled(), reference.first_frames)
    distances = metric.distances(each, each.sum(axis=0) - each)
    noise, _ = reference_noise(reference, reference.n_effective / count, metric, settings.noise_blocks)
    means, errors = zip(*(mean_over_replicas(column) for column in distances.T), strict=True)
    limits = [max(measure.floor, float(scatter)) for measure, scatter in zip(measures, noise, strict=True)]
    rows = [row for row in zip(measures, means, errors, limits, strict=True) if row[0].judged]
    judged = [row for row in rows if not row[0].is_open(*row[1:3])]
    verdict = worst([decide(m, e, limit, "at most") for _, m, e, limit in judged])
    return verdict, np.array(means), np.array(errors)
