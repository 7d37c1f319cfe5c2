"""The part of the page about crashes: what happened in words, and the frames before it to play."""

from typing import Any

from cgloop.feedback.words import TERM_WORDS, capital
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import decimals, short
from cgloop.report.section import Section, Table

MOST_CRASHES = 40
"""Told one by one; of more their classes are in the headline."""
KINDS = {"pairs": "distance", "bonds": "bond", "angles": "angle", "dihedrals": "dihedral"}


def crash_entries(cycle: CycleFiles) -> list[dict[str, Any]]:
    """Each crash for the template: what the file says, `head`, `facts`, `tables`; `playable` is the first film."""
    entries = [_entry(crash) for crash in cycle.crashes[:MOST_CRASHES]]
    playable = next((one for one in entries if len((one.get("frames") or {}).get("positions") or []) > 1), None)
    return [{**one, "playable": one is playable} for one in entries]


def note(cycle: CycleFiles, parts: list[Section]) -> str:
    """What is said where there is no crash, and of those that are not told."""
    if "feedback" not in cycle.records:
        return "Not known: the stage `feedback` is missing."
    if cycle.crashes:
        left = len(cycle.crashes) - MOST_CRASHES
        return f"{left:,} more are in feedback/feedback.json." if left > 0 else ""
    survival = next((part for part in parts if part.id == "stability"), None)
    reasons = [row.reason for row in survival.checks] if survival else []
    return "No replica broke a limit." + (f" {capital(reasons[0])}." if reasons else "")


def _entry(crash: dict[str, Any]) -> dict[str, Any]:
    facts = [str(crash["distribution_words"])] if crash.get("distribution_words") else []
    alone = crash.get("prior_alone") or {}
    if alone.get("words"):
        facts.append(str(alone["words"]))
    committee = crash.get("committee") or {}
    if committee.get("last_frame") is not None:
        facts.append(
            f"Members of the ensemble disagree {short(committee['last_frame'])} times as much as on validation frames "
            f"in the last frame, and {short(committee.get('sound_frame') or float('nan'))} times in the last sound one."
        )
    return {
        **crash,
        "class": str(crash.get("class", "crash")),
        "words": str(crash.get("words", "")),
        "meaning": str(crash.get("meaning", "")),
        "head": _head(crash),
        "facts": facts,
        "tables": [one for one in (_forces(crash), _distances(crash)) if one is not None],
        "replica": crash.get("replica", "?"),
    }


def _head(crash: dict[str, Any]) -> str:
    """`cln025, NVT, replica 3, step 5,039: TYR 1 – GLY 7`."""
    stage = str(crash.get("stage", "?"))
    parts = [str(crash.get("protein", "?")), "minimisation" if stage == "minimize" else stage.upper()]
    if crash.get("replica") is not None:
        parts.append(f"replica {crash['replica']}")
    elif crash.get("replicas"):
        parts.append(f"{len(crash['replicas'])} replicas")
    if isinstance(crash.get("step"), int):
        parts.append(f"step {crash['step']:,}")
    residues = [str(one) for one in crash.get("residues") or []][:4]
    return ", ".join(parts) + (f": {' – '.join(residues)}" if residues else "")


def _forces(crash: dict[str, Any]) -> Table | None:
    """What each energy term did, where that was recorded: closing forces of a pair, or changes of energy."""
    numbers = crash.get("numbers") or {}
    pair = len(crash.get("beads") or []) == 2
    split = "Forces that pull the two together, kcal/mol/Å; negative ones push them apart"
    if not pair:
        split = "Parts of the force on the bead, along its direction, kcal/mol/Å"
    changes = "Change of each energy over the frames recorded, kcal/mol"
    for key, caption, head in (("split", split, "force"), ("energy_changes", changes, "change")):
        parts = {k: v for k, v in (numbers.get(key) or {}).items() if isinstance(v, int | float) and v}
        if parts:
            by_size = sorted(parts.items(), key=lambda one: -abs(one[1]))
            rows = [[TERM_WORDS.get(name, name).removeprefix("the "), decimals(value, 2)] for name, value in by_size]
            return Table(caption, ["term", head], rows)
    return None


def _distances(crash: dict[str, Any]) -> Table | None:
    """The most unusual coordinate of each kind, in standard deviations of the training frames."""
    scores = (crash.get("distribution") or {}).get("scores") or {}
    rows = []
    for kind, found in scores.items():
        if not isinstance(found, dict) or found.get("z") is None:
            continue
        unit = str(found.get("unit", ""))
        usual = f"{decimals(found.get('mean'), 2)} ± {decimals(found.get('sd'), 2)}"
        beads = " – ".join(str(int(bead) + 1) for bead in found.get("beads") or [])
        value = f"{decimals(found.get('value'), 2)} {unit}"
        rows.append([KINDS.get(kind, kind), beads, value, f"{usual} {unit}", decimals(found["z"], 1)])
    if not rows:
        return None
    caption = "The last finite frame against the training frames: the most unusual coordinate of each kind"
    return Table(caption, ["", "beads", "value", "training", "z"], rows, frozenset({0, 1}))


def near_misses(cycle: CycleFiles) -> Table | None:
    """Replicas that survived and came near a limit, and frames far from the training data."""
    feedback = cycle.read("feedback/feedback.json")
    rows = []
    for one in feedback.get("near_misses") or []:
        if isinstance(one, dict):
            rows.append([_where(one), str(one.get("words") or _used(one))])
    for one in feedback.get("unusual_frames") or []:
        if isinstance(one, dict):
            rows.append([_where(one), str(one.get("reason", ""))])
    if not rows:
        return None
    return Table("Near misses: replicas that survived, and are worth a look", ["where", "why"], rows[:MOST_CRASHES],
                 frozenset({0, 1}), wide=True)  # fmt: skip


def _where(one: dict[str, Any]) -> str:
    step = f", step {one['step']:,}" if isinstance(one.get("step"), int) else ""
    if isinstance(one.get("time_ps"), int | float):
        step = f", {short(one['time_ps'])} ps"
    stage = str(one.get("stage", ""))
    return f"{one.get('protein', '')} {stage.upper()} replica {one.get('replica', '?')}{step}".strip()


QUANTITIES = {"min_distance_A": "closest pair", "max_bond_deviation": "bond deviation", "max_force": "largest force"}


def _used(one: dict[str, Any]) -> str:
    """`closest pair 2.14 Å, the limit is 2 Å`."""
    name, unit = str(one.get("quantity", "a limit")), str(one.get("unit") or "")
    value, limit = (f"{short(v)} {unit}".strip() if isinstance(v := one.get(key), int | float) else "?"
                    for key in ("value", "limit"))  # fmt: skip
    return f"{QUANTITIES.get(name, name)} {value}, the limit is {limit}"
