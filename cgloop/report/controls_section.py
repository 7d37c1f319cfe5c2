"""The part of the page about controls: can these checks judge at all, and what does the prior alone do already?"""

from collections.abc import Iterator, Mapping
from typing import Any

from cgloop.checks import SEVERITY
from cgloop.feedback.words import capital
from cgloop.report.gather import CycleFiles
from cgloop.report.rows import WORDS, check_rows, control_rows, short, with_error
from cgloop.report.section import Findings, Section, Table

CAUGHT = {True: ("pass", "caught"), False: ("fail", "let pass"), None: ("inconclusive", "not decided")}
MOST_ROWS = 60

INTRO = (
    "A gate that cannot fail is no gate. So the reference itself is judged as if it were a model, and must not fail; "
    "trajectories with one thing wrong must fail; and the prior without the network is simulated beside the model."
)


def make(cycle: CycleFiles) -> Section:
    """The section, from what `validate` left and the gate made of it."""
    section = Section("controls", "Controls: can these checks judge?", INTRO, "validate")
    section.notes = _notes(cycle)
    section.lists = [one for one in (_reference(cycle), _power(cycle), _blind(cycle)) if one.rows]
    section.tables = [one for one in (_known_bad(cycle), _prior_alone(cycle)) if one is not None]
    return section


def controls(cycle: CycleFiles) -> dict[str, Any]:
    """`controls` of the verdict, or of what was measured as long as there is none."""
    return cycle.verdict.get("controls") or cycle.metrics.get("controls") or {}


def _notes(cycle: CycleFiles) -> list[str]:
    """How long the prior alone was simulated, or why it was not."""
    alone = cycle.read("control/control.json").get("prior_only") or {}
    length = alone.get("length_ps")
    if alone.get("run") and isinstance(length, int | float):
        return [f"The prior alone was simulated for {short(length)} ps a replica, from the same starts."]
    told = [alone, *(controls(cycle).get("prior_only") or {}).values()]
    reasons = {str(one["reason"]) for one in told if one.get("reason")}
    return [f"The prior alone was not simulated: {reason}." for reason in sorted(reasons)]


def _reference(cycle: CycleFiles) -> Findings:
    rows = [(row.verdict, f"{capital(row.title)} of {row.subject}", row.reason) for row in control_rows(cycle)]
    intro = (
        "Its own replicas, put through the structural checks. Where the reference is inconclusive nothing can be said "
        "about a model either, and where it fails the check is wrong."
    )
    return Findings("The reference, judged as if it were a model", intro, _foremost(rows))


def _power(cycle: CycleFiles) -> Findings:
    titles = _titles(cycle)
    rows = []
    for protein, checks in (controls(cycle).get("power") or {}).items():
        for name, found in checks.items():
            able, other = found.get("able"), found.get("other_temperature_K")
            at = f" from that at {short(other, 4)} K" if other is not None else ""
            words = found.get("reason") or f"{'tells' if able else 'cannot tell'} the reference{at}"
            rows.append(("pass" if able else "reported", f"{capital(titles.get(name, name))} of {protein}", words))
    intro = (
        "A check that cannot tell the reference from the same protein at another temperature is shown, and not gated."
    )
    return Findings("Power: can a check tell two temperatures apart?", intro, _foremost(rows))


def _blind(cycle: CycleFiles) -> Findings:
    """What the checks of the gate cannot see: a pass is worth what they can find."""
    notes = cycle.verdict.get("power_notes") or {}
    titles = _titles(cycle)
    rows = [("reported", capital(titles.get(name, name)), str(words)) for name, words in notes.items()]
    return Findings("What these checks cannot see", "A pass is worth what the checks can find.", rows[:MOST_ROWS])


def _known_bad(cycle: CycleFiles) -> Table | None:
    """What was done to the reference, which check is meant for it, and whether it was caught."""
    titles, rows, verdicts = _titles(cycle), [], []
    found = [
        (protein, case) for protein, cases in (controls(cycle).get("known_bad") or {}).items() for case in _cases(cases)
    ]
    several = len({protein for protein, _ in found}) > 1
    order = {False: 0, None: 1, True: 2}
    for protein, case in sorted(found, key=lambda one: order[one[1].get("caught")])[:MOST_ROWS]:
        verdict, words = CAUGHT[case.get("caught")]
        what = f"{case.get('text') or case.get('case', '?')}{f' ({protein})' if several else ''}"
        check = str(case.get("check", "?"))
        rows.append([capital(what), titles.get(check, check), words, str(case.get("reason") or "")])
        verdicts.append(verdict)
    if not rows:
        return None
    caught = sum(case.get("caught") is True for _, case in found)
    caption = (
        f"Known-bad trajectories: the reference with one thing wrong. {caught} of {len(found)} were caught by the "
        "check that is meant for them; one that is let pass makes the gate refuse to judge"
    )
    return Table(caption, ["what is wrong", "check meant for it", "outcome", "what it said"], rows,
                 frozenset({0, 1, 2, 3}), wide=True, verdicts=verdicts)  # fmt: skip


def _cases(cases: Any) -> Iterator[dict[str, Any]]:
    values = cases.values() if isinstance(cases, Mapping) else cases or []
    yield from (case for case in values if isinstance(case, dict))


def _prior_alone(cycle: CycleFiles) -> Table | None:
    """The same checks on the prior without the network: what it does already is not the model's merit."""
    model = {(row.name, row.subject): row for row in check_rows(cycle)}
    rows, verdicts = [], []
    for protein, alone_in in (controls(cycle).get("prior_only") or {}).items():
        for name, found in (alone_in.get("checks") or {}).items():
            if not isinstance(found, dict) or (name, protein) not in model:
                continue
            row = model[name, protein]
            alone = with_error(found.get("value"), found.get("error"))
            verdict = str(found.get("verdict"))
            verdict = verdict if verdict in WORDS else "none"
            of = [f"{value} {row.unit}".strip() if value != "not measured" else value for value in (alone, row.value)]
            rows.append(
                [f"{capital(row.title)} of {protein}", of[0], WORDS[verdict], of[1], WORDS[row.verdict], row.limit]
            )
            verdicts.append(verdict)
    if not rows:
        return None
    head = ["check", "prior alone", "its verdict", "model", "its verdict", "limit"]
    caption = "What the prior alone already does: the same dynamics and checks without the network"
    return Table(caption, head, rows[:MOST_ROWS], frozenset({0, 2, 4}), wide=True, verdicts=verdicts[:MOST_ROWS])


def _titles(cycle: CycleFiles) -> dict[str, str]:
    return {str(check.get("check")): str(check.get("title") or check.get("check")) for check in cycle.checks}


def _foremost(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    order = (*SEVERITY, "none")
    return sorted(rows, key=lambda row: order.index(row[0]) if row[0] in order else len(order))[:MOST_ROWS]
