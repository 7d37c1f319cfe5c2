"""What changed from cycle to cycle, what was tried and undone, and what each cycle left for the next."""

from typing import Any

from cgloop.figures.figure import HEIGHT, MODEL, REFERENCE, Figure, axis, layout, level, line, points, with_levels
from cgloop.report.gather import CycleFiles, RunFiles, read_json
from cgloop.report.rows import with_error
from cgloop.report.section import Section, Table, ungrouped
from cgloop.wording import listing

MOST_ROWS = 60
LOW = HEIGHT - 40
RESULTS = {"better": "pass", "same": "inconclusive", "worse": "fail"}
RELATIONS = {"better": "better than", "same": "the same as", "worse": "worse than"}


def make(run: RunFiles) -> Section:
    """Survival, drift and force error over the cycles; remedies, decoys and outbox of each."""
    intro = "Each cycle starts from what the one before it learned, with what its diagnosis asked for."
    section = Section("cycles", "Cycles", intro, "feedback")
    told = read_json(run.path / "cycles.json")
    if told.get("ended"):
        section.notes.append(f"The loop ended because {told['ended']}.")
    rows = {row["cycle"]: row for row in told.get("cycles") or [] if isinstance(row, dict) and "cycle" in row}
    if len(run.cycles) > 1:
        section.groups = ungrouped([one for one in (_survival(run), _drift(run), _forces(run)) if one is not None])
    section.tables = [one for one in (_changes(rows), _learned(run, rows)) if one is not None]
    return section


def _over_cycles(run: RunFiles) -> dict[str, Any]:
    return axis("cycle", names=[str(cycle.index) for cycle in run.cycles])


def _curve(
    values: list[float | None], name: str, color: str = MODEL, dash: str = "solid", **more: Any
) -> dict[str, Any]:
    """Values by cycle."""
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
    return Figure("cycles-survival", "Survival", words, [_curve(values, "survival", legend=False)], frame, LOW, "third")


def _survived(cycle: CycleFiles) -> float | None:
    """Per cent of the time asked for; over all proteins."""
    details = [check.get("detail") or {} for check in cycle.check("stability.survival")]
    done, asked = (sum(_number(one.get(key)) or 0.0 for one in details) for key in ("survived_ns", "asked_ns"))
    return round(100 * done / asked, 3) if asked > 0 else None


def _drift(run: RunFiles) -> Figure | None:
    """Energy drift of the worst protein, with its limit."""
    worst = [max(cycle.check("nve.drift"), key=lambda one: one.get("value") or 0.0, default={}) for cycle in run.cycles]
    values = [_number(check.get("value")) for check in worst]
    if all(value is None for value in values):
        return None
    errors = [_number(check.get("error")) or 0.0 for check in worst]
    frame = layout(_over_cycles(run), axis("drift, kcal/mol/ns", zero=True))
    limits = [limit for check in worst if (limit := _number(check.get("threshold"))) is not None]
    if limits:
        frame = with_levels(frame, level(limits[-1], "limit"))
    words = "Slope of the total energy in NVE with its 95 % error; a gap is a cycle in which it was not measured."
    places = list(range(len(values)))
    data = [
        line(places, values, "drift", MODEL, legend=False, width=1.2),
        points(places, values, "drift", MODEL, "circle", legend=False, error=errors),
    ]
    return Figure("cycles-drift", "Energy drift", words, data, frame, LOW, "third")


def _forces(run: RunFiles) -> Figure | None:
    """Force error on held-out frames: what feedback changes must not raise it."""
    files = [cycle.read(f"{cycle.trained}/forces.json") for cycle in run.cycles]
    full, prior = ([_number(one.get(key)) for one in files] for key in ("rmse_full", "rmse_prior"))
    if all(value is None for value in full):
        return None
    frame = layout(_over_cycles(run), axis("force RMSE, kcal/mol/Å"))
    words = "Force error on held-out frames; decoys and remedies must not raise it."
    data = [_curve(full, "model"), _curve(prior, "prior alone", REFERENCE, "dash")]
    return Figure("cycles-forces", "Force error", words, data, frame, LOW, "third")


def _changes(rows: dict[int, dict[str, Any]]) -> Table | None:
    """What was different in each cycle, and what came of it."""
    lines, verdicts = [], []
    for index, row in sorted(rows.items()):
        compared = row.get("compared") or {}
        undone = [
            f"{one.get('what')} of cycle {one.get('cycle')} ({one.get('reason')})" for one in row.get("undone") or []
        ]
        active = [str(name) for name in row.get("remedies") or [] if name != row.get("tried")]
        result = ""
        if compared:
            relation = RELATIONS.get(str(compared.get("result")), str(compared.get("result")))
            result = f"{relation} cycle {compared.get('with')}: {compared.get('why')}"
        lines.append([str(index), str(row.get("tried") or "–"), listing(active, 8) or "–", listing(undone, 8) or "–",
                      _rise(row) or "–", result or "–"])  # fmt: skip
        verdicts.append(RESULTS.get(str(compared.get("result")), "none"))
    if not lines or (len(lines) == 1 and lines[0][1:] == ["–"] * 5):
        return None
    head = ["cycle", "tried anew", "kept from before", "undone before it", "force error, kcal/mol/Å", "outcome"]
    caption = "Remedies: what was changed in each cycle, and whether it helped; one that did not is undone in the next"
    return Table(caption, head, lines[:MOST_ROWS], frozenset(range(6)), wide=True, verdicts=verdicts[:MOST_ROWS])


def _rise(row: dict[str, Any]) -> str:
    """`rose by 0.12 ± 0.05` against the cycle that it is compared with."""
    rise = row.get("force_rise") or {}
    value = _number(rise.get("value"))
    if value is None:
        return ""
    verb = "rose" if value > 0 else "fell"
    return f"{verb} by {with_error(abs(value), _number(rise.get('error')))} against cycle {rise.get('against', '?')}"


def _learned(run: RunFiles, rows: dict[int, dict[str, Any]]) -> Table | None:
    """What each cycle's feedback found for the next: decoys to learn from, and frames worth all-atom MD."""
    lines = []
    for cycle in run.cycles:
        feedback, row = cycle.read("feedback/feedback.json"), rows.get(cycle.index) or {}
        outbox = cycle.read("feedback/outbox/index.json").get("candidates") or []
        found = feedback.get("decoys")
        if found is None and not outbox:
            continue
        classes = feedback.get("classes") or row.get("crashes") or {}
        crashes = listing([f"{count} × {name}" for name, count in classes.items()], 8) or "none"
        used = (row.get("decoys") or {}).get("used")
        start = row.get("start")
        began = "new parameters" if start is None else f"those of cycle {start}"
        lines.append([str(cycle.index), began if row else "–", crashes, "–" if found is None else str(found),
                      "–" if used is None else str(used), str(len(outbox))])  # fmt: skip
    if not lines:
        return None
    caption = (
        "What each cycle learned from and left: decoys are frames outside the data, in which the prior alone shall "
        "decide; the outbox (folder `outbox`) holds frames that are worth all-atom MD"
    )
    head = ["cycle", "started from", "crashes", "decoys found", "decoys trained on", "in the outbox"]
    return Table(caption, head, lines, frozenset({0, 1, 2}), wide=True)
