"""The part of the page about the data: which frames were used, and what became of the forces."""

import math
from collections.abc import Callable, Sequence

from cgloop.report import data_figures
from cgloop.report.data_facts import DataFacts, ProteinFacts, read_facts, spread
from cgloop.report.data_figures import FEW, SQUARE_UNIT
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import short, with_error
from cgloop.report.section import Section, Table, ungrouped
from cgloop.wording import listing

WORST = 10
"""Of very many proteins or files, so many are named."""
FAR = 3.0
"""Standard errors from which on a virial is worth a look; of n proteins √(2 ln n), the largest to be expected."""


def make(cycle: CycleFiles) -> Section:
    """The section, from what `prep` left."""
    facts = read_facts(cycle)
    tables: list[Table] = []
    if len(facts.proteins) > FEW:
        tables += [_spreads(facts), *_to_look_at(facts)]
    elif facts.proteins:
        tables += [_frames(facts), *_forces(facts)]
    tables += [*_quarantine(facts), *_excluded(facts)]
    return Section(
        "data",
        "Data",
        _intro(facts) or "Reference frames, made coarse.",
        "prep",
        groups=ungrouped([*data_figures.projection(facts), *data_figures.virial(facts)]),
        notes=[*_images(facts), *_notes(facts)],
        tables=tables,
    )


def _intro(facts: DataFacts) -> str:
    """`2 proteins of 10 to 20 beads; 3,200 frames read, 3,180 kept; forces mapped by …, at 320 K.`"""
    if not facts.proteins:
        return ""
    beads = sorted(one.beads for one in facts.proteins)
    sizes = f"{beads[0]}" if beads[0] == beads[-1] else f"{beads[0]} to {beads[-1]}"
    read, kept = sum(one.read for one in facts.proteins), sum(one.kept for one in facts.proteins)
    whole = "all kept" if read == kept else f"{kept:,} kept"
    parts: dict[str, int] = {}
    for protein in facts.proteins:
        for part, count in protein.parts.items():
            parts[part] = parts.get(part, 0) + count
    split = listing([f"{parts[part]:,} {words}" for part, words in _PARTS.items() if parts.get(part)])
    one = len(facts.proteins) == 1
    at = f" The model belongs to {short(facts.temperature_K, 4)} K." if facts.temperature_K else ""
    return (
        f"{len(facts.proteins):,} protein{'' if one else 's'} of {sizes} beads: {read:,} frames read, {whole} "
        f"({split}). Force map: {facts.projection}.{at}"
    )


_PARTS = {"train": "for training", "validation": "for validation", "test": "for the test", "unused": "unused"}


def _notes(facts: DataFacts) -> list[str]:
    """Remarks of preparation, each with the proteins that it is about."""
    about: dict[str, list[str]] = {}
    for protein in facts.proteins:
        for remark in protein.remarks:
            about.setdefault(remark, []).append(protein.name)
    shown = [f"{listing(names)}: {remark}." for remark, names in list(about.items())[:WORST]]
    return shown + ([f"{len(about) - WORST:,} other remarks are in the log."] if len(about) > WORST else [])


def _images(facts: DataFacts) -> list[str]:
    """Say in how many frames preparation moved atoms to other periodic images; nothing if in none."""
    moved = sorted((one for one in facts.proteins if one.moved), key=lambda one: -one.moved)
    if not moved:
        return []
    frames = sum(one.moved for one in moved)
    read = sum(one.read for one in moved)
    most = listing([f"{one.name} ({one.moved:,})" for one in moved], 3)
    return [f"Periodic images of atoms were changed in {frames:,} of {read:,} frames: {most}."]


def _frames(facts: DataFacts) -> Table:
    """A row per protein."""
    parts = [part for part in _PARTS if any(part in p.parts for p in facts.proteins)]
    rows = [
        [p.name, str(p.beads), f"{p.read:,}", f"{p.kept:,}", *(f"{p.parts.get(part, 0):,}" for part in parts)]
        for p in facts.proteins
    ]
    head = ["protein", "beads", "frames read", "kept", *({"train": "training"}.get(part, part) for part in parts)]
    return Table("Frames", head, rows, wide=True)


def _forces(facts: DataFacts) -> list[Table]:
    """A row per protein: mean squared force of each map, noise, and what is left to learn; virials."""
    if not any(p.squares for p in facts.proteins):
        return []
    maps = facts.maps()
    squares = [
        [p.name, *(_measured(p, "squares", one) for one in maps), with_error_or_dash(p.noise.value, p.noise.error),
         _percent(p.explainable)]
        for p in facts.proteins
    ]  # fmt: skip
    virials = [[p.name, *(_measured(p, "virial", one) for one in maps)] for p in facts.proteins]
    caption = (
        f"Mean squared force on held-out frames by force map, {SQUARE_UNIT}; for the map in use the RMS of its noise, "
        "at most, kcal/mol/Å, and what a perfect model explains; one standard error"
    )
    ratio = "Virial over its exact value by force map, at the model's temperature; one standard error"
    return [
        Table(caption, ["protein", *maps, "noise", "can be explained"], squares, wide=True),
        Table(ratio, ["protein", *maps], virials, wide=True),
    ]


