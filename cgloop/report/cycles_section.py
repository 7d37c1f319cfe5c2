"""What changed from cycle to cycle, what was tried, and the ablation if there is one."""

from typing import Any

from cgloop.report.figure import HEIGHT, MODEL, REFERENCE, Figure, axis, layout, level, line, with_levels
from cgloop.report.gather import CycleFiles, RunFiles, read_json
from cgloop.report.rows import SYMBOLS, short
from cgloop.report.section import Section, Table, ungrouped
from cgloop.wording import listing

MOST_ROWS = 60


def make(run: RunFiles) -> Section:
    """Survival, drift and force error over the cycles; remedies, decoys and outbox of each."""
    intro = "Each cycle starts from what the one before it learned, with what its diagnosis asked for."
    section = Section("cycles", "Cycles", intro, "feedback")
    told = read_json(run.path / "cycles.json")
    if told.get("ended") or told.get("words"):
        section.notes.append(str(told.get("words") or told.get("ended")))
    if len(run.cycles) > 1:
        section.groups = ungrouped([one for one in (_survival(run), _drift(run), _forces(run)) if one is not None])
    section.tables = [one for one in (_remedies(told), _learned(run)) if one is not None]
    return section


def _over_cycles(run: RunFiles) -> dict[str, Any]:
    return axis("cycle", names=[str(cycle.index) for cycle in run.cycles])


