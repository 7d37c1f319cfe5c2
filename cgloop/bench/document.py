"""`docs/performance.md`, made of the dated files of measurements: python -m cgloop.bench.document RESULTS OUT

Of each suite and each kind of machine the newest file counts. The page is the same for the same files, to the byte.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from cgloop.bench import tables
from cgloop.bench.cycle_shares import GOAL
from cgloop.bench.record import Load, Machine, Measurement, Record, read_record
from cgloop.bench.roofline_facts import ROOFLINE, limited_by
from cgloop.bench.series import SCALING, series_of
from cgloop.errors import UserError

HEADINGS = {
    "cycle": "A whole cycle",
    "scaling": "Scaling",
    "profile": "Where a step spends its time",
    "coupling": "The loop of LAMMPS and model",
    "md": "Dynamics in LAMMPS",
    "model": "The model",
    "training": "Training",
    "trainer": "Training",
    "prep": "Preparation",
    "export": "Export",
    "validation": "Validation",
}
"""Order and headings of suites; others come last, under their own names."""


def write_document(results: Path, out: Path) -> None:
    """Write the page.

    Raises:
        UserError: no files, or one that cannot be read.
    """
    text = document(read_results(results))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")


def read_results(folder: Path) -> list[Record]:
    """The newest record of each suite and machine in a folder, machines and suites in order of the page."""
    newest: dict[tuple[object, ...], Record] = {}
    for path in sorted(Path(folder).glob("*.json")):
        try:
            record = read_record(path)
        except UserError:
            # The folder holds other records, too; only of ours must every one be readable.
            if '"schema"' in path.read_text(encoding="utf-8"):
                raise
            continue
        newest[record.machine.kind, record.suite] = record
    if not newest:
        raise UserError("no files of measurements", where=folder)
    last = {kind: max(one.date for one in newest.values() if one.machine.kind == kind) for kind, _ in newest}
    order = list(HEADINGS)
    return sorted(
        newest.values(),
        key=lambda one: (
            # Machines from the one that was measured last, and most.
            [-ord(c) for c in last[one.machine.kind]],
            -sum(kind == one.machine.kind for kind, _ in newest),
            one.machine.kind,
            order.index(one.suite) if one.suite in HEADINGS else len(order),
        ),
    )


def document(records: Sequence[Record]) -> str:
    """The page as text."""
    machines: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        machines.setdefault(record.machine.kind, []).append(record)
    latest = next(iter(machines.values()))
    blocks = [
        "# Performance",
        "<!-- Made by `cgloop bench document benchmarks/results`: change that, not this. -->",
        summary(latest),
        "Numbers are medians. Machines were shared with other work while they were measured; what they did besides is "
        "told with every table. To measure your own: `cgloop bench scaling`, `cgloop bench profile`, `make bench`.",
    ]
    for own in machines.values():
        blocks.append(f"## {_machine(own[0].machine)}")
        for record in own:
            blocks += _suite(record)
    return "\n\n".join(blocks) + "\n"


def _machine(machine: Machine) -> str:
    return machine.words


def summary(records: Sequence[Record]) -> str:
    """How fast it is, where the time goes, what limits it: of what was measured on one machine."""
    found = {one.key: one for record in records for one in record.measurements}.values()
    sentences = [*_how_fast(list(found)), *_where(list(found), _cycle_words(records)), *_limit(list(found))]
    if not sentences:
        return f"On {records[0].machine.words} nothing was measured yet that would say how fast it is."
    busy = [load.others_cores for record in records for load in _loads(record) if load.others_cores is not None]
    of = f" of {records[0].machine.cores}" if records[0].machine.cores else ""
    beside = f", while other work kept {sum(busy) / len(busy):.1f}{of} cores busy" if busy else ""
    return f"On {records[0].machine.words}{beside}: " + " ".join(sentences)


def _loads(record: Record) -> list[Load]:
    return [record.load] if record.load else [load for one in record.measurements for load in one.load]


def _how_fast(found: Sequence[Measurement]) -> list[str]:
    sentences = []
    for name, form in (
        ("train", "training takes {value} frames a second on one device ({size} frames a batch)"),
        ("md", "dynamics in LAMMPS run {value} ns a day, {size} replicas of {beads} beads together"),
    ):
        first = [one for one in found if one.name == SCALING + name and one.settings.get("mode") == "strong"]
        if first:
            one = min(first, key=lambda each: int(each.settings["devices"]))
            told = {**one.settings, **one.facts}
            sentences.append(
                form.format(value=tables.number(one.median, 3), size=told["size"], beads=told.get("beads"))
            )
    return ["; ".join(sentences).capitalize().replace("lammps", "LAMMPS") + "."] if sentences else []


def _cycle_words(records: Sequence[Record]) -> str:
    """Which cycle was measured."""
    for record in records:
        if record.suite == "cycle" and "train" in record.config:
            train, md = record.config["train"], record.config["md"]
            return f" of {train['epochs']} epochs and {md['replicas']} × {md['nvt']['length_ps']:g} ps"
        if record.suite == "cycle" and "size" in record.config:
            return f" of the example, size {record.config['size']}"
    return ""


def _where(found: Sequence[Measurement], cycle: str) -> list[str]:
    sentences = []
    if (idle := next((one for one in found if one.name == "cycle/neither training nor MD"), None)) is not None:
        stages = [one for one in found if one.name.startswith("cycle/") and one.unit == "s"]
        longest = sorted(stages, key=lambda one: -float(one.facts["share"]))[:2]
        told = " and ".join(f"{one.name.removeprefix('cycle/')} {float(one.facts['share']):.0%}" for one in longest)
        goal = "inside" if idle.median < 100 * GOAL else "above"
        sentences.append(
            f"Of a whole cycle{cycle}, {told} take the most; in {idle.median:.0f} % of it neither training nor "
            f"dynamics run ({goal} the goal of {GOAL:.0%})."
        )
    outside = [one for one in found if one.name == SCALING + "md" and "share outside the model" in one.facts]
    if outside:
        share = float(min(outside, key=lambda one: int(one.settings["devices"])).facts["share outside the model"])
        sentences.append(
            f"A step of the dynamics spends {1 - share:.0%} of its time in the model and {share:.0%} in LAMMPS, "
            "thermostat, limits and files."
        )
    return sentences


def _limit(found: Sequence[Measurement]) -> list[str]:
    rated = [one for one in found if one.name.startswith(ROOFLINE)]
    if not rated:
        return []
    told = [
        f"{one.name.removeprefix(ROOFLINE)}: {limited_by(one.facts)} and "
        f"{float(one.facts['fraction of matmul rate']):.0%} of the rate of a matrix product"
        for one in rated
    ]
    return [f"What limits it, by the roofline: {'; '.join(told)}."]


def _suite(record: Record) -> list[str]:
    told = [
        record.date,
        record.commit and f"commit {record.commit}",
        record.made_by and f"`{record.made_by}`",
        *_load(record),
    ]
    blocks = [f"### {HEADINGS.get(record.suite, record.suite)}", ", ".join(part for part in told if part) + "."]
    if record.note:
        blocks.append(f"{record.note[:1].upper()}{record.note[1:]}.".replace("..", "."))
    for series in series_of([record]):
        blocks.append(f"{series.title}, {series.shown_unit}:")
        blocks.append(markdown(tables.SCALING_HEAD, tables.scaling_rows(series)))
        fits = [f"{one.law.name}: {one.law.parameter} {tables.number(one.value, 3)} "
                f"({tables.interval(one.low, one.high)})" for one in series.fits]  # fmt: skip
        warned = sorted({text for one in series.fits for text in one.warnings})
        if fits:
            blocks.append(f"{'; '.join(fits)}." + (f" To mind: {'; '.join(warned)}." if warned else ""))
    rest = [one for one in record.measurements if not one.name.startswith(SCALING)]
    if rest:
        blocks.append(markdown(["measurement", "median", "range (repeats)", "beside it"], [_row(one) for one in rest]))
    return blocks


def _load(record: Record) -> list[str]:
    loads = _loads(record)
    if not loads:
        return []
    averages = [value for load in loads for value in load.average]
    busy = [load.others_cores for load in loads if load.others_cores is not None]
    told = [f"load average {min(averages):.1f} to {max(averages):.1f}"]
    if busy:
        told.append(f"other work kept {sum(busy) / len(busy):.1f} cores busy")
    return told


def _row(one: Measurement) -> list[str]:
    shown = {"share": "{:.1%}", "share outside the model": "{:.0%}"}
    facts = ", ".join(
        f"{name} {shown[name].format(value) if name in shown else tables.number(value, 3)}"
        if isinstance(value, float)
        else f"{name} {value}"
        for name, value in one.facts.items()
        if value != ""
    )
    return [one.label, f"{tables.number(one.median)} {one.unit}", tables.repeats(one.values), facts]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns in which nothing is are left out."""
    kept = [i for i in range(len(head)) if any(row[i] not in ("", "–") for row in rows)]
    lines = [
        [head[i] for i in kept],
        ["---"] * len(kept),
        *([row[i].replace("|", "\\|") for i in kept] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    write_document(Path(sys.argv[1]), Path(sys.argv[2]))
