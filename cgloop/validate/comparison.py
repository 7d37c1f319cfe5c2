"""Is a simulated ensemble the reference's, within what the reference itself can tell? Arrays in, a verdict out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cgloop.checks import Direction, Verdict, decide
from cgloop.config.validate import ValidateConfig
from cgloop.validate.distances import Metric
from cgloop.validate.equilibration import (
    equilibration_cut,
    inefficiencies,
    more_than_chance,
    statistical_inefficiency,
)
from cgloop.validate.statistics import (
    CircularBlocks,
    jackknife_half_width,
    longer_run_factor,
    mean_over_replicas,
)

NOISE_PERCENTILE = 95.0
UNDECIDABLE_NOISE = 2.0
"""A reference whose own noise exceeds the floor by this factor cannot decide (VALIDATION, "Statistics first")."""

DRIFT_SIZE = 0.5
DRIFT_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Measure:
    """One of a metric's K distances.

    Attributes:
        name: in words.
        unit: "" if dimensionless.
        floor: limit where the reference's noise is smaller; infinite for a distance that is shown and not judged.
        similarity: the distance is 1 − this quantity, which is what is shown and what words speak of.
        undefined: what it means that a distance, its error or its noise is NaN, if that says nothing against a model:
            it is then undecided, and the others may still fail.
    """

    name: str
    unit: str
    floor: float
    similarity: bool = False
    undefined: str = ""

    @property
    def judged(self) -> bool:
        return math.isfinite(self.floor)

    @property
    def direction(self) -> Direction:
        """Which values of what is shown are good."""
        return "at least" if self.similarity else "at most"

    def shown(self, distance: float) -> float:
        """A distance, or a limit of one, as it is shown."""
        return 1.0 - float(distance) if self.similarity else float(distance)

    def is_open(self, *numbers: float) -> bool:
        """Whether the distance cannot be judged for the reason `undefined`, by its value, error and noise."""
        return bool(self.undefined) and any(map(math.isnan, numbers))

    def in_words(self, value: float, error: float, limit: float | None = None) -> str:
        """As `distance 0.31 ± 0.05 Å (at most 1)`."""
        unit = f" {self.unit}" if self.unit else ""
        end = "" if limit is None else f" ({self.direction} {self.shown(limit):.3g})"
        return f"{self.name} {self.shown(value):.3g} ± {error:.2g}{unit}{end}"


@dataclass(frozen=True)
class Sample:
    """The equilibrated part of an ensemble.

    Attributes:
        replicas: features [F_r, …] of every replica after its cut.
        starts: the cuts, frames.
        non_stationary: numbers of the replicas that need more than the allowed cut.
        inefficiency: frames per independent sample, pooled.
        drift: mean of the second half less that of the first, in standard deviations of the series, if all replicas
            together show it significantly; else 0. A steady trend looks the same behind every cut.
        coordinates_effective: [C], effective samples of each coordinate, where the features are coordinates.
    """

    replicas: list[np.ndarray]
    starts: list[int]
    non_stationary: list[int]
    inefficiency: float
    drift: float
    coordinates_effective: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def n_frames(self) -> int:
        return sum(len(features) for features in self.replicas)

    @property
    def n_effective(self) -> float:
        return self.n_frames / self.inefficiency

    @property
    def first_frames(self) -> np.ndarray:
        """int [R], where each replica begins in `pooled`."""
        return np.cumsum([0, *(len(features) for features in self.replicas)])[:-1]

    def pooled(self) -> np.ndarray:
        """Features of all replicas, one after the other."""
        return np.concatenate(self.replicas)


def equilibrated(
    features: list[np.ndarray],
    series: list[np.ndarray],
    max_trim: float,
    coordinates: list[np.ndarray] | None = None,
) -> Sample:
    """Cut every replica by the rule of `equilibration_cut`.

    Args:
        features: per replica [F_r, …], what is compared.
        series: per replica [F_r], what equilibration and effective size are judged by.
        max_trim: largest fraction cut off.
        coordinates: per replica [F_r, C], where the features are coordinates of which each has its own effective size.
            The sample then counts as many frames per independent sample as they do on average, or as the series does
            if that is more: the divergence of a histogram is inversely proportional to its effective samples.
    """
    cuts = [equilibration_cut(values, max_trim) for values in series]
    kept = [values[cut.start :] for values, cut in zip(series, cuts, strict=True)]
    inefficiency, each = statistical_inefficiency(kept), np.zeros(0)
    if coordinates is not None:
        each = inefficiencies([values[cut.start :] for values, cut in zip(coordinates, cuts, strict=True)])
        inefficiency = max(inefficiency, float(each.mean()))
    return Sample(
        replicas=[values[cut.start :] for values, cut in zip(features, cuts, strict=True)],
        starts=[cut.start for cut in cuts],
        non_stationary=[number for number, cut in enumerate(cuts) if not cut.stationary],
        inefficiency=inefficiency,
        drift=common_drift(kept),
        coordinates_effective=sum(map(len, kept)) / each if len(each) else each,
    )


def common_drift(replicas: list[np.ndarray]) -> float:
    """Second half less first half, over the standard deviation of all values; 0 unless large and significant.

    Significant by Student's t over the replicas, and at least `DRIFT_SIZE` standard deviations: in long series a
    drift far below the fluctuations would be significant too, and of no interest.
    """
    spread = float(np.std(np.concatenate(replicas)))
    if spread == 0 or min(map(len, replicas)) < 2:
        return 0.0
    halves = [values[len(values) // 2 :].mean() - values[: len(values) // 2].mean() for values in replicas]
    mean, error = mean_over_replicas(halves, DRIFT_CONFIDENCE)
    return mean / spread if abs(mean) > max(error, DRIFT_SIZE * spread) else 0.0


Needs = dict[str, float | bool | None]
"""What would decide an inconclusive check: `run_factor`, times the present length of the run; `replicas`, how many;
`longer_reference`. Keys that do not matter are left out."""

NON_STATIONARY_RUN_FACTOR = 2.0
"""A series that still moves does not tell how long it needs: at least twice as long."""


class Doubt(NamedTuple):
    """Something that forbids a verdict, and what would settle it."""

    text: str
    needs: Needs


@dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`; arrays are [K], one entry per measure.

    Attributes:
        values: distances between model and reference.
        errors: 95 % half-widths.
        noise: the reference against itself, `NOISE_PERCENTILE`.
        limits: max(floor, noise).
        verdict: of all measures together.
        reason: one sentence.
        needs: what would decide it; empty unless inconclusive.
    """

    values: np.ndarray
    errors: np.ndarray
    noise: np.ndarray
    limits: np.ndarray
    n_effective: float
    n_effective_reference: float
    verdict: Verdict
    reason: str
    needs: Needs