def _curve(
    values: list[float | None], name: str, color: str = MODEL, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    return line(list(range(len(values))), values, name, color, dash, dots=True, **more)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _survival(run: RunFiles) -> Figure | None:
    """Part of the time asked for that was survived, over all replicas."""
    values = [_survived(cycle) for cycle in run.cycles]
    if all(value is None for value in values):
        return None
    frame = layout(_over_cycles(run), axis("time survived, %", range=[0, 104]))
    words = "Part of the time asked for that all replicas together survived; less than 100 % is a fail."
    data = [_curve(values, "survival", legend=False)]
    return Figure("cycles-survival", "Survival", words, data, frame, HEIGHT - 40, "third")


def _survived(cycle: CycleFiles) -> float | None:
    details = [check.get("detail") or {} for check in cycle.check("stability.survival")]
    parts = [float(part) for detail in details for part in detail.get("fractions") or [] if part is not None]
    return round(100 * sum(parts) / len(parts), 3) if parts else None


def _drift(run: RunFiles) -> Figure | None:
    """Energy drift of the worst protein, with its limit."""
    worst = [
        max(cycle.check("nve.drift"), key=lambda check: check.get("value") or 0.0, default={}) for cycle in run.cycles
    ]
    values = [_number(check.get("value")) for check in worst]
    if all(value is None for value in values):
        return None
    errors = [_number(check.get("error")) or 0.0 for check in worst]
    frame = layout(_over_cycles(run), axis("drift, kcal/mol/ns", zero=True))
    limits = [check["threshold"] for check in worst if _number(check.get("threshold")) is not None]
    if limits:
        frame = with_levels(frame, level(limits[-1], "limit"))
    words = (
        "Slope of the total energy in NVE with its 95 % error band; cycles in which it could not be measured are gaps."
    )
    data = [_curve(values, "drift", legend=False, error=errors)]
    return Figure("cycles-drift", "Energy drift", words, data, frame, HEIGHT - 40, "third")


def _forces(run: RunFiles) -> Figure | None:
    """Force error on held-out frames: it must not rise for what feedback changes."""
    files = [cycle.read("train/forces.json") for cycle in run.cycles]
    full, prior = ([_number(one.get(key)) for one in files] for key in ("rmse_full", "rmse_prior"))
    if all(value is None for value in full):
        return None
    frame = layout(_over_cycles(run), axis("force RMSE, kcal/mol/Å"))
    words = "Force error on held-out frames; what feedback changes must not raise it."
    data = [_curve(full, "model"), _curve(prior, "prior alone", REFERENCE, "dash")]
    return Figure("cycles-forces", "Force error", words, data, frame, HEIGHT - 40, "third")


def _remedies(told: dict[str, Any]) -> Table | None:
    """What was changed for each cycle, why, and whether it was kept."""
    rows, verdicts = [], []
    for cycle in told.get("cycles") or []:
        for remedy in cycle.get("remedies") or []:
            if not isinstance(remedy, dict):
                continue
            kept = remedy.get("kept")
            outcome = {True: "kept", False: "undone", None: "not judged yet"}[kept if isinstance(kept, bool) else None]
            verdicts.append({"kept": "pass", "undone": "fail"}.get(outcome, "inconclusive"))
            changes = remedy.get("changes") or {}
            shown = (
                listing([f"{key}: {value}" for key, value in changes.items()]) if isinstance(changes, dict) else changes
            )
            why = str(remedy.get("why") or remedy.get("reason") or "")
            rows.append([str(cycle.get("cycle", "?")), str(remedy.get("name", "?")), str(shown), why, outcome])
    if not rows:
        return None
    return Table("Remedies: what was changed for a cycle, and whether it helped", ["cycle", "remedy", "change", "why",
                 "outcome"], rows[:MOST_ROWS], frozenset({0, 1, 2, 3, 4}), wide=True, verdicts=verdicts)  # fmt: skip


def _learned(run: RunFiles) -> Table | None:
    """What each cycle's feedback found for the next: decoys to learn from, and frames worth all-atom MD."""
    rows = []
    for cycle in run.cycles:
        feedback = cycle.read("feedback/feedback.json")
        outbox = cycle.read("feedback/outbox/index.json").get("candidates") or []
        decoys = feedback.get("decoys")
        if decoys is None and not outbox:
            continue
        classes = listing([f"{count} × {name}" for name, count in (feedback.get("classes") or {}).items()]) or "none"
        used = cycle.read("train/summary.json").get("decoys") or {}
        trained = used.get("frames", used) if isinstance(used, dict) else used
        rows.append([str(cycle.index), classes, str(decoys if decoys is not None else "–"),
                     str(trained) if isinstance(trained, int) else "–", str(len(outbox))])  # fmt: skip
    if not rows:
        return None
    caption = (
        "What each cycle left for the next: decoys are frames outside the data, in which the prior alone shall decide; "
        "the outbox holds frames that are worth all-atom MD"
    )
    return Table(caption, ["cycle", "crashes", "decoys found", "trained on", "in the outbox"], rows, frozenset({0, 1}))


def ablation(run: RunFiles) -> Section | None:
    """The table of `cgloop ablate`, if it was run."""
    told = read_json(run.path / "ablation.json")
    variants = told.get("variants") or told.get("rows") or []
    if isinstance(variants, dict):
        variants = [{"name": name, **entry} for name, entry in variants.items()]
    variants = [one for one in variants if isinstance(one, dict)]
    if not variants:
        return None
    columns = list(dict.fromkeys(key for one in variants for key in one if _plain(one[key]) and key != "verdict"))
    rows = [[_cell(one.get(key)) for key in columns] for one in variants]
    numbers = {k for k, key in enumerate(columns) if any(isinstance(one.get(key), int | float) for one in variants)}
    words = frozenset(range(len(columns))) - numbers
    verdicts = [str(one.get("verdict")) if one.get("verdict") in SYMBOLS else "none" for one in variants]
    caption = "The same data, budget and dynamics for each"
    table = Table(caption, [_title(one) for one in columns], rows, words | {0}, wide=True, verdicts=verdicts)
    intro = "What prior and network each contribute: trained and judged on equal terms."
    return Section("ablation", "Ablation", intro, "validate", tables=[table], notes=_texts(told.get("words")))


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else short(value, 4) if isinstance(value, float) else str(value)


def _title(key: str) -> str:
    return key.replace("_", " ")


def _texts(words: Any) -> list[str]:
    return [words] if isinstance(words, str) else [str(one) for one in words or [] if isinstance(one, str)]
