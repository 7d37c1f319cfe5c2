"""The equilibrated part of an ensemble: its effective size, and what forbids judging it.

The unit is the lineage: a simulation together with what continues it. Lineages are independent of each other, frames
of one are not. Of a model every replica is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cgloop.config.validate import ValidateConfig
from cgloop.validate.equilibration import (
    effective_between,
    equilibration_cut,
    inefficiencies,
    more_than_chance,
    statistical_inefficiency,
)
from cgloop.validate.statistics import mean_over_replicas

DRIFT_SIZE = 0.5
DRIFT_CONFIDENCE = 0.99


@dataclass(frozen=True)
class Sample:
    """The equilibrated part of an ensemble.

    Attributes:
        replicas: features [F_r, …] of every lineage after its cut.
        starts: the cuts, frames.
        non_stationary: numbers of the lineages that need more than the allowed cut.
        inefficiency: frames per independent sample, pooled.
        drift: mean of the second half minus that of the first, in standard deviations of the series, if all lineages
            together show it significantly; else 0.
        between: effective samples by the scatter of the lineages' means, see `effective_between`.
        coordinates_effective: [C], effective samples of each coordinate by its correlation in time, where the features
            are coordinates. The scatter of few lineages would be too noisy an estimate for one coordinate.
        names: of the lineages; empty for their numbers.
        one_start: whether the lineages were begun in one conformation.
    """

    replicas: list[np.ndarray]
    starts: list[int]
    non_stationary: list[int]
    inefficiency: float
    drift: float
    between: float = np.inf
    coordinates_effective: np.ndarray = field(default_factory=lambda: np.zeros(0))
    names: tuple[str, ...] = ()
    one_start: bool = False

    @property
    def n_frames(self) -> int:
        return sum(len(features) for features in self.replicas)

    @property
    def n_pooled(self) -> float:
        """Effective samples by the correlation in time of all lineages with their common mean."""
        return self.n_frames / self.inefficiency

    @property
    def n_effective(self) -> float:
        """The smaller of `n_pooled` and `between`: min(N/g, R s²/s_b²)."""
        return min(self.n_pooled, self.between)

    @property
    def first_frames(self) -> np.ndarray:
        """int [R], where each lineage begins in `pooled`."""
        return np.cumsum([0, *(len(features) for features in self.replicas)])[:-1]

    @property
    def relaxes(self) -> bool:
        """Whether it still leaves the one conformation that all lineages were begun in.

        A sign of it is a drift common to the lineages, or more lineages that are not stationary than chance explains.
        """
        moving = bool(self.drift) or more_than_chance(len(self.non_stationary), len(self.replicas))
        return self.one_start and moving

    def name(self, lineage: int) -> str:
        """Name of a lineage, for words."""
        return self.names[lineage] if self.names else f"replica {lineage}"

    def pooled(self) -> np.ndarray:
        """Features of all lineages, one after the other."""
        return np.concatenate(self.replicas)


def equilibrated(
    features: list[np.ndarray],
    series: list[np.ndarray],
    max_trim: float,
    coordinates: list[np.ndarray] | None = None,
) -> Sample:
    """Cut every lineage by the rule of `equilibration_cut`; all as far as allowed where they drift together.

    Args:
        features: per lineage [F_r, …], what is compared.
        series: per lineage [F_r], what equilibration and effective size are judged by.
        max_trim: largest fraction cut off.
        coordinates: per lineage [F_r, C], where the features are coordinates of which each has its own effective size.
            The sample then counts as many frames per independent sample as they do on average, or as the series does
            if that is more: the divergence of a histogram is inversely proportional to its effective samples.
    """
    cuts = [equilibration_cut(values, max_trim) for values in series]
    starts = [cut.start for cut in cuts]
    drift = common_drift(_cut(series, starts))
    if drift:
        # A relaxation from a shared start: it is met by cutting, as far as that is allowed.
        latest = [int(max_trim * len(values)) for values in series]
        if not common_drift(_cut(series, latest)):
            starts, drift = latest, 0.0
    kept = _cut(series, starts)
    inefficiency, between, each = statistical_inefficiency(kept), float(effective_between(kept)[0]), np.zeros(0)
    if coordinates is not None:
        counted = inefficiencies(_cut(coordinates, starts))
        inefficiency = max(inefficiency, float(counted.mean()))
        each = sum(map(len, kept)) / counted
    return Sample(
        replicas=_cut(features, starts),
        starts=starts,
        non_stationary=[number for number, cut in enumerate(cuts) if not cut.stationary],
        inefficiency=inefficiency,
        drift=drift,
        between=between,
        coordinates_effective=each,
    )


def _cut(parts: list[np.ndarray], starts: list[int]) -> list[np.ndarray]:
    return [values[start:] for values, start in zip(parts, starts, strict=True)]


def common_drift(replicas: list[np.ndarray]) -> float:
    """Return the second half minus the first, in standard deviations of all values; 0 unless large and significant.

    Significant by Student's t over the lineages, and at least `DRIFT_SIZE` standard deviations: in long series a
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
"""A series that still drifts does not show how long it needs: at least twice as long."""


class Doubt(NamedTuple):
    """Something that forbids a verdict, and what would settle it."""

    text: str
    needs: Needs


def sampling_doubts(whose: str, sample: Sample, settings: ValidateConfig) -> list[Doubt]:
    """Return why a sample of the `model` or the `reference` may not be judged: a common drift, or too few samples.

    Single lineages that are not stationary are no reason: a lineage that crosses to another basin once shows in the
    scatter between lineages, from which error bars and effective samples are made.
    """
    doubts = []
    mine = whose == "model"
    if sample.drift:
        text = f"the replicas of the {whose} drift together by {sample.drift:+.1f} standard deviations in half the run"
        doubts.append(Doubt(text, {"run_factor": NON_STATIONARY_RUN_FACTOR} if mine else {"longer_reference": True}))
    needed = settings.min_effective_samples
    if not sample.n_effective >= needed:
        text = f"the {whose} has {sample.n_effective:.1f} effective samples, {needed:g} are needed"
        factor = needed / sample.n_effective
        doubts.append(Doubt(text, {"run_factor": factor} if mine else {"longer_reference": True}))
    return doubts


def replica_doubts(count: int, settings: ValidateConfig) -> list[Doubt]:
    """Return the doubt that too few replicas leave about an error bar, if there is one."""
    if count >= settings.min_replicas:
        return []
    needed = settings.min_replicas
    return [Doubt(f"{count} replicas, {needed} are needed for an error bar", {"replicas": needed})]


def in_words(doubts: Sequence[Doubt]) -> str:
    return "; ".join(doubt.text for doubt in doubts)


def together(doubts: Sequence[Doubt]) -> Needs:
    """Return what would settle all doubts."""
    needs: Needs = {}
    for doubt in doubts:
        for key, value in doubt.needs.items():
            needs[key] = max(value or 0, needs.get(key) or 0)
    return needs
