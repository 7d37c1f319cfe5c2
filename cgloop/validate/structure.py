"""Structural checks: does the model live where the reference lives, at the same temperature?

Nearly all are one pattern: a feature of every frame, a distance between two samples of it, and a limit calibrated by
the reference's own noise (`comparison.compare`). Here are the pattern and the checks of the fold; `handedness`,
`local`, `pairs` and `landscape` have the others, and `family` lists them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cgloop.checks import Check, CheckResult, Plot
from cgloop.config.validate import ValidateConfig
from cgloop.validate.comparison import Comparison, compare, verdict_of
from cgloop.validate.distances import CONTACT_PROBABILITY, ContactMap, Metric, Wasserstein
from cgloop.validate.figures import contact_maps, densities
from cgloop.validate.measure import Measure
from cgloop.validate.observables import Frames, Protein, observe
from cgloop.validate.sample import Needs, Sample, equilibrated

__all__ = ["COMPARISONS", "Frames", "Protein", "StructuralCheck", "Target", "View", "observe", "run_comparison"]

RMSD = Check(
    "structure.rmsd",
    "CA-RMSD to native",
    "Å",
    "at most",
    "Wasserstein-1 distance between the distributions of the Kabsch CA-RMSD to the native structure in the model's "
    "NVT frames and in the reference at the same temperature; the limit is the floor or the reference's own noise, "
    "whichever is larger.",
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
    "at most",
    "Wasserstein-1 distance between the distributions of the radius of gyration, all beads of equal weight.",
)
END_TO_END = Check(
    "structure.end_to_end",
    "end-to-end distance",
    "Å",
    "at most",
    "Wasserstein-1 distance between the distributions of the distance of a chain's first and last bead; of several "
    "linked pieces their mean.",
)

CONSTANT = 1e-9
FLAT_MAP = "flat map: where all pairs are in contact equally often, in the model or in the reference, r is not defined"


class NotComparable(Exception):
    """Why two samples cannot be compared by a check, and what would change that.

    Attributes:
        needs: what would decide the check.
        metric: the distances, where they exist and only samples are too few: a failure may be evident by them.
    """

    def __init__(self, text: str, needs: Needs, metric: Metric | None = None):
        super().__init__(text)
        self.needs = needs
        self.metric = metric


@dataclass(frozen=True)
class Certain:
    """Failure of a model by a rule of a check's own, whatever its effective size, and the number that decides it.

    Attributes:
        text: reason, for words.
        quantity: name of the number, which has no unit.
        value, limit: the number, which has to be at least the limit.
    """

    text: str
    quantity: str
    value: float
    limit: float


@dataclass(frozen=True, eq=False)
class View:
    """How a check looks at frames, once it knows the reference.

    Attributes:
        feature: what is compared, [F, …] of a replica.
        series: [F], what equilibration and effective size are judged by.
        metric: the distances, for two samples; may raise `NotComparable`.
        measures: names and floors of the distances.
        plot: of model and reference samples and the outcome.
        coordinates: [F, C], where the features are coordinates with effective sizes of their own.
        detail: further figures.
        certain: why a model fails whatever its effective size; None if it does not.
        missing: why the check says nothing about this protein, or nothing.
    """

    feature: Callable[[Frames], np.ndarray]
    series: Callable[[Frames], np.ndarray]
    metric: Callable[[Sample, Sample], Metric]
    measures: tuple[Measure, ...]
    plot: Callable[[Sample, Sample, Metric, Comparison], Plot]
    coordinates: Callable[[Frames], np.ndarray] | None = None
    detail: Callable[[Sample, Sample, Metric], dict[str, Any]] = lambda model, reference, metric: {}
    certain: Callable[[Sample], Certain | None] = lambda model: None
    missing: str = ""

    @classmethod
    def absent(cls, why: str) -> "View":
        """Of a check that says nothing about a protein."""

        def undefined(*_: Any) -> Any:
            raise NotComparable(why, {})

        return cls(undefined, undefined, undefined, (), undefined, missing=why)


@dataclass(frozen=True, eq=False)
class Target:
    """The reference that models of a protein are judged by.

    Attributes:
        protein: its geometry.
        frames: observables of every lineage of the reference at the model's temperature.
        temperature_K: of these frames.
        settings: limits and definitions.
        lineages: names of the lineages; empty for their numbers.
        one_start: whether all were begun in one conformation.
    """

    protein: Protein
    frames: list[Frames]
    temperature_K: float
    settings: ValidateConfig
    lineages: tuple[str, ...] = ()
    one_start: bool = False
    _views: dict[str, View] = field(default_factory=dict, repr=False)
    _samples: dict[str, Sample] = field(default_factory=dict, repr=False)

    def view(self, spec: "StructuralCheck") -> View:
        """How a check looks at frames; made once, because it may be fitted to the reference."""
        if spec.check.name not in self._views:
            self._views[spec.check.name] = spec.view(self)
        return self._views[spec.check.name]

    def sample(self, spec: "StructuralCheck") -> Sample:
        """The equilibrated reference; made once."""
        if spec.check.name not in self._samples:
            sample = sample_of(self.view(spec), self.frames, self.settings)
            self._samples[spec.check.name] = replace(sample, names=self.lineages, one_start=self.one_start)
        return self._samples[spec.check.name]

    def relaxing(self) -> list[str]:
        """Return the names of the checks made so far in which the reference still relaxes from one start."""
        return [name for name, sample in self._samples.items() if sample.relaxes]


@dataclass(frozen=True)
class StructuralCheck:
    """A comparison of distributions: its declaration, and how to look at frames given the reference."""

    check: Check
    view: Callable[[Target], View]


def sample_of(view: View, replicas: list[Frames], settings: ValidateConfig) -> Sample:
    """The equilibrated part of some replicas.

    A chain without any contact has constant contacts and a constant Q, however much it moves: its effective size is
    that of its radius of gyration.
    """
    series = [view.series(frames) for frames in replicas]
    if np.ptp(np.concatenate(series)) <= CONSTANT:
        series = [frames.rg for frames in replicas]
    coordinates = None if view.coordinates is None else [view.coordinates(frames) for frames in replicas]
    return equilibrated([view.feature(frames) for frames in replicas], series, settings.max_trim, coordinates)


def run_comparison(spec: StructuralCheck, model: list[Frames], target: Target, subject: str) -> CheckResult:
    """Judge a model against the reference ensemble by one structural check.

    Args:
        spec: the check.
        model: observables per replica, all finite.
        target: the reference.
        subject: the protein.

    Returns:
        The measure that decided as value, all of them in `detail`.
    """
    settings, check, view = target.settings, spec.check, target.view(spec)

    def undecided(reason: str, detail: dict[str, Any]) -> CheckResult:
        return CheckResult(check.name, subject, None, 0.0, None, "inconclusive", reason, unit=check.unit, detail=detail)

    if view.missing:
        return undecided(view.missing, {"not_applicable": True})
    theirs = target.sample(spec)
    mine = theirs if model is target.frames else sample_of(view, model, settings)
    try:
        metric, lacking = view.metric(mine, theirs), None
    except NotComparable as why:
        if why.metric is None:
            return undecided(str(why), {"needs": why.needs} if why.needs else {"not_applicable": True})
        metric, lacking = why.metric, why
    outcome = compare(mine, theirs, metric, view.measures, settings)
    if lacking is not None and not outcome.evident:
        return undecided(str(lacking), {"needs": lacking.needs})
    by_distance = outcome.verdict == "fail"
    if certain := view.certain(mine):
        outcome = replace(outcome, verdict="fail", reason=f"{outcome.shown}: {certain.text}", needs={})
    detail: dict[str, Any] = {
        "measures": [
            {
                "name": m.name, "unit": m.unit, "direction": m.direction, "value": m.shown(v), "error": e,
                "limit": m.shown(limit) if m.judged else None, "reference_noise": m.shown(noise), "reference_error": r,
            }
            for m, v, e, r, limit, noise in zip(
                view.measures, outcome.values, outcome.errors, outcome.reference_errors, outcome.limits, outcome.noise,
                strict=True,
            )
        ],
        "n_effective_reference": outcome.n_effective_reference,
        "trimmed_frames": mine.starts,
        "trimmed_frames_reference": theirs.starts,
        "non_stationary": mine.non_stationary,
        "non_stationary_reference": theirs.non_stationary,
        "needs": outcome.needs,
        "by_own_rule": certain is not None,
        "evidence": outcome.evidence.to_json() if outcome.evidence else None,
        "caveat": outcome.caveat,
        **view.detail(mine, theirs, metric),
    }  # fmt: skip
    means = ""
    if "mean_model" in detail:
        means = f"mean {detail['mean_model']:.3g} (reference {detail['mean_reference']:.3g}); "
    doubtful = outcome.verdict == "inconclusive" and bool(outcome.needs)
    shown = deciding(view.measures, outcome)
    measure = view.measures[shown]
    result = CheckResult(
        check=check.name,
        subject=subject,
        value=measure.shown(outcome.values[shown]),
        error=float(outcome.errors[shown]),
        threshold=measure.shown(outcome.limits[shown]),
        quantity=measure.name if shown else "",
        direction=measure.direction if shown else None,
        verdict=outcome.verdict,
        reason=means + outcome.reason,
        measured=means + outcome.shown if doubtful else "",
        unit=measure.unit if shown else check.unit,
        reference=measure.shown(outcome.noise[shown]),
        n_effective=outcome.n_effective,
        evident=outcome.evident,
        detail=detail,
        plot=view.plot(mine, theirs, metric, outcome),
    )
    if certain is None or by_distance:
        return result
    return replace(
        result, value=certain.value, error=0.0, threshold=certain.limit, quantity=certain.quantity,
        direction="at least", unit="", reference=None,
    )  # fmt: skip


def deciding(measures: Sequence[Measure], outcome: Comparison) -> int:
    """Return the number of the measure that decided.

    That is the one with the evidence, if the fail is evident; else the first whose own verdict is that of the check;
    else the first. A map of contacts may fail by its correlation alone, while the mean difference is inside its limit.
    """
    if outcome.evident and outcome.evidence is not None:
        return [measure.name for measure in measures].index(outcome.evidence.measure)
    rows = zip(measures, outcome.values, outcome.errors, outcome.reference_errors, outcome.limits, strict=True)
    for number, (measure, *numbers) in enumerate(rows):
        if measure.judged and verdict_of(*numbers) == outcome.verdict:
            return number
    return 0


def _scalar(
    check: Check, value: Callable[[Frames], np.ndarray], floor: Callable[[ValidateConfig], float],
    missing: Callable[[Target], str] = lambda target: "",
) -> StructuralCheck:  # fmt: skip
    """A comparison of the distributions of one number a frame."""
    label = f"{check.title} ({check.unit})" if check.unit else check.title

    def view(target: Target) -> View:
        return View(
            feature=value,
            series=value,
            metric=lambda model, reference: Wasserstein.of(*model.replicas, *reference.replicas),
            measures=(Measure("distance of distributions", check.unit, floor(target.settings)),),
            plot=lambda model, reference, metric, outcome: densities(label, model.pooled(), reference.pooled()),
            detail=_moments,
            missing=missing(target),
        )

    return StructuralCheck(check, view)


def _moments(model: Sample, reference: Sample, metric: Metric) -> dict[str, Any]:
    return {
        f"{moment}_{name}": float(getattr(sample.pooled(), moment)())
        for name, sample in (("model", model), ("reference", reference))
        for moment in ("mean", "std")
    }


def _without_native_contacts(target: Target) -> str:
    if len(target.protein.contacts.pairs):
        return ""
    return "the native structure has no contacts at this cutoff and separation"


def _contact_view(target: Target) -> View:
    settings, protein = target.settings, target.protein

    def metric(model: Sample, reference: Sample) -> ContactMap:
        found = ContactMap.of(model.pooled(), reference.pooled())
        if not len(found.columns):
            raise NotComparable("neither the model nor the reference has contacts at this cutoff and separation", {})
        return found

    def detail(model: Sample, reference: Sample, metric: Metric) -> dict[str, Any]:
        p, q = (sample.pooled().mean(axis=0) for sample in (model, reference))
        start = np.zeros(1, int)
        apart = metric.distances(*(metric.summaries(sample.pooled(), start)[0] for sample in (model, reference)))
        present = (p > CONTACT_PROBABILITY) | (q > CONTACT_PROBABILITY)
        return {"pearson_r": 1.0 - float(apart[1]), "pairs": int(present.sum()), "worst": _worst_pairs(p, q, protein)}

    return View(
        feature=lambda frames: frames.contacts,
        series=lambda frames: frames.n_contacts,
        metric=metric,
        measures=(
            Measure("mean absolute difference", "", settings.contact_mad),
            Measure("Pearson r", "", 1.0 - settings.contact_pearson, similarity=True, squared=True, undefined=FLAT_MAP),
        ),
        plot=lambda model, reference, metric, outcome: contact_maps(
            model.pooled().mean(axis=0), reference.pooled().mean(axis=0), protein
        ),
        detail=detail,
    )


def _worst_pairs(model: np.ndarray, reference: np.ndarray, protein: Protein, at_most: int = 5) -> list[dict[str, Any]]:
    """The pairs whose contact probabilities differ most."""
    order: Sequence[int] = np.argsort(-np.abs(model - reference), kind="stable")[:at_most].tolist()
    return [
        {"pair": protein.label(protein.pairs[i]), "model": float(model[i]), "reference": float(reference[i])}
        for i in order
    ]


COMPARISONS: tuple[StructuralCheck, ...] = (
    _scalar(RMSD, lambda frames: frames.rmsd, lambda settings: settings.rmsd_wasserstein_A),
    StructuralCheck(CONTACTS, _contact_view),
    _scalar(Q, lambda frames: frames.q, lambda settings: settings.q_wasserstein, _without_native_contacts),
    _scalar(RG, lambda frames: frames.rg, lambda settings: settings.rg_wasserstein_A),
    _scalar(END_TO_END, lambda frames: frames.end_to_end, lambda settings: settings.end_to_end_wasserstein_A),
)
