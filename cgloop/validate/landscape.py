"""The free-energy surface along the slowest motions of the reference."""

from typing import Any

import numpy as np

from cgloop.checks import Check, Curve, Plot
from cgloop.units import KB
from cgloop.validate.comparison import Comparison
from cgloop.validate.distances import Metric, Surface, bins_of
from cgloop.validate.measure import Measure
from cgloop.validate.observables import Frames
from cgloop.validate.sample import Sample
from cgloop.validate.structure import StructuralCheck, Target, View
from cgloop.validate.tica import slowest_components

SURFACE = Check(
    "ensemble.surface",
    "free-energy surface",
    "kcal/mol",
    "at most",
    "Mean absolute difference of −kT ln p on a grid over the first two TICA components of the reference's CA–CA "
    "distances, over its states up to a cutoff of 4 kcal/mol, weighted by their probability, after a shift to the same "
    "mean; a state that only one of both visits counts as the cutoff. Root mean square, divergence, and the fraction "
    "of the reference's states that are visited are in the details.",
)

MAX_FEATURES = 200
MARGIN = 0.02
"""Of the reference's range, around it: what lies beyond is the one state "elsewhere"."""


def _view(target: Target) -> View:
    settings = target.settings
    bins = settings.surface_bins
    distances = [frames.distances for frames in target.frames]
    width = distances[0].shape[1]
    chosen = np.unique(np.linspace(0, width - 1, min(width, MAX_FEATURES)).astype(int))
    project = slowest_components([values[:, chosen] for values in distances], settings.surface_lag_frames)
    if project is None:
        return View.absent("the reference's distances have no two slow components")
    components = project
    pooled = components(np.concatenate(distances)[:, chosen])
    low, high = pooled.min(axis=0), pooled.max(axis=0)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    edges = np.linspace(low, high, bins + 1)

    def states(place: np.ndarray) -> np.ndarray:
        x, y = (bins_of(place[:, k], edges[:, k]) for k in range(2))
        inside = ((place >= low) & (place <= high)).all(axis=1)
        return np.where(inside, x * bins + y, bins * bins)

    target_counts = np.bincount(states(pooled), minlength=bins * bins + 1)[:-1].astype(float)
    surface = Surface(bins * bins, KB * target.temperature_K, settings.surface_cutoff_kcal_per_mol, target_counts)

    def place(frames: Frames) -> np.ndarray:
        return components(frames.distances[:, chosen])

    def detail(model: Sample, reference: Sample, metric: Metric) -> dict[str, Any]:
        start = np.zeros(1, int)
        values = metric.distances(*(metric.summaries(s.pooled(), start)[0] for s in (model, reference)))
        elsewhere = float((model.pooled() == bins * bins).mean())
        return {
            "rmse": values[1], "divergence": values[2], "states_visited": 1.0 - values[3],
            "states": int(surface.counted.sum()), "fraction_elsewhere": elsewhere,
        }  # fmt: skip

    def plot(model: Sample, reference: Sample, metric: Metric, outcome: Comparison) -> Plot:
        centres = 0.5 * (edges[1:] + edges[:-1])

        def curve(name: str, role: Any, sample: Sample) -> Curve:
            counts = surface.summaries(sample.pooled(), np.zeros(1, int))[0]
            energy = surface.free_energy(counts)
            visited = np.where(np.isfinite(energy), energy, np.nan)
            lowest = visited[np.isfinite(visited)].min(initial=np.inf)
            grid = np.round(visited - (lowest if np.isfinite(lowest) else 0.0), 2).reshape(bins, bins).T
            return Curve(name, role, centres[:, 0].tolist(), centres[:, 1].tolist(), z=grid.tolist())

        return Plot(
            "maps", "first TICA component", "second TICA component",
            [curve("model", "model", model), curve("reference", "reference", reference)],
            z_label="free energy (kcal/mol)",
        )  # fmt: skip

    unjudged = float("inf")
    return View(
        feature=lambda frames: states(place(frames)),
        series=lambda frames: place(frames)[:, 0],
        metric=lambda model, reference: surface,
        measures=(
            Measure("mean absolute difference", "kcal/mol", settings.surface_mae_kcal_per_mol),
            Measure("root mean square difference", "kcal/mol", unjudged),
            Measure("divergence", "", unjudged, squared=True),
            Measure("fraction of states visited", "", unjudged, similarity=True),
        ),
        plot=plot,
        detail=detail,
    )


COMPARISONS = (StructuralCheck(SURFACE, _view),)