def reference_noise(reference: Sample, n_effective: float, metric: Metric, blocks: int) -> tuple[np.ndarray, int]:
    """How far a sample of the model's effective size may be from the reference by chance alone.

    Blocks of consecutive reference frames with `n_effective` independent samples (at most half of the
    reference) are compared with the rest of the reference.

    Returns:
        The 95th percentile of each distance [K], and the length of a block in frames.
    """
    total = reference.n_frames
    length = max(1, min(round(n_effective * reference.inefficiency), total // 2))
    ring = CircularBlocks.of(total, length, blocks)
    pieces = metric.summaries(reference.pooled(), ring.cuts)
    inside = ring.sums(pieces)
    distances = metric.distances(inside, pieces.sum(axis=0) - inside)
    return np.percentile(distances, NOISE_PERCENTILE, axis=0), length


def compare(
    model: Sample, reference: Sample, metric: Metric, measures: Sequence[Measure], settings: ValidateConfig
) -> Comparison:
    """Distances of a model from the reference, with errors, noise-calibrated limits and a verdict.

    The error bar is a jackknife over replicas with Student's factor. Anything that the data cannot tell is
    inconclusive: too few replicas or effective samples on either side, a series that still moves, or a
    reference whose own noise is beyond twice the floor.
    """

    mine = metric.summaries(model.pooled(), model.first_frames)
    whole = mine.sum(axis=0)
    theirs = metric.summaries(reference.pooled(), np.zeros(1, int))[0]
    values = metric.distances(whole, theirs)
    errors = jackknife_half_width(metric.distances(whole - mine, theirs) if len(mine) > 1 else values[None])
    noise, _ = reference_noise(reference, model.n_effective, metric, settings.noise_blocks)
    floors = np.array([measure.floor for measure in measures])
    limits = np.maximum(floors, noise)
    verdict, reason, needs = _verdict(model, reference, measures, values, errors, noise, limits, settings)
    return Comparison(values, errors, noise, limits, model.n_effective, reference.n_effective, verdict, reason, needs)


def _verdict(
    model: Sample,
    reference: Sample,
    measures: Sequence[Measure],
    values: np.ndarray,
    errors: np.ndarray,
    noise: np.ndarray,
    limits: np.ndarray,
    settings: ValidateConfig,
) -> tuple[Verdict, str, Needs]:
    rows = [row for row in zip(measures, values, errors, noise, limits, strict=True) if row[0].judged]
    judged = [row for row in rows if not row[0].is_open(*row[1:4])]
    unknown = [Doubt(row[0].undefined, {}) for row in rows if row[0].is_open(*row[1:4])]
    if not all(np.isfinite(value) for _, value, *_ in judged):
        return "fail", "cannot be computed from these frames", {}
    doubts = sampling_doubts("model", model, settings) + replica_doubts(len(model.replicas), settings)
    doubts += sampling_doubts("reference", reference, settings)
    for measure, _, _, scatter, _ in judged:
        if not scatter <= UNDECIDABLE_NOISE * measure.floor:
            text = f"the reference cannot decide: its own blocks differ by more than twice the limit ({measure.name})"
            doubts.append(Doubt(text, {"longer_reference": True}))
    shown = "; ".join(measure.in_words(v, e, limit) for measure, v, e, _, limit in judged)
    if doubts:
        return "inconclusive", f"{shown}, but {in_words([*doubts, *unknown])}", together(doubts)
    verdicts = [decide(float(v), float(e), float(limit), "at most") for _, v, e, _, limit in judged]
    verdict = worst(verdicts)
    if unknown and verdict != "fail":
        return "inconclusive", f"{in_words(unknown)}; {shown}", {}
    if verdict != "inconclusive":
        return verdict, shown, {}
    longer = max(
        longer_run_factor(float(limit - v), float(e))
        for (_, v, e, _, limit), one in zip(judged, verdicts, strict=True)
        if one == "inconclusive"
    )
    return verdict, f"{shown}: the error bar reaches across the limit", {"run_factor": longer}


def sampling_doubts(whose: str, sample: Sample, settings: ValidateConfig) -> list[Doubt]:
    """Why a sample of the `model` or the `reference` may not be judged: not stationary, or too few samples."""
    doubts = []
    mine = whose == "model"
    if sample.drift:
        text = f"the replicas of the {whose} move together by {sample.drift:+.1f} standard deviations in half the run"
        doubts.append(Doubt(text, {"run_factor": NON_STATIONARY_RUN_FACTOR} if mine else {"longer_reference": True}))
    if more_than_chance(len(sample.non_stationary), len(sample.replicas)):
        text = (
            f"{len(sample.non_stationary)} of {len(sample.replicas)} {whose} replicas are not stationary "
            f"after cutting off {settings.max_trim:.0%}"
        )
        doubts.append(Doubt(text, {"run_factor": NON_STATIONARY_RUN_FACTOR} if mine else {"longer_reference": True}))
    needed = settings.min_effective_samples
    if not sample.n_effective >= needed:
        text = f"the {whose} has {sample.n_effective:.1f} effective samples, {needed:g} are needed"
        factor = needed / sample.n_effective
        doubts.append(Doubt(text, {"run_factor": factor} if mine else {"longer_reference": True}))
    return doubts


def replica_doubts(count: int, settings: ValidateConfig) -> list[Doubt]:
    """Too few replicas for an error bar."""
    if count >= settings.min_replicas:
        return []
    needed = settings.min_replicas
    return [Doubt(f"{count} replicas, {needed} are needed for an error bar", {"replicas": needed})]


def in_words(doubts: Sequence[Doubt]) -> str:
    return "; ".join(doubt.text for doubt in doubts)


def together(doubts: Sequence[Doubt]) -> Needs:
    """What would settle all doubts."""
    needs: Needs = {}
    for doubt in doubts:
        for key, value in doubt.needs.items():
            needs[key] = max(value or 0, needs.get(key) or 0)
    return needs


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """`fail` if any fails, else `inconclusive` if any is, else `pass`."""
    for verdict in ("fail", "inconclusive"):
        if verdict in verdicts:
            return verdict
    return "pass"


def leave_one_out(
    reference: Sample, metric: Metric, measures: Sequence[Measure], settings: ValidateConfig
) -> tuple[Verdict, np.ndarray, np.ndarray]:
    """Every replica of the reference against the others, as an independent test of the limits.

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
