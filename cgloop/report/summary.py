"""What the page says first: the verdict in plain words, the few figures everybody asks for, and what was run."""

from collections import Counter
from typing import Any

from cgloop.checks import worst_of
from cgloop.report.gather import CycleFiles, RunFiles
from cgloop.report.rows import ORDER, SYMBOLS, CheckRow, seconds, short, with_error
from cgloop.rundir import STAGES
from cgloop.wording import listing

FIRST_SENTENCES = 2
"""Number of sentences about the first crash in the headline."""

HEADLINES = {
    "pass": "Pass",
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "none": "No verdict yet",
}
MEANINGS = {
    "pass": "This model may be deployed.",
    "fail": "This model must not be deployed.",
    "inconclusive": "The data cannot tell whether this model may be deployed.",
    "none": "",
}


def headline(run: RunFiles, cycle: CycleFiles | None, checks: list[CheckRow]) -> dict[str, Any]:
    """Return the verdict, its meaning, the summary, and the reasons behind it.

    Args:
        run, cycle: what is shown.
        checks: rows of the cycle.
    """
    verdict = (cycle.verdict.get("verdict") if cycle else None) or "none"
    has_reasons = bool(cycle and cycle.verdict.get("reasons"))
    summary = str(cycle.verdict.get("summary", "")) if cycle else ""
    if verdict == "none":
        summary = _unfinished(run, cycle)
    # The list has all reasons; a summary that names the first of them would repeat it.
    if cycle and has_reasons and checks and not cycle.verdict.get("refused"):
        summary = _counts(checks)
    return {
        "verdict": verdict,
        "symbol": SYMBOLS.get(verdict, "…"),
        "word": HEADLINES.get(verdict, verdict),
        "meaning": MEANINGS.get(verdict, ""),
        "summary": summary,
        "reasons": _reasons(cycle.verdict) if cycle and has_reasons else [],
        "extended": _extended(cycle) if cycle else "",
        "cause": _cause(cycle) if cycle and verdict != "pass" else "",
        "missing": _missing(run, cycle),
        "stale": _stale(cycle) if cycle else "",
        "cautions": [str(caution.get("text", "")) for caution in cycle.cautions] if cycle else [],
    }


def _reasons(verdict: dict[str, Any]) -> list[dict[str, str]]:
    """Return each reason with what it is about, why, what would decide it, and its verdict; failures first.

    What is the same for several checks of one protein is said once. A verdict of an older version has sentences only.
    """
    entries = verdict.get("not_passed")
    if entries is None:
        overall = str(verdict.get("verdict"))
        return [{"about": str(text), "text": "", "advice": "", "verdict": overall} for text in verdict["reasons"]]
    told: dict[tuple[str, str, str, str], list[str]] = {}
    for one in entries:
        key = (one["verdict"], one["subject"], one["reason"], one["what_decides"])
        told.setdefault(key, []).append(one["title"])
    found = [
        {
            "about": f"{listing(titles, len(titles))} of {subject}",
            "text": _closed(why),
            "advice": _closed(f"What would decide: {advice}") if advice else "",
            "verdict": verdict,
        }
        for (verdict, subject, why, advice), titles in told.items()
    ]
    return sorted(found, key=lambda reason: ORDER.index(reason["verdict"]))


def _closed(sentence: str) -> str:
    return f"{sentence}." if sentence and not sentence.endswith(".") else sentence


def _extended(cycle: CycleFiles) -> str:
    """How the dynamics were made longer because nothing was decided, if they were."""
    titles = {str(check.get("check")): str(check.get("title") or check.get("check")) for check in cycle.checks}
    steps = [one for one in cycle.verdict.get("extensions") or [] if isinstance(one, dict)]
    parts = []
    for one in steps:
        lengths = zip(("NVT", "NVE"), one.get("lengths") or [], strict=False)
        to = listing([f"{stage} {short(ps, 4)} ps" for stage, ps in lengths])
        because = listing([titles.get(name, name) for name in one.get("because") or []], 8)
        parts.append(f"to {to} a replica{f', to decide {because}' if because else ''}")
    times = "once" if len(parts) == 1 else f"{len(parts)} times"
    return f"The dynamics went on {times}: {'; '.join(parts)}." if parts else ""


