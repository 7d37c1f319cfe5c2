"""`cgloop bench report`: tables for the terminal, CSV files, and one page that asks nobody for anything."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import cgloop
from cgloop.bench import figures, tables
from cgloop.bench.compare import Comparison, compare
from cgloop.bench.record import Record, read_record
from cgloop.bench.roofline_facts import ROOFLINE, limited_by
from cgloop.bench.series import SCALING, Series, Wanted, predict, series_of
from cgloop.stages import explained, write_text

PAGE = "bench.html"
OWN_PARTS = (SCALING, ROOFLINE, "profile/", "cycle/")
"""Measurements that have a part of the page; all others are rows of a table."""


@dataclass
class Table:
    """A table of the page; columns in which nothing is are left out."""

    head: list[str]
    rows: list[list[str]]
    caption: str = ""

    def __post_init__(self) -> None:
        kept = [i for i in range(len(self.head)) if any(row[i] not in ("", "–") for row in self.rows)]
        self.head = [self.head[i] for i in kept]
        self.rows = [[row[i] for i in kept] for row in self.rows]


@dataclass
class Part:
    """A part of the page."""

    title: str
    notes: list[str] = field(default_factory=list)
    plots: list[tuple[str, Markup]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Written:
    """What a report consists of: its text for the terminal, its files, and how many regressions it found."""

    text: str
    page: Path
    tables: tuple[Path, ...]
    regressions: int


def write_report(
    files: Sequence[Path],
    out: Path,
    *,
    wanted: Wanted | None = None,
    compared: tuple[Path, Path] | None = None,
    force: bool = False,
    threshold: float = 0.05,
) -> Written:
    """Read files of measurements, and write page and CSV files into a folder.

    Args:
        files: any number.
        out: folder, made if it is not there.
        wanted: a training to predict.
        compared: two files to compare.
        force: compare also files of different hardware.
        threshold: smallest relative change that is a regression.

    Raises:
        UserError: a file cannot be read, or the two cannot be compared; nothing is written then.
    """
    records = [read_record(path) for path in files]
    comparison = None
    if compared is not None:
        before, after = (read_record(path) for path in compared)
        comparison = compare(before, after, force=force, threshold=threshold)
    series = series_of(records)
    predictions = [(one, predict(one, wanted)) for one in series] if wanted else []
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        written = _write_tables(out, records, series, comparison)
        page = out / PAGE
        write_text(page, render(records, series, comparison, predictions))
    text = "\n\n".join(_text(records, series, comparison, predictions))
    return Written(text, page, written, len(comparison.regressions) if comparison else 0)


def _write_tables(
    out: Path, records: Sequence[Record], series: Sequence[Series], comparison: Comparison | None
) -> tuple[Path, ...]:
    content = {"measurements.csv": tables.measurement_rows(records)} if records else {}
    if series:
        rows = [[one.title, one.shown_unit, *row] for one in series for row in tables.scaling_rows(one)]
        content["scaling.csv"] = [["series", "unit", *tables.SCALING_HEAD], *rows]
        fitted = [[one.title, *row] for one in series for row in tables.fit_rows(one.fits)]
        content["fits.csv"] = [["series", *tables.FIT_HEAD], *fitted]
    if comparison is not None:
        content["comparison.csv"] = [[*tables.CHANGE_HEAD[:-1], "verdict"], *tables.change_rows(comparison)]
    for name, rows in content.items():
        tables.write_csv(out / name, rows)
    return tuple(out / name for name in content)


def _text(
    records: Sequence[Record],
    series: Sequence[Series],
    comparison: Comparison | None,
    predictions: Sequence[tuple[Series, list[Any]]],
) -> list[str]:
    blocks = [tables.scaling_text(records)] if series else []
    for one, found in predictions:
        if found:
            blocks.append(
                f"Predicted from {one.title}\n"
                + tables.text_table(tables.PREDICTION_HEAD, tables.prediction_rows(found))
            )
    if rows := _plain_rows(records):
        blocks.append(tables.text_table(["measurement", "median", "range (repeats)", ""], rows))
    if comparison is not None:
        told = tables.text_table(tables.CHANGE_HEAD, tables.change_rows(comparison))
        blocks.append("\n".join([_count(comparison), *comparison.caveats, told]))
    return blocks


def _count(comparison: Comparison) -> str:
    n = len(comparison.regressions)
    return f"{n or 'No'} regression{'' if n == 1 else 's'} in {len(comparison.changes)} measurements"


def _plain_rows(records: Sequence[Record]) -> list[list[str]]:
    return [
        [one.label, f"{tables.number(one.median)} {one.unit}",
         tables.repeats(one.values),
         _facts(one.facts)]
        for record in records
        for one in record.measurements
        if not one.name.startswith(OWN_PARTS)
    ]  # fmt: skip


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {tables.number(float(value), 3) if isinstance(value, float) else value}"
        for name, value in facts.items()
    )


def render(
    records: Sequence[Record],
    series: Sequence[Series],
    comparison: Comparison | None,
    predictions: Sequence[tuple[Series, list[Any]]],
) -> str:
    """The page as text."""
    parts = [_scaling_part(one, _predicted(predictions, one)) for one in series]
    if comparison is not None:
        parts.insert(0, _comparison_part(comparison))
    for make in (_roofline_part, _cycle_part, _profile_part, _plain_part):
        parts += make(records)
    environment = Environment(
        loader=PackageLoader("cgloop.bench", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("bench.html.j2").render(
        parts=parts, sources=Table(["suite", "date", "machine", "load", "commit", "JAX", "made by"], _sources(records)),
        notes=sorted({record.note for record in records if record.note}),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), version=cgloop.__version__,
    )  # fmt: skip


def _predicted(predictions: Sequence[tuple[Series, list[Any]]], series: Series) -> list[Any]:
    return next((found for one, found in predictions if one is series), [])


def _sources(records: Sequence[Record]) -> list[list[str]]:
    return [
        [record.suite, record.date, record.machine.words, _load(record), record.commit, record.versions.get("jax", ""),
         record.made_by]
        for record in records
    ]  # fmt: skip


def _load(record: Record) -> str:
    loads = [record.load] if record.load else [load for one in record.measurements for load in one.load]
    if not loads:
        return "not recorded"
    averages = [value for load in loads for value in load.average]
    text = f"load average {min(averages):.1f} to {max(averages):.1f}"
    busy = [load.others_cores for load in loads if load.others_cores is not None]
    return f"{text}, others kept {sum(busy) / len(busy):.1f} cores busy" if busy else text


def _scaling_part(series: Series, predictions: list[Any]) -> Part:
    part = Part(series.title, notes=_scaling_notes(series))
    part.plots = figures.scaling_plots(series)
    part.tables = [Table(tables.SCALING_HEAD, tables.scaling_rows(series), f"Medians in {series.shown_unit}.")]
    if series.fits:
        part.tables.append(Table(tables.FIT_HEAD, tables.fit_rows(series.fits), "Fits, with intervals of 95 %."))
    if series.serial:
        part.tables.append(
            Table(
                tables.SERIAL_HEAD, tables.serial_rows(series),
                "Karp–Flatt metric: rising with devices it tells of communication, constant of a serial part.",
            )
        )  # fmt: skip
    if predictions:
        part.tables.append(
            Table(tables.PREDICTION_HEAD, tables.prediction_rows(predictions), "A training that was not done.")
        )
    return part


def _scaling_notes(series: Series) -> list[str]:
    last = series.points[-1]
    notes = [f"{last.devices} devices are {last.speedup:.2f} times as fast as {series.points[0].devices}."]
    if len(series.points) < 2:
        notes = ["One number of devices: nothing to compare."]
    if series.shared_cores:
        notes.append(
            "The devices are virtual ones of one processor and share the same cores: this tells how well one device "
            "uses them, not what more hardware would bring."
        )
    return notes


def _comparison_part(comparison: Comparison) -> Part:
    part = Part("Comparison", notes=[_count(comparison) + ".", *comparison.caveats])
    part.tables = [
        Table(
            tables.CHANGE_HEAD, tables.change_rows(comparison),
            "Ratios of geometric means, after over before; p of Welch’s test of logarithms, corrected after Holm.",
        )
    ]  # fmt: skip
    for title, labels in (("first", comparison.only_before), ("second", comparison.only_after)):
        if labels:
            part.notes.append(f"Only in the {title} file: {'; '.join(labels)}.")
    return part


def _roofline_part(records: Sequence[Record]) -> list[Part]:
    found = [one for record in records for one in record.measurements if one.name.startswith(ROOFLINE)]
    if not found:
        return []
    rows = [
        [one.label.removeprefix(ROOFLINE), tables.number(min(one.values), 3),
         tables.number(1e-6 * float(one.facts["FLOPs"]), 3), tables.number(1e-6 * float(one.facts["bytes"]), 3),
         f"{float(one.facts['fraction of matmul rate']):.1%}", f"{float(one.facts['fraction of copy rate']):.0%}",
         limited_by(one.facts)]
        for one in found
    ]  # fmt: skip
    note = (
        "The roof is measured on this machine, in turns with the programs: a product of two 1024² float32 matrices, "
        "and a copy of 128 MB. XLA counts operands and results of every operation as traffic, also where a cache "
        "serves them; so a program may lie above the slope."
    )
    head = ["program", "shortest, ms", "MFLOP", "MB", "of matmul rate", "of copy rate", "limited by"]
    return [Part("Roofline", [note], [figures.roofline(found)], [Table(head, rows)])]


def _cycle_part(records: Sequence[Record]) -> list[Part]:
    parts = []
    for record in records:
        found = [one for one in record.measurements if one.name.startswith("cycle/") and one.unit == "s"]
        neither = next((one for one in record.measurements if one.name == "cycle/neither training nor MD"), None)
        if found and neither is not None:
            note = f"{neither.median:.1f} % of the time neither training nor MD ran; the goal is below 10 %."
            parts.append(Part("A whole cycle", [note], [figures.cycle(found)]))
    return parts


def _profile_part(records: Sequence[Record]) -> list[Part]:
    parts = []
    for record in records:
        programs: dict[str, list[list[str]]] = {}
        for one in record.measurements:
            if one.name.startswith("profile/"):
                _, program, name = one.name.split("/", 2)
                row = [name, f"{float(one.facts['share']):.1%}", tables.number(one.median, 3), str(one.facts["what"])]
                programs.setdefault(program, []).append(row)
        told = {"train": "the training step", "md": "the MD step"}
        head = ["operation", "share", "ms/step", "what it was in JAX"]
        parts += [
            Part(f"Dearest operations of {told.get(name, name)}", tables=[Table(head, rows)])
            for name, rows in programs.items()
        ]
    return parts


def _plain_part(records: Sequence[Record]) -> list[Part]:
    rows = _plain_rows(records)
    if not rows:
        return []
    return [Part("Measurements", tables=[Table(["measurement", "median", "range (repeats)", "beside it"], rows)])]
