"""A data set's description as text for a terminal."""

from collections.abc import Sequence
from typing import Any

from cgloop.data.inspect import Finding
from cgloop.data.protein import SPLITS
from cgloop.wording import table

MOST_ROWS = 40


def info_text(facts: dict[str, Any]) -> str:
    """What `inspect.describe` found, as tables."""
    proteins = facts["proteins"]
    frames = sum(one["frames"] for one in proteins.values())
    beads = sum(one["beads"] * one["frames"] for one in proteins.values())
    counts = {part: [one["frames_per_split"].get(part, 0) for one in proteins.values()] for part in SPLITS}
    parts = {part: (sum(found), sum(n > 0 for n in found)) for part, found in counts.items() if any(found)}
    lines = [
        f"{len(proteins)} proteins, {frames} frames, {beads} bead positions; "
        f"{facts['temperature_K']:g} K, projection {facts['projection']}",
        "frames per part: " + ", ".join(f"{part} {n} of {found} proteins" for part, (n, found) in parts.items()),
        "",
        *_protein_table(proteins),
        *_map_table(proteins, facts["projection"]),
        "",
        *_residue_table(facts["residues"]),
        *_quarantine_lines(facts["quarantine"]),
        *_image_lines(facts["quarantine"]),
    ]
    lines += [f"excluded: {one['source']}: {one['reason']}" for one in facts["excluded_files"]]
    return "\n".join(lines)


def _protein_table(proteins: dict[str, dict[str, Any]]) -> list[str]:
    header = ("protein", "beads", "frames", "Rg (Å)", "bond (Å)", "RMS force", "noise", "explainable")
    rows = []
    for name, one in list(proteins.items())[:MOST_ROWS]:
        rows.append(
            (
                name, str(one["beads"]), str(one["frames"]), _spread(one["rg"], 2), _spread(one["bond"], 3),
                _number(one["rms_force"], 2), _number(one["force_noise"], 2),
                "–" if one["explainable"] is None else f"{one['explainable']:.0%}",
            )
        )  # fmt: skip
    more = [f"… and {len(proteins) - MOST_ROWS} more, all of them with --json"] if len(proteins) > MOST_ROWS else []
    return [*table(header, rows), *more, "RMS force and noise: of a component, kcal/mol/Å, at the model's temperature"]


def _map_table(proteins: dict[str, dict[str, Any]], in_use: str) -> list[str]:
    """Mean squared force of every map, as `prep` found it; nothing for data sets that have no such record."""
    maps = sorted({name for one in proteins.values() for name in one["mean_squared_force"]}, key=_map_order)
    if not maps:
        return []
    rows = []
    for protein, one in list(proteins.items())[:MOST_ROWS]:
        found = one["mean_squared_force"]
        rows.append((protein, *(_with_error(found.get(name) or {}) for name in maps)))
    header = ("mean squared force", *(f"{name} (in use)" if name == in_use else name for name in maps))
    note = "(kcal/mol/Å)² a component, on frames at the model's temperature that the map was not fitted to"
    return ["", *table(header, rows), note]


def _map_order(name: str) -> tuple[int, str]:
    known = ("slice", "basic", "optimal")
    return (known.index(name) if name in known else len(known), name)


def _with_error(found: dict[str, Any]) -> str:
    value, error = found.get("value"), found.get("error")
    return _number(value, 1) + (f" ± {error:.1f}" if value is not None and error is not None else "")


def _residue_table(residues: dict[str, dict[str, Any]]) -> list[str]:
    rows = [(name, str(one["beads"]), _number(one["rms_force"], 2)) for name, one in residues.items()]
    return table(("residue", "beads", "RMS force"), rows)


def _quarantine_lines(quarantine: dict[str, dict[str, Any]]) -> list[str]:
    """Only proteins that lost frames."""
    hit = {name: one for name, one in quarantine.items() if one.get("reasons")}
    if not hit:
        return []
    rows = [
        (name, str(one["frames_read"]), str(one["frames_kept"]),
         "; ".join(f"{count} {reason}" for reason, count in sorted(one["reasons"].items())))
        for name, one in list(hit.items())[:MOST_ROWS]
    ]  # fmt: skip
    return ["", *table(("set aside", "read", "kept", "why"), rows)]


def _image_lines(quarantine: dict[str, dict[str, Any]]) -> list[str]:
    """Proteins of which `prep` moved atoms to other periodic images."""
    return [
        f"{name}: periodic images of atoms changed in {one['frames_moved']} of {one['frames_read']} frames"
        for name, one in quarantine.items()
        if one.get("frames_moved")
    ][:MOST_ROWS]


def check_text(findings: Sequence[Finding]) -> str:
    """What `inspect.check` found, errors first."""
    if not findings:
        return "sound: digests, numbers, bonds, parts"
    order = sorted(findings, key=lambda one: (one.level != "error", one.protein))
    lines = [f"{one.level}: {one.protein + ': ' if one.protein else ''}{one.text}" for one in order]
    errors = sum(one.level == "error" for one in findings)
    return "\n".join([*lines, f"{errors} errors, {len(findings) - errors} notes"])


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _spread(moments: dict[str, Any], digits: int) -> str:
    if moments["mean"] is None:
        return "–"
    return f"{moments['mean']:.{digits}f} ± {moments['deviation']:.{digits}f}"