def _counts(checks: list[CheckRow]) -> str:
    """`Of 9 required checks 4 pass, 1 fails and 4 cannot be decided.`"""
    required = [row.verdict for row in checks if row.required]
    phrases = {"pass": ("passes", "pass"), "fail": ("fails", "fail"), "inconclusive": ("cannot be decided",) * 2}
    counts = Counter(verdict if verdict in phrases else "inconclusive" for verdict in required)
    parts = [
        f"{counts[verdict]} {forms[counts[verdict] != 1]}" for verdict, forms in phrases.items() if counts[verdict]
    ]
    failed = sum(row.optional and row.verdict == "fail" for row in checks)
    more = f" Besides, {failed} optional {'check fails' if failed == 1 else 'checks fail'}." if failed else ""
    return f"Of {len(required)} required checks {listing(parts)}.{more}"


def _stale(cycle: CycleFiles) -> str:
    """Which stages were run again after the verdict was given."""
    judged = cycle.verdict.get("results") or {}
    changed = [s for s, digest in judged.items() if s in cycle.records and cycle.records[s]["result_digest"] != digest]
    if not changed:
        return ""
    return f"This verdict is older than the results of {listing(changed, 8)}; the same command judges again."


def _unfinished(run: RunFiles, cycle: CycleFiles | None) -> str:
    if cycle is None or not cycle.records:
        return "Nothing was finished in this run yet."
    done = list(cycle.records)
    return f"Finished so far: {listing(done, 8)}."


def _missing(run: RunFiles, cycle: CycleFiles | None) -> str:
    """Which stages are not there, and why, in one or two sentences."""
    missing = cycle.missing_stages if cycle is not None else [stage for stage in STAGES if stage != "refine"]
    if not missing:
        return ""
    if cycle is not None and cycle.stopped_at_parity:
        why = "The loop stopped at parity, because the exported artifact and the model differ."
    elif run.last_event.get("event") == "interrupted":
        reason = run.last_event.get("reason", "no reason given")
        why = f"The run was interrupted ({reason}); the same command continues it."
    else:
        why = "The run has not come to its end; the same command continues it."
    many = len(missing) > 1
    return f"{why} The stage{'s' if many else ''} {listing(missing, len(missing))} {'are' if many else 'is'} missing."


def _cause(cycle: CycleFiles) -> str:
    """Return the crashes in one sentence, and the first sentences about the first of them."""
    if not cycle.crashes:
        return ""
    counts: Counter[str] = Counter()
    for crash in cycle.crashes:
        counts[crash["class"]] += len(crash.get("replicas") or [crash["replica"]])
    kinds = listing([f"{count} × {name}" for name, count in counts.most_common()])
    were = "replica was" if counts.total() == 1 else "replicas were"
    first = cycle.crashes[0]
    sentences = list(first.get("sentences") or [str(first.get("words", ""))])[:FIRST_SENTENCES]
    return f"{counts.total()} {were} stopped ({kinds}). {' '.join(sentences)}"


def tiles(cycle: CycleFiles) -> list[dict[str, str]]:
    """Name, value and context of the few figures that everybody asks for first."""
    forces = cycle.read(f"{cycle.trained}/forces.json")
    found = []
    if forces.get("rmse_full") is not None:
        found.append(
            _tile(
                "Force RMSE",
                short(forces["rmse_full"], 4),
                "kcal/mol/Å, held-out frames",
                f"prior alone {_plain(forces.get('rmse_prior'))}, no model {_plain(forces.get('rmse_zero'))}",
            )
        )
    survival = [check.get("detail") or {} for check in cycle.check("stability.survival")]
    if survival:
        fractions = [part for detail in survival for part in detail.get("fractions") or []]
        survived, asked = (sum(detail.get(key) or 0.0 for detail in survival) for key in ("survived_ns", "asked_ns"))
        whole = sum(part >= 1 for part in fractions)
        found.append(
            _tile(
                "Survival",
                f"{whole} of {len(fractions)}",
                "replica runs in NVT and NVE",
                f"{_plain(survived)} of {_plain(asked)} ns",
            )
        )
    found += _means(cycle)
    for name, title, unit in (("structure.rmsd", "RMSD to native", "Å"), ("structure.q", "Native contacts Q", "")):
        for check, of in _worst(cycle, name):
            detail = check.get("detail") or {}
            if detail.get("mean_model") is not None:
                found.append(
                    _tile(
                        title,
                        f"{short(detail['mean_model'])} {unit}".strip(),
                        f"mean in NVT{of}",
                        f"reference {_plain(detail.get('mean_reference'), 3)} {unit}".strip(),
                    )
                )
    return found


