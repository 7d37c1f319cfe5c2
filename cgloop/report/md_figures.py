"""Plots of what the model did in LAMMPS, beside the reference."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from cgloop.figures import figure
from cgloop.figures.figure import (
    BROKEN,
    INK,
    MODEL,
    REFERENCE,
    Figure,
    axis,
    bars,
    filled,
    level,
    line,
    points,
    with_levels,
)
from cgloop.report.gather import CycleFiles

RUNNING_MEAN = 0.05
"""Window of running means, as a part of the series."""
MAX_REPLICAS = 40
"""Replica runs in the plot of survival."""
MAX_LETTERS = 40
"""Residue letters on the axes of a contact map up to so many beads."""


def survival(cycle: CycleFiles, proteins: Sequence[str]) -> list[Figure]:
    """How far each replica of these proteins came in each stage; of very many, those that broke."""
    figures = []
    for protein in proteins:
        entry = (cycle.md.get("proteins") or {}).get(protein) or {"stages": {}}
        runs = [
            (f"{stage.upper()} {number}", replica)
            for stage in ("nvt", "nve")
            for number, replica in enumerate((entry["stages"].get(stage) or {}).get("replicas") or [])
        ]
        words = "Part of the time asked for that each replica stayed inside all limits; a cross marks where one broke. "
        words += "A replica that broke in NVT has no NVE."
        if len(runs) > MAX_REPLICAS:
            whole = sum(replica["survived"] for _, replica in runs)
            runs = [run for run in runs if not run[1]["survived"]][:MAX_REPLICAS]
            words += f" {whole:,} replica runs that reached the end are not shown."
        if runs:
            figures.append(_survival(protein, runs, words))
    return figures


def _survival(protein: str, runs: list[tuple[str, dict[str, Any]]], words: str) -> Figure:
    names = [name for name, _ in runs]
    done = [100 * replica["steps_done"] / max(replica["steps_asked"], 1) for _, replica in runs]
    ends = ["reached the end" if r["survived"] else f"limit: {r.get('limit', '?')}" for _, r in runs]
    roles = [MODEL if replica["survived"] else BROKEN for _, replica in runs]
    words_ = [f"{part:.1f} %, {end}" for part, end in zip(done, ends, strict=True)]
    data = [bars(done, names, "", MODEL, across=True, roles=roles, text=words_)]
    broken = [k for k, (_, replica) in enumerate(runs) if not replica["survived"]]
    if broken:
        x, y = [done[k] for k in broken], [names[k] for k in broken]
        data.append(points(x, y, "broke a limit", BROKEN, "x", text=[words_[k] for k in broken]))
    frame = figure.layout(axis("time survived, %", range=[0, 102]), axis("", names=names, grid=False))
    return Figure(
        f"survival-{protein}", f"How far each replica came, {protein}", words, data, frame, 52 + 18 * len(runs), "full"
    )


def temperature(protein: str, plots: dict[str, Any], n_beads: int | None, broken: Collection[int]) -> list[Figure]:
    """Kinetic temperature over time, and its distribution beside the exact one.

    Args:
        protein: its name.
        plots: its part of `plots.json`.
        n_beads: N, if it is known.
        broken: replicas that broke a limit.
    """
    found = plots.get("temperature") or {}
    replicas = [r for r in found.get("replicas") or [] if r.get("temperature_K")]
    if not replicas:
        return []
    target = found.get("target_K")
    # Pages of older runs have no degrees of freedom; these had Langevin dynamics, with three a bead.
    freedom = found.get("degrees_of_freedom") or (3 * n_beads if n_beads else None)
    smooth = [{**replica, "temperature_K": running_mean(replica["temperature_K"])} for replica in replicas]
    data = _replica_lines(smooth, "temperature_K", broken)
    frame = figure.over_time("temperature, K")
    if target:
        frame = with_levels(frame, level(target, f"target {target:g} K", "dash"))
    everything = np.array([v for r in replicas for v in r["temperature_K"] if v is not None], float)
    return [
        Figure(
            f"temperature-{protein}",
            "Temperature in NVT",
            f"Kinetic temperature of {len(replicas)} replicas, each a running mean over {RUNNING_MEAN:.0%} of its run.",
            data,
            frame,
        ),
        _temperature_distribution(protein, everything, target, freedom),
    ]


def _temperature_distribution(protein: str, values: np.ndarray, target: float | None, freedom: int | None) -> Figure:
    density, edges = np.histogram(values, bins=50, density=True)
    centres = 0.5 * (edges[1:] + edges[:-1])
    data = [filled(centres.tolist(), _short(density), "model", MODEL, step=True)]
    words = "Distribution of the instantaneous kinetic temperature over all replicas (blue)"
    if target and freedom:
        grid = np.linspace(edges[0], edges[-1], 200)
        data.append(line(_short(grid), _short(_gamma(grid, target, freedom)), "exact", REFERENCE, "dash"))
        words += f" and the exact one, a Gamma distribution of {freedom} degrees of freedom (orange, dashed)"
    frame = figure.density("temperature, K", "K")
    return Figure(f"temperature-density-{protein}", "Distribution of temperature", f"{words}.", data, frame)


def _gamma(temperature: np.ndarray, target: float, degrees_of_freedom: int) -> np.ndarray:
    """Density of the kinetic temperature 2K/(f k_B): K is Gamma distributed with shape f/2 and scale kT."""
    shape, scale = 0.5 * degrees_of_freedom, 2.0 * target / degrees_of_freedom
    x = np.maximum(temperature, 1e-9) / scale
    return np.exp((shape - 1.0) * np.log(x) - x - math.lgamma(shape)) / scale


def energy(protein: str, plots: dict[str, Any], broken: Collection[int]) -> list[Figure]:
    """Total energy at constant energy; arguments as for `temperature`."""
    replicas = [r for r in (plots.get("nve_energy") or {}).get("replicas") or [] if r.get("energy_change")]
    if not replicas:
        return []
    data = _replica_lines(replicas, "energy_change", broken)
    frame = figure.over_time("change of energy, kcal/mol")
    return [
        Figure(
            f"nve-{protein}",
            "Total energy in NVE",
            f"Change of the total energy of {len(replicas)} replicas since their start. Fluctuations come with the "
            "time step; only a slope is a drift.",
            data,
            with_levels(frame, level(0.0, "", "dash", color=REFERENCE)),
            span="full",
        )
    ]


STRUCTURE = {
    "rmsd": ("CA-RMSD to the native structure", "RMSD, Å", "Å"),
    "q": ("Fraction of native contacts", "Q", ""),
    "rg": ("Radius of gyration", "radius of gyration, Å", "Å"),
}


def structure(protein: str, plots: dict[str, Any], name: str, broken: Collection[int]) -> list[Figure]:
    """One observable of the structure: over time, with the reference's range, and both distributions.

    Args:
        protein: its name.
        plots: its part of `plots.json`.
        name: a key of `STRUCTURE`.
        broken: replicas that broke a limit.
    """
    found, (title, label, unit) = plots.get(name) or {}, STRUCTURE[name]
    replicas = [r for r in found.get("replicas") or [] if r.get(name)]
    grid, reference = found.get("grid") or [], found.get("reference") or []
    if not replicas and not reference:
        return []
    figures = []
    band = quantiles(grid, reference, (0.05, 0.5, 0.95))
    if replicas:
        data = _replica_lines(replicas, name, broken)
        frame = figure.over_time(label)
        if band:
            frame["bands"] = [figure.band(band[0], band[2], "90 % of the reference")]
            frame = with_levels(frame, level(band[1], "", "dash", color=REFERENCE))
        words = f"Each of {len(replicas)} replicas in NVT (blue)"
        words += "; the band holds 90 % of the reference, its median is dashed." if band else "."
        figures.append(Figure(f"{name}-{protein}", f"{title} over time", words, data, frame))
    data = []
    for values, trace in ((reference, {"name": "reference"}), (found.get("model") or [], {"name": "model"})):
        if values:
            x, y = coarser(grid, values)
            make = filled if trace["name"] == "reference" else line
            data.append(make(x, y, **trace, step=True))
    frame = figure.density(label, unit)
    words = "Densities in the model's NVT frames (blue) and in the reference at the same temperature (orange, filled)."
    figures.append(Figure(f"{name}-density-{protein}", f"{title}: distribution", words, data, frame))
    return figures


def _replica_lines(replicas: list[dict[str, Any]], name: str, broken: Collection[int]) -> list[dict[str, Any]]:
    """A thin line per replica; a cross where one broke a limit and its record ends."""
    data = [
        line(r["time_ps"], r[name], f"replica {r['replica']}", width=1.2, opacity=0.6, legend=False) for r in replicas
    ]
    data.append(line([], [], "replicas", width=1.2, opacity=0.6))
    ends = [(r["time_ps"][-1], r[name][-1]) for r in replicas if r["replica"] in broken and r["time_ps"]]
    if ends:
        x, y = zip(*ends, strict=True)
        data.append(points(x, y, "broke a limit", BROKEN, "x"))
    return data


def contacts(protein: str, plots: dict[str, Any], sequence: str, separation: int) -> list[Figure]:
    """Contact probabilities of reference and model, and their difference.

    Args:
        protein: its name.
        plots: its part of `plots.json`.
        sequence: one letter per bead, "" if it is not known.
        separation: pairs that are closer along the chain are not counted.
    """
    found = plots.get("contacts") or {}
    reference, model = found.get("reference") or [], found.get("model") or []
    stride = int(found.get("stride") or 1)
    maps = [("reference", "Contacts in the reference", reference), ("model", "Contacts in the model", model)]
    apart = np.abs(np.subtract.outer(np.arange(len(reference or model)), np.arange(len(reference or model)))) * stride
    counted = (apart >= separation) | (np.array(reference or model) > 0) | (np.array(model or reference) > 0)
    figures = []
    for key, title, values in maps:
        if values:
            words = (
                "Probability of each pair to be in contact. Open squares: contacts of the native structure; grey: too "
                "close along the chain to count."
            )
            data = [
                _heatmap(np.array(values), counted, stride, "probability", figure.SEQUENTIAL, 0.0),
                *_native(found, stride),
            ]
            figures.append(
                Figure(f"contacts-{key}-{protein}", title, words, data, _square(found, sequence, stride), 340)
            )
    if reference and model:
        difference = np.array(model, float) - np.array(reference, float)
        data = [_heatmap(difference, counted, stride, "model − reference", figure.DIVERGING, -1.0)]
        words = "Model less reference: blue pairs are in contact too rarely, orange ones too often."
        figures.append(
            Figure(f"contacts-difference-{protein}", "Difference", words, data, _square(found, sequence, stride), 340)
        )
    return figures


def _heatmap(
    values: np.ndarray, counted: np.ndarray, stride: int, label: str, colors: str, low: float
) -> dict[str, Any]:
    beads = [1 + stride * i for i in range(len(values))]
    shown = [
        [round(float(v), 3) if c else None for v, c in zip(row, known, strict=True)]
        for row, known in zip(values, counted, strict=True)
    ]
    return figure.heatmap(shown, beads, beads, label, colors, (low, 1.0))


def _native(found: dict[str, Any], stride: int) -> list[dict[str, Any]]:
    native = np.array(found.get("native") or [], float)
    if native.ndim != 2 or len(native) > 2 * MAX_LETTERS:
        return []
    i, j = np.nonzero(native > 0)
    x, y = (1 + stride * i).tolist(), (1 + stride * j).tolist()
    return [points(x, y, "native contact", INK, "square-open", cell=True)]


def _square(found: dict[str, Any], sequence: str, stride: int) -> dict[str, Any]:
    beads = int(found.get("beads") or len(sequence))
    x: dict[str, Any] = {}
    y: dict[str, Any] = {}
    if len(sequence) == beads <= MAX_LETTERS:
        x["ticks"] = [[i, letter] for i, letter in enumerate(sequence, 1)]
        y["ticks"] = [[i, f"{sequence[i - 1]}{i}"] for i in range(1, beads + 1, 1 if beads <= 20 else 2)]
    # Ranges in full, or marks of native contacts would widen them; the first row is on top.
    ends = [1 - 0.5 * stride, 1 - 0.5 * stride + stride * math.ceil(beads / stride)]
    return figure.layout(axis("", range=ends, **x), axis("", range=ends, reversed=True, **y), square=True)


def running_mean(values: Sequence[float | None]) -> list[float | None]:
    """Centred running mean over a part `RUNNING_MEAN` of the series; missing values are left out."""
    array = np.array([math.nan if v is None else v for v in values], float)
    half = max(1, round(0.5 * RUNNING_MEAN * len(array)))
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    first = np.maximum(np.arange(len(array)) - half, 0)
    last = np.minimum(np.arange(len(array)) + half + 1, len(array))
    number = counts[last] - counts[first]
    with np.errstate(invalid="ignore"):
        mean = (sums[last] - sums[first]) / np.where(number > 0, number, np.nan)
    return _short(mean)


def coarser(grid: Sequence[float], density: Sequence[float]) -> tuple[list[float | None], list[float | None]]:
    """A histogram with pairs of bins joined (few frames scatter too much in narrow ones), closed by empty bins."""
    even = len(grid) - len(grid) % 2
    if even < 4:
        return list(grid), list(density)
    x, y = (np.array(values[:even], float).reshape(-1, 2).mean(axis=1) for values in (grid, density))
    width = x[1] - x[0]
    return _short([x[0] - width, *x, x[-1] + width]), _short([0.0, *y, 0.0])


def quantiles(grid: Sequence[float], density: Sequence[float], levels: Sequence[float]) -> list[float]:
    """Values of `grid` below which the given parts of a histogram lie; [] for an empty one."""
    weights = np.array(density, float)
    if len(weights) < 2 or not weights.sum() > 0:
        return []
    cumulative = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
    return [float(v) for v in np.interp(levels, cumulative, np.array(grid, float))]


def _short(values: Sequence[float] | np.ndarray) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in np.asarray(values, float)]
