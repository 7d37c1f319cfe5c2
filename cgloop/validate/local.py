"""Local geometry: are bonds, angles and dihedrals distributed as in the reference?

Coordinates of the same kind of residues share a histogram, their class; a class that is sampled too little is left out,
and named. The mean over classes counts every coordinate alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cgloop.checks import Check, Plot
from cgloop.validate.comparison import Comparison
from cgloop.validate.distances import Divergence, Metric, bins_of
from cgloop.validate.figures import bars_of_classes
from cgloop.validate.measure import Measure
from cgloop.validate.observables import Frames, Protein
from cgloop.validate.sample import Needs, Sample
from cgloop.validate.structure import NotComparable, StructuralCheck, Target, View

DIVERGENCE = "Jensen–Shannon divergence (base 2; 0 for equal, 1 for disjoint distributions) from the reference of "
LEFT_OUT = "mean over coordinates; classes with too few effective samples are left out."
BONDS = Check(
    "local.bonds",
    "CA–CA bonds",
    "",
    "at most",
    f"{DIVERGENCE}bond lengths in declared bins, by the residues at both ends, {LEFT_OUT}",
)
ANGLES = Check(
    "local.angles",
    "CA angles",
    "",
    "at most",
    f"{DIVERGENCE}angles in declared bins, by the residue in the middle, {LEFT_OUT}",
)
DIHEDRALS = Check(
    "local.dihedrals",
    "CA dihedrals",
    "",
    "at most",
    f"{DIVERGENCE}dihedrals in declared bins, by the two residues in the middle, {LEFT_OUT}",
)

BOND_RANGE_A = (2.5, 5.5)
"""Beyond every CA–CA bond, cis or trans; the last bins take what lies outside."""
SMALLEST_COUNTED_SHARE = 0.5
"""Of the coordinates that must be in classes with enough effective samples."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """What a divergence is made of.

    Attributes:
        kind: in the plural, for words.
        values: of every frame, [F, C].
        edges: of the bins.
        class_of: int [C].
        names: of the classes.
        together: whether the coordinates of a class fluctuate together, so that they count as one.
        periodic: whether they are angles in degrees on a circle.
    """

    kind: str
    values: Callable[[Frames], np.ndarray]
    edges: np.ndarray
    class_of: np.ndarray
    names: list[str]
    together: bool = False
    periodic: bool = False

    def of_class(self, effective: np.ndarray) -> np.ndarray:
        """Effective samples of every class [K], from those of the coordinates [C]."""
        sums = np.bincount(self.class_of, effective, len(self.names))
        return sums / np.bincount(self.class_of, minlength=len(self.names)) if self.together else sums

    def effective(self, sample: Sample) -> np.ndarray:
        """Effective samples of every class [K] in a sample; of a periodic coordinate the fewer of sine and cosine."""
        each = sample.coordinates_effective
        return self.of_class(each.reshape(2, -1).min(axis=0) if self.periodic else each)


def divergence_view(target: Target, coordinates: Coordinates, floor: float) -> View:
    """How a check compares the histograms of some coordinates."""
    members = np.bincount(coordinates.class_of, minlength=len(coordinates.names))
    n_bins = len(coordinates.edges) - 1

    def feature(frames: Frames) -> np.ndarray:
        return bins_of(coordinates.values(frames), coordinates.edges)

    def metric(model: Sample, reference: Sample) -> Divergence:
        needed = target.settings.class_min_effective_samples
        mine, theirs = coordinates.effective(model), coordinates.effective(reference)
        weights = np.where((mine >= needed) & (theirs >= needed), members, 0.0)
        if not weights.sum() >= SMALLEST_COUNTED_SHARE * members.sum():
            few = "model" if np.median(mine) < np.median(theirs) else "reference"
            text = (
                f"{coordinates.kind}: {int(weights.sum())} of {members.sum()} are in classes with {needed:g} effective "
                f"samples, at least half are needed; the {few} has fewer"
            )
            factor = needed / max(float(np.median(mine)), 1e-9)
            needs: Needs = {"run_factor": factor} if few == "model" else {"longer_reference": True}
            raise NotComparable(text, needs, Divergence(coordinates.class_of, n_bins, members.astype(float)))
        return Divergence(coordinates.class_of, n_bins, weights)

    def detail(model: Sample, reference: Sample, metric: Metric) -> dict[str, Any]:
        assert isinstance(metric, Divergence)
        each, mine = _each_class(metric, model, reference), coordinates.effective(model)
        order = np.argsort(-each, kind="stable")
        left_out = [coordinates.names[i] for i in np.flatnonzero(metric.weights == 0).tolist()]
        counted = [
            {"name": coordinates.names[i], "divergence": each[i], "coordinates": members[i], "n_effective": mine[i]}
            for i in order.tolist()
            if metric.weights[i] > 0
        ]
        return {"classes": len(counted), "worst": counted[:5], "left_out": left_out[:20], "n_left_out": len(left_out)}

    def plot(model: Sample, reference: Sample, metric: Metric, outcome: Comparison) -> Plot:
        assert isinstance(metric, Divergence)
        counted = np.flatnonzero(metric.weights > 0)
        pooled = reference.pooled()
        halves = metric.summaries(pooled, np.array([0, max(1, len(pooled) // 2)]))
        return bars_of_classes(
            coordinates.kind,
            [coordinates.names[i] for i in counted.tolist()],
            _each_class(metric, model, reference)[counted],
            metric.by_class(halves[0], halves[-1])[counted],
            float(outcome.limits[0]),
            "Jensen–Shannon divergence",
        )

    surprise = _surprise(feature, coordinates, target.frames) if len(coordinates.class_of) else feature
    return View(
        feature=feature,
        series=surprise,
        metric=metric,
        measures=(Measure("divergence", "", floor, squared=True),),
        plot=plot,
        coordinates=lambda frames: _on_circle(coordinates.values(frames)) if coordinates.periodic
        else coordinates.values(frames),
        detail=detail,
        missing="" if len(coordinates.class_of) else f"the chain has no {coordinates.kind}",
    )  # fmt: skip


def _each_class(metric: Divergence, model: Sample, reference: Sample) -> np.ndarray:
    start = np.zeros(1, int)
    return metric.by_class(*(metric.summaries(sample.pooled(), start)[0] for sample in (model, reference)))


def _on_circle(degrees: np.ndarray) -> np.ndarray:
    """Cosines and sines [F, 2C]: a coordinate that crosses ±180° has not jumped."""
    angle = np.radians(degrees)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def _surprise(
    feature: Callable[[Frames], np.ndarray], coordinates: Coordinates, reference: list[Frames]
) -> Callable[[Frames], np.ndarray]:
    """One number a frame that says where it lies in the reference's distributions: −ln p, mean over coordinates.

    A slow change of any of the distributions shows in it, whatever its direction.
    """
    n_bins = len(coordinates.edges) - 1
    counted = Divergence(coordinates.class_of, n_bins, np.ones(len(coordinates.names)))
    counts = counted.summaries(np.concatenate([feature(frames) for frames in reference]), np.zeros(1, int))[0]
    # Half a count for bins that the reference never visits: what is rare there is surprising, and finite.
    table = -np.log((counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True))
    return lambda frames: table[coordinates.class_of, feature(frames)].mean(axis=1)


def classes_by_residues(protein: Protein, beads: np.ndarray, ordered: bool) -> tuple[np.ndarray, list[str]]:
    """Class of each coordinate [C] by the residues of some of its beads [C, k]; without residues each is its own."""
    if not protein.residues:
        names = [protein.label(row) for row in beads]
    else:
        kinds = ([protein.residues[i] for i in row] for row in beads)
        names = ["–".join(kind if ordered else sorted(kind)) for kind in kinds]
    known = sorted(set(names))
    return np.array([known.index(name) for name in names], int), known


def _even_edges(low: float, high: float, width: float) -> np.ndarray:
    """Edges of bins of about that width which fill the range."""
    return np.linspace(low, high, max(1, round((high - low) / width)) + 1)


def _bond_view(target: Target) -> View:
    classes = classes_by_residues(target.protein, target.protein.bonds, ordered=False)
    edges = _even_edges(*BOND_RANGE_A, target.settings.bond_bin_A)
    coordinates = Coordinates("bonds", lambda frames: frames.bonds, edges, *classes)
    return divergence_view(target, coordinates, target.settings.local_divergence)


def _angle_view(target: Target) -> View:
    classes = classes_by_residues(target.protein, target.protein.angles[:, 1:2], ordered=True)
    edges = _even_edges(0.0, 180.0, target.settings.angle_bin_deg)
    coordinates = Coordinates("angles", lambda frames: frames.angles, edges, *classes)
    return divergence_view(target, coordinates, target.settings.local_divergence)


def _dihedral_view(target: Target) -> View:
    classes = classes_by_residues(target.protein, target.protein.dihedrals[:, 1:3], ordered=True)
    edges = _even_edges(-180.0, 180.0, target.settings.dihedral_bin_deg)
    coordinates = Coordinates("dihedrals", lambda frames: frames.dihedrals, edges, *classes, periodic=True)
    return divergence_view(target, coordinates, target.settings.local_divergence)


COMPARISONS = (
    StructuralCheck(BONDS, _bond_view),
    StructuralCheck(ANGLES, _angle_view),
    StructuralCheck(DIHEDRALS, _dihedral_view),
)