def _worst(cycle: CycleFiles, name: str) -> list[tuple[dict[str, Any], str]]:
    """The result of a check that is worst among the proteins, and whose it is; nothing if it was not measured."""
    results = cycle.check(name)
    if len(results) < 2:
        return [(check, "") for check in results]
    check = dict(worst_of(results, "at most"))
    return [(check, f", {check['subject']}: worst of {len(results)} proteins")]


def _means(cycle: CycleFiles) -> list[dict[str, str]]:
    """Temperature and drift: a mean over replicas with its error, in `detail` of a check."""
    kinds = (
        ("nvt.temperature", "Temperature", "mean_K", "error_K", "K", "mean in NVT", "target_K", "target {} K"),
        (
            "nve.drift",
            "Energy drift",
            "mean_slope",
            "mean_slope_error",
            "",
            "kcal/mol/ns in NVE",
            "threshold",
            "limit {}",
        ),
    )
    found = []
    for name, title, value, error, unit, words, beside, context in kinds:
        for check, of in _worst(cycle, name):
            known = {**check, **(check.get("detail") or {})}
            if known.get(value) is not None:
                measured = with_error(known[value], known.get(error, known.get("error")), unit)
                found.append(_tile(title, measured, words + of, context.format(_plain(known.get(beside), 3))))
    return found


def _tile(name: str, value: str, unit: str, context: str) -> dict[str, str]:
    return {"name": name, "value": value, "unit": unit, "context": context}


def _plain(value: Any, digits: int = 4) -> str:
    return short(value, digits) if isinstance(value, int | float) else "–"


def cycle_table(run: RunFiles) -> list[dict[str, str]]:
    """One row per cycle, newest first."""
    rows = []
    for cycle in reversed(run.cycles):
        verdict = cycle.verdict.get("verdict") or "none"
        forces = cycle.read(f"{cycle.trained}/forces.json")
        survival = [c.get("detail", {}).get("fractions") or [] for c in cycle.check("stability.survival")]
        parts = [part for fractions in survival for part in fractions]
        drift = next(iter(cycle.check("nve.drift")), {})
        spent = sum(r["seconds"] for r in cycle.records.values() if not r["shared"])
        rows.append(
            {
                "index": str(cycle.index),
                "verdict": verdict,
                "symbol": SYMBOLS.get(verdict, "…"),
                "word": HEADLINES.get(verdict, verdict),
                "rmse": _plain(forces.get("rmse_full")),
                "survival": f"{sum(part >= 1 for part in parts)} of {len(parts)}" if parts else "–",
                "drift": with_error(drift.get("value"), drift.get("error")) if drift else "–",
                "crashes": str(len(cycle.crashes)) if "feedback" in cycle.records else "–",
                "seconds": seconds(spent),
                "summary": str(cycle.verdict.get("summary", "")),
            }
        )
    return rows


def subject_line(cycle: CycleFiles) -> str:
    """`cln025 (YYDPETGTWY, 10 beads) at 320 K`."""
    manifest = cycle.read("prep/manifest.json")
    proteins = manifest.get("proteins") or {}
    parts = [
        f"{name} ({entry.get('sequence', '')[:40]}{'…' if len(entry.get('sequence', '')) > 40 else ''}, "
        f"{entry.get('beads', '?')} beads)"
        for name, entry in proteins.items()
    ]
    temperature = manifest.get("temperature_K")
    at = f" at {short(temperature, 4)} K" if temperature else ""
    return f"{listing(parts, 3)}{at}" if parts else ""
