"""What checks show beside their numbers: few points, because a page holds the plots of all proteins."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgloop.checks import CheckResult, Curve, Plot
from cgloop.validate.observables import Protein

BINS = 60
MAX_CELLS = 60
"""Rows and columns of a map; the contact map of a larger protein is averaged over neighbouring residues."""
MAX_BARS = 40


def densities(label: str, model: np.ndarray, reference: np.ndarray) -> Plot:
    """Densities of one number a frame on one grid; the label names it, with its unit."""
    edges = np.histogram_bin_edges(np.concatenate([model, reference]), BINS)
    centres = (0.5 * (edges[1:] + edges[:-1])).tolist()
    return Plot(
        "steps",
        label,
        "density",
        [
            Curve("model", "model", centres, np.histogram(model, edges, density=True)[0].tolist()),
            Curve("reference", "reference", centres, np.histogram(reference, edges, density=True)[0].tolist()),
        ],
    )


def contact_maps(model: np.ndarray, reference: np.ndarray, protein: Protein) -> Plot:
    """Contact probabilities [P] of the protein's pairs as two maps."""
    n = len(protein.native)
    stride = max(1, math.ceil(n / MAX_CELLS))
    starts = np.arange(0, n, stride)
    centres = (starts + 1 + 0.5 * (np.diff([*starts, n]) - 1)).tolist()

    def cells(probability: np.ndarray) -> list[list[float]]:
        square = np.full((n, n), np.nan)
        square[protein.pairs[:, 0], protein.pairs[:, 1]] = probability
        square[protein.pairs[:, 1], protein.pairs[:, 0]] = probability
        padded = np.full((len(starts) * stride,) * 2, np.nan)
        padded[:n, :n] = square
        blocks = padded.reshape(len(starts), stride, len(starts), stride)
        known = np.isfinite(blocks).sum(axis=(1, 3))
        sums = np.nansum(blocks, axis=(1, 3))
        return np.where(known > 0, np.round(sums / np.maximum(known, 1), 3), np.nan).tolist()

    return Plot(
        "maps",
        "residue",
        "residue",
        [
            Curve("model", "model", centres, centres, z=cells(model)),
            Curve("reference", "reference", centres, centres, z=cells(reference)),
        ],
        z_label="contact probability",
    )


def bars_of_classes(
    label: str, names: Sequence[str], model: np.ndarray, control: np.ndarray, limit: float, quantity: str
) -> Plot:
    """One value a class for the model and for the reference against itself; of very many the worst.

    Args:
        label: what a class is.
        names: of the classes [K].
        model, control: values [K].
        limit: of their mean.
        quantity: what the values are.
    """
    shown = np.sort(np.argsort(-model, kind="stable")[:MAX_BARS])
    place = list(range(len(shown)))
    return Plot(
        "bars",
        label,
        quantity,
        [
            Curve("model", "model", place, model[shown].tolist()),
            Curve("halves of the reference", "control", place, control[shown].tolist()),
            Curve("limit of the mean", "limit", [0.0, float(max(len(shown) - 1, 0))], [limit, limit]),
        ],
        ticks=[names[i] for i in shown],
    )


def plots_of(checks: Sequence[CheckResult]) -> dict[str, dict[str, Any]]:
    """What each check has to show, by check and subject."""
    found: dict[str, dict[str, Any]] = {}
    for check in checks:
        if check.plot is not None:
            found.setdefault(check.check, {})[check.subject] = check.plot.to_json()
    return found
