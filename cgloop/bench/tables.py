"""Measurements as text for the terminal and as rows for CSV files."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from cgloop.bench.compare import Comparison
from cgloop.bench.fits import Fit
from cgloop.bench.record import Record
from cgloop.bench.series import Prediction, Series, series_of

Rows = list[list[str]]


def number(value: float | None, digits: int = 4) -> str:
    """For people: few digits, no exponent where it can be helped, a dash for what is not known."""
    if value is None or math.isnan(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}g}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def interval(low: float, high: float, digits: int = 3) -> str:
    if math.isnan(low) or math.isnan(high):
        return "none"
    return f"{number(low, digits)} to {number(high, digits)}"


def repeats(values: Sequence[float]) -> str:
    """Smallest and largest of several values; a dash for one."""
    return "–" if len(values) < 2 else f"{interval(min(values), max(values), 4)} ({len(values)})"


SCALING_HEAD = ["devices", "median", "range (repeats)", "speedup", "efficiency", "epoch, s", "compile, s"]
FIT_HEAD = ["law", "parameter", "value", "95 % interval", "what to mind"]
SERIAL_HEAD = ["devices", "serial fraction", "95 % interval"]
PREDICTION_HEAD = ["devices", "hours", "range", "GPU-hours", "cost", "energy, kWh", "from"]
CHANGE_HEAD = ["measurement", "before", "after", "ratio", "95 % interval", "p", ""]


def scaling_rows(series: Series) -> Rows:
    """One row per number of devices, under `SCALING_HEAD`."""
    return [
        [
            str(point.devices) + (f" on {point.nodes} nodes" if point.nodes > 1 else ""),
            number(series.shown(point.median)),
            repeats([series.shown(rate) for rate in point.rates]),
            number(point.speedup, 3),
            f"{point.efficiency:.0%}",
            number(_fact(point.facts, "epoch_s"), 3),
            number(_fact(point.facts, "compile_s"), 3),
        ]
        for point in series.points
    ]


def _fact(facts: dict[str, bool | int | float | str], name: str) -> float | None:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) else None


def fit_rows(fits: Sequence[Fit]) -> Rows:
    """One row per law, under `FIT_HEAD`."""
    return [
        [one.law.name, one.law.parameter, number(one.value, 3), interval(one.low, one.high), "; ".join(one.warnings)]
        for one in fits
    ]


def serial_rows(series: Series) -> Rows:
    """Karp–Flatt metric, under `SERIAL_HEAD`."""
    return [[f"{one.devices:g}", number(one.value, 3), interval(one.low, one.high)] for one in series.serial]


def prediction_rows(predictions: Iterable[Prediction]) -> Rows:
    """Under `PREDICTION_HEAD`."""
    return [
        [
            str(one.devices),
            number(one.hours[0], 3),
            interval(one.hours[1], one.hours[2]),
            number(one.gpu_hours, 3),
            number(one.cost, 3),
            number(one.energy_kWh, 3),
            "measured" if one.measured else "Amdahl" + (", beyond what was measured" if one.beyond else ""),
        ]
        for one in predictions
    ]


def change_rows(comparison: Comparison) -> Rows:
    """Under `CHANGE_HEAD`; regressions first."""
    order = {"worse": 0, "better": 1, "small": 2, "no difference shown": 3, "too few repeats": 4}
    return [
        [
            one.before.label,
            f"{number(one.before.median)} {one.before.unit}",
            f"{number(one.after.median)} {one.after.unit}",
            number(one.ratio, 3),
            interval(one.low, one.high),
            "–" if math.isnan(one.p) else f"{one.p:.2g}",
            {"worse": "REGRESSION", "better": "better"}.get(one.verdict, one.verdict),
        ]
        for one in sorted(comparison.changes, key=lambda one: order[one.verdict])
    ]


def measurement_rows(records: Iterable[Record]) -> Rows:
    """Every value of every file, for a CSV file; the head is the first row."""
    rows = [["suite", "date", "machine", "commit", "name", "settings", "unit", "repeat", "value", "others_cores"]]
    for record in records:
        for one in record.measurements:
            settings = "; ".join(f"{name}={value}" for name, value in one.settings.items())
            for repeat, value in enumerate(one.values):
                load = one.load[repeat] if repeat < len(one.load) else record.load
                busy = "" if load is None or load.others_cores is None else str(load.others_cores)
                rows.append(
                    [record.suite, record.date, record.machine.words, record.commit, one.name, settings, one.unit,
                     str(repeat + 1), repr(value), busy]
                )  # fmt: skip
    return rows


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first and the last to the left, all others to the right; empty columns left out."""
    kept = [i for i in range(len(head)) if any(row[i] not in ("", "–") for row in rows)]
    table = [[row[i] for i in kept] for row in [list(head), *rows]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    last = len(kept) - 1
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    )


def scaling_text(records: Iterable[Record]) -> str:
    """All series of scaling with their fits, for the terminal."""
    blocks = []
    for series in series_of(records):
        lines = [f"{series.title}, {series.shown_unit}", text_table(SCALING_HEAD, scaling_rows(series))]
        if series.fits:
            lines += ["", text_table(FIT_HEAD, fit_rows(series.fits))]
        if series.serial:
            told = ", ".join(f"{one.value:.3g} with {one.devices:g} devices" for one in series.serial)
            lines.append(f"Karp–Flatt: {told}")
        if series.shared_cores:
            lines.append("These devices are virtual and share the same cores.")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
