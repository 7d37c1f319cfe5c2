"""What was run: stages and how long they took, versions, seeds, digests."""

from dataclasses import dataclass
from typing import Any

from cgloop.report.gather import CycleFiles
from cgloop.report.rows import seconds, short
from cgloop.wording import listing

MOST_PROTEINS = 12
"""More are not told one by one."""


@dataclass(frozen=True)
class StageRow:
    """One stage in the table and the bar chart of times.

    Attributes:
        name: of the stage.
        done: whether it is there.
        time: in words; `share` of the longest stage, 0 to 100.
        note: attempts, or that an earlier cycle did it.
        started, host, seed: as recorded.
        inputs, result: digests.
    """

    name: str
    done: bool
    time: str = "–"
    share: float = 0.0
    note: str = ""
    started: str = ""
    host: str = ""
    seed: str = ""
    inputs: str = ""
    result: str = ""


def stage_rows(cycle: CycleFiles) -> list[StageRow]:
    """All stages, the missing ones too."""
    longest = max((record["seconds"] for record in cycle.records.values()), default=0.0) or 1.0
    return [_row(name, cycle.records.get(name), longest) for name in cycle.stages]


def _row(name: str, record: dict[str, Any] | None, longest: float) -> StageRow:
    if record is None:
        return StageRow(name, False)
    notes = []
    if record.get("shared"):
        notes.append("from an earlier cycle")
    if record.get("attempts", 1) > 1:
        notes.append(f"{record['attempts']} attempts, time of the last")
    return StageRow(
        name=name,
        done=True,
        time=seconds(record["seconds"]),
        share=round(100 * record["seconds"] / longest, 2),
        note=listing(notes) if notes else "",
        started=str(record.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        host=str(record.get("host", "")),
        seed=str(record.get("seed", "")),
        inputs=str(record.get("inputs_digest", "")),
        result=str(record.get("result_digest", "")),
    )


def total_time(cycle: CycleFiles) -> str:
    """Time spent in this cycle, without stages that an earlier one did."""
    return seconds(sum(record["seconds"] for record in cycle.records.values() if not record["shared"]))


def versions(cycle: CycleFiles) -> list[tuple[str, str]]:
    """Package and version; several versions where stages were run with different ones."""
    found: dict[str, list[str]] = {}
    for record in cycle.records.values():
        for package, version in (record.get("versions") or {}).items():
            known = found.setdefault(package, [])
            if version not in known:
                known.append(version)
    return [(package, " and ".join(known)) for package, known in found.items()]


def what_was_run(cycle: CycleFiles) -> list[tuple[str, str]]:
    """Key and value of the settings of data and MD that a reader asks for."""
    manifest, md = cycle.read("prep/manifest.json"), cycle.md
    rows = _references(manifest.get("proteins") or {})
    if manifest:
        rows.append(("Mapping and forces", f"{manifest.get('mapping', '?')}, {manifest.get('projection', '?')}"))
    exported = cycle.read("export/manifest.json")
    if exported:
        energy = (exported.get("energy") or {}).get("consists_of", "?")
        rows.append(("Energy", f"{energy}, cutoff {short(exported.get('cutoff_A', float('nan')))} Å"))
    if md:
        asked = md.get("asked_ps") or {}
        rows += [
            ("Temperature of the MD", f"{short(md.get('temperature_K', float('nan')), 4)} K"),
            ("Replicas", str(md.get("replicas", "?"))),
            ("NVT", f"{_of(asked, 'nvt')} ps each, after {_of(asked, 'nvt_equilibration')} ps of equilibration"),
            ("NVE", f"{_of(asked, 'nve')} ps each"),
            ("Time step, friction", f"{_of(md, 'timestep_fs')} fs, {_of(md, 'friction_per_ps')}/ps"),
            ("LAMMPS", str(md.get("lammps", "?"))),
        ]  # fmt: skip
        rows += _starts(md)
    return rows


def _references(proteins: dict[str, Any]) -> list[tuple[str, str]]:
    """Frames and source of each protein; of very many their number."""
    if len(proteins) > MOST_PROTEINS:
        frames = sum(entry.get("frames", 0) for entry in proteins.values())
        return [("Reference", f"{frames:,} frames of {len(proteins):,} proteins: {listing(list(proteins), 8)}")]
    rows = []
    for name, entry in proteins.items():
        splits = ", ".join(
            f"{split} {count:,}" for split, count in (entry.get("frames_per_split") or {}).items() if count
        )
        frames = f"{entry.get('frames', 0):,} frames ({splits})"
        rows.append((f"Reference, {name}", f"{frames} from {entry.get('source', '?')}"))
    return rows


def _of(values: dict[str, Any], name: str) -> str:
    return short(values[name], 6) if isinstance(values.get(name), int | float) else "?"


def _starts(md: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    proteins = md.get("proteins") or {}
    if len(proteins) > MOST_PROTEINS:
        return [("Simulated", f"{len(proteins):,} proteins: {listing(list(proteins), 8)}")]
    for name, entry in proteins.items():
        starts = entry.get("starts") or []
        if starts:
            splits = sorted({str(start.get("start_split", start.get("split", "?"))) for start in starts})
            rows.append((f"Starts, {name}", f"{len(starts)} frames of the {listing(splits)} split"))
        if entry.get("untrained_types"):
            rows.append((f"Untrained residues, {name}", ", ".join(entry["untrained_types"])))
    return rows
