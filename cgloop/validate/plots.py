"""The numbers behind the plots of a report, small enough to embed in a page."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cgloop.units import FS_PER_PS
from cgloop.validate.nvt import kinetic_temperature
from cgloop.validate.observables import Frames, Protein
from cgloop.validate.rundata import StageRun

MAX_BYTES = 2_000_000
DIGITS = 5
BINS = 60
RESOLUTIONS = ((400, 200), (200, 150), (100, 100), (50, 60), (25, 30), (10, 15))
"""(points of a series, beads of a contact map), tried in this order until everything fits."""


@dataclass(frozen=True)
class ProteinPlots:
    """What there is to plot of one protein; a stage that left nothing is None, frames may be missing."""

    nvt: StageRun | None
    nve: StageRun | None
    model: list[tuple[int, Frames]]
    reference: list[Frames]
    protein: Protein


def plot_data(proteins: dict[str, ProteinPlots]) -> dict[str, Any]:
    """Series, densities and maps of all proteins, in less than `MAX_BYTES` of JSON, numbers to 5 digits."""
    data: dict[str, Any] = {}
    for points, beads in RESOLUTIONS:
        data = {
            "schema_version": 1,
            "proteins": {name: _protein(plots, points, beads) for name, plots in sorted(proteins.items())},
        }
        if len(json.dumps(data)) < MAX_BYTES:
            break
    return data


def _protein(plots: ProteinPlots, points: int, beads: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if plots.nvt is not None:
        run = plots.nvt
        out["temperature"] = {
            "target_K": run.temperature_K,
            "degrees_of_freedom": run.degrees_of_freedom,
            "replicas": [
                _series(
                    r.number, r.series["time_ps"], kinetic_temperature(r.series["kinetic"], run.degrees_of_freedom),
                    "temperature_K", points,
                )
                for r in run.replicas
            ],
        }  # fmt: skip
        for name in ("rmsd", "q", "rg"):
            out[name] = _structure(run, plots, name, points)
        out["contacts"] = _contacts(plots, beads)
    if plots.nve is not None:
        out["nve_energy"] = {
            "replicas": [
                _series(r.number, r.series["time_ps"], _from_start(r.series["total"]), "energy_change", points)
                for r in plots.nve.replicas
            ]
        }
    return out


def _from_start(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, float) - (float(values[0]) if len(values) else 0.0)


def _series(number: int, time_ps: np.ndarray, values: np.ndarray, name: str, points: int) -> dict[str, Any]:
    step = max(1, math.ceil(len(values) / points))
    return {"replica": number, "time_ps": rounded(time_ps[::step]), name: rounded(values[::step])}


def _structure(run: StageRun, plots: ProteinPlots, name: str, points: int) -> dict[str, Any]:
    """Time series of the model, and densities of model and reference on one grid of bin centres."""
    spacing = run.timestep_fs / FS_PER_PS * max((r.steps_asked for r in run.replicas), default=0)
    spacing /= max(run.frames_asked, 1)
    model = [(number, getattr(frames, name)) for number, frames in plots.model]
    replicas = [
        _series(number, spacing * np.arange(1, len(values) + 1), values, name, points) for number, values in model
    ]
    samples = {
        "model": np.concatenate([np.zeros(0), *(values for _, values in model)]),
        "reference": np.concatenate([np.zeros(0), *(getattr(frames, name) for frames in plots.reference)]),
    }
    everything = np.concatenate(list(samples.values()))
    everything = everything[np.isfinite(everything)]
    if not len(everything):
        return {"replicas": replicas, "grid": [], "model": [], "reference": []}
    edges = np.histogram_bin_edges(everything, BINS)
    densities = {
        key: rounded(np.histogram(values, edges, density=True)[0]) if len(values) else []
        for key, values in samples.items()
    }
    return {"replicas": replicas, "grid": rounded(0.5 * (edges[1:] + edges[:-1])), **densities}


def _contacts(plots: ProteinPlots, beads: int) -> dict[str, Any]:
    n = len(plots.protein.native)
    stride = max(1, math.ceil(n / beads))
    maps = {
        "reference": [frames.contacts for frames in plots.reference],
        "model": [frames.contacts for _, frames in plots.model],
    }
    native = np.zeros((n, n))
    pairs = plots.protein.contacts.pairs
    native[pairs[:, 0], pairs[:, 1]] = native[pairs[:, 1], pairs[:, 0]] = 1
    out: dict[str, Any] = {"beads": n, "stride": stride, "native": _coarse(native, stride)}
    for name, parts in maps.items():
        out[name] = _coarse(_map(parts, plots.protein.pairs, n), stride) if parts else []
    return out


def _map(parts: list[np.ndarray], pairs: np.ndarray, n: int) -> np.ndarray:
    probability = np.concatenate(parts).mean(axis=0)
    square = np.zeros((n, n))
    square[pairs[:, 0], pairs[:, 1]] = square[pairs[:, 1], pairs[:, 0]] = probability
    return square


def _coarse(square: np.ndarray, stride: int) -> list[list[float]]:
    """Mean over blocks of stride × stride beads, to three decimals; the last block may be smaller."""
    starts = np.arange(0, len(square), stride)
    summed = np.add.reduceat(np.add.reduceat(square, starts, axis=0), starts, axis=1)
    sizes = np.diff([*starts, len(square)])
    return [[round(float(v), 3) for v in row] for row in summed / np.outer(sizes, sizes)]


def rounded(values: np.ndarray) -> list[float | None]:
    """Plain numbers with `DIGITS` significant digits; null where there is no number."""
    return [float(f"{v:.{DIGITS}g}") if math.isfinite(v) else None for v in np.asarray(values, float)]