def _measured(protein: ProteinFacts, what: str, name: str) -> str:
    found = getattr(protein, what).get(name)
    return "–" if found is None else with_error_or_dash(found.value, found.error)


def with_error_or_dash(value: float | None, error: float | None) -> str:
    return "–" if value is None else with_error(value, error)


def _percent(part: float | None, places: int = 0) -> str:
    return "–" if part is None else f"{100 * part:.{places}f} %"


def _spreads(facts: DataFacts) -> Table:
    """Distributions over very many proteins."""
    kinds: list[tuple[str, Callable[[ProteinFacts], float | None], Callable[[float], str]]] = [
        ("beads", lambda p: float(p.beads), lambda v: short(v, 4)),
        ("frames read", lambda p: float(p.read), lambda v: short(v, 4)),
        ("frames set aside", lambda p: p.set_aside, lambda v: _percent(v, 1)),
        ("mean squared force of the map in use, over that of `basic`", lambda p: p.gain, short),
        ("noise of the map in use, RMS, kcal/mol/Å", lambda p: p.noise.value, short),
        ("part of the mean squared force that can be explained", lambda p: p.explainable, _percent),
        ("virial ratio", lambda p: p.virial[p.method].value if p.method in p.virial else None, short),
    ]
    rows = []
    for title, value, show in kinds:
        found = spread([value(protein) for protein in facts.proteins])
        if found:
            rows.append([title.replace("`", ""), *(show(one) for one in found)])
    return Table(
        f"Over {len(facts.proteins):,} proteins", ["", "least", "5 %", "median", "95 %", "most"], rows, wide=True
    )


def _to_look_at(facts: DataFacts) -> list[Table]:
    """Of very many proteins those that stand out: most frames lost, virial off, or a force map that bought little."""
    far = max(FAR, math.sqrt(2.0 * math.log(len(facts.proteins))))
    kinds: list[tuple[Callable[[ProteinFacts], float], Callable[[ProteinFacts], str]]] = [
        (lambda p: p.set_aside, lambda p: f"{_percent(p.set_aside, 1)} of its frames set aside"),
        (lambda p: abs(p.virial_deviation or 0.0) - far, _how_far),
        (lambda p: p.gain - 1.0 if p.gain is not None else 0.0,
         lambda p: f"the force map raises the mean squared force to {_percent(p.gain)} of basic"),
    ]  # fmt: skip
    why: dict[str, list[str]] = {}
    for badness, words in kinds:
        worst = sorted((p for p in facts.proteins if badness(p) > 0), key=badness, reverse=True)[:WORST]
        for protein in worst:
            why.setdefault(protein.name, []).append(words(protein))
    if not why:
        return []
    by_name = {protein.name: protein for protein in facts.proteins}
    rows = [
        [name, str(by_name[name].beads), f"{by_name[name].read:,}", f"{by_name[name].kept:,}", "; ".join(reasons)]
        for name, reasons in why.items()
    ]
    caption = f"Proteins that stand out, at most {WORST} for each reason"
    return [Table(caption, ["protein", "beads", "frames read", "kept", "why"], rows, frozenset({0, 4}), wide=True)]


def _how_far(protein: ProteinFacts) -> str:
    deviation = protein.virial_deviation or 0.0
    return f"virial {short(abs(deviation), 2)} standard errors {'above' if deviation > 0 else 'below'} 1"


def _quarantine(facts: DataFacts) -> list[Table]:
    """Frames that were set aside, by reason; and by protein where there are few."""
    reasons = facts.reasons()
    if not reasons:
        return []
    rows = []
    for reason, count in reasons.items():
        hit = sorted((p for p in facts.proteins if reason in p.reasons), key=lambda p: -p.reasons[reason])
        most = [f"{p.name} ({p.reasons[reason]:,})" for p in hit]
        rows.append([reason, f"{count:,}", f"{len(hit):,}", listing(most, 3)])
    caption = "Frames set aside; every one with its reason is in prep/quarantine.json"
    return [Table(caption, ["reason", "frames", "proteins", "most in"], rows, frozenset({0, 3}), wide=True)]


def _excluded(facts: DataFacts) -> list[Table]:
    files: Sequence[dict[str, str]] = facts.excluded
    if not files:
        return []
    rows = [[str(one.get("source", "?")), str(one.get("reason", "?"))] for one in files[:WORST]]
    if len(files) > len(rows):
        rows.append([f"{len(files) - len(rows):,} more", "in prep/manifest.json"])
    return [Table("Source files that could not be used", ["file", "why"], rows, frozenset({0, 1}), wide=True)]
