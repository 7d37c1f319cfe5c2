"""Evident failure: is a model farther from every lineage of the reference than all errors and the limit explain?

A pass needs enough effective samples and stationary series; a fail does not. With d_r the distance of the pooled model
to lineage r of the reference, r* the nearest, L the limit, e_m the error of d_r* and e_r the largest distance of a
lineage to the others, a model fails evidently if

    d_r* > L + e_m + e_r.

A model that samples the reference's own distribution P is within d(model, P) + d(P, r*) of the nearest lineage, by the
triangle inequality: the first is bounded by L and e_m, the second by e_r, which grows with every state that lineages do
not share. Divergences and 1 − r are squares of metrics, and their square roots are compared:

    √d_r* − √e_r − e_m / (2 √d_r*) > √L.
"""

import math
from collections.abc import Sequence

import numpy as np

from cgloop.checks import Evidence
from cgloop.validate.distances import Metric
from cgloop.validate.measure import Measure
from cgloop.validate.statistics import jackknife_half_width

FEWEST_MODEL, FEWEST_REFERENCE = 3, 2
"""Lineages, without which nothing is evident: for an error of the model's distance, and for one of the reference."""


def evidence_against(
    mine: np.ndarray,
    theirs: np.ndarray,
    names: Sequence[str],
    metric: Metric,
    measures: Sequence[Measure],
    limits: np.ndarray,
) -> Evidence | None:
    """Return the strongest evidence that the distances of a model give, evident or not.

    Args:
        mine: summaries of the model's lineages, [R, …].
        theirs: summaries of the reference's lineages, [L, …].
        names: of the reference's lineages.
        metric: K distances.
        measures: of the distances, [K].
        limits: of the check, [K].

    Returns:
        None with too few lineages, or where no judged distance is a number.
    """
    if len(mine) < FEWEST_MODEL or len(theirs) < FEWEST_REFERENCE:
        return None
    whole = mine.sum(axis=0)
    distances = metric.distances(whole[None], theirs)
    apart = metric.distances(theirs, theirs.sum(axis=0) - theirs).max(axis=0)
    found = []
    for k, (measure, limit) in enumerate(zip(measures, limits, strict=True)):
        if not measure.judged or not np.isfinite(distances[:, k]).all():
            continue
        nearest = int(np.argmin(distances[:, k]))
        distance, reference_error = float(distances[nearest, k]), float(apart[k])
        model_error = float(jackknife_half_width(metric.distances(whole - mine, theirs[nearest]))[k])
        margin = margin_of(distance, model_error, reference_error, float(limit), measure.squared)
        evidence = Evidence(measure.name, distance, names[nearest], model_error, reference_error, float(limit), margin)
        found.append((_strength(evidence, measure.squared), k, evidence))
    return max(found)[2] if found else None


def _strength(evidence: Evidence, squared: bool) -> float:
    """Return the margin relative to the limit, by which distances of different units are ordered."""
    scale = math.sqrt(evidence.limit) if squared else evidence.limit
    if not math.isfinite(evidence.margin):
        return -math.inf
    if scale > 0:
        return evidence.margin / scale
    # A limit of zero, as of a fraction that must be 1.
    return math.inf if evidence.margin > 0 else -math.inf


def margin_of(distance: float, model_error: float, reference_error: float, limit: float, squared: bool) -> float:
    """Return what is left of a distance after limit and errors: positive where the failure is evident.

    Args:
        distance, model_error, reference_error, limit: see `cgloop.checks.Evidence`.
        squared: whether they are squares of a metric, so that square roots are compared.
    """
    if not squared:
        return distance - limit - model_error - reference_error
    if not distance > 0:
        return -math.inf
    root = math.sqrt(distance)
    return root - math.sqrt(reference_error) - model_error / (2.0 * root) - math.sqrt(limit)
