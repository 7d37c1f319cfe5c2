"""Numbers and verdicts as they stand in tables."""

import math
from dataclasses import dataclass, replace
from typing import Any

from cgloop.checks import SEVERITY
from cgloop.feedback.words import number
from cgloop.report.gather import CycleFiles

SYMBOLS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "reported": "i", "none": "…"}
WORDS = {
    "pass": "pass",
    "fail": "fail",
    "inconclusive": "inconclusive",
    "reported": "reported",
    "none": "not judged",
}
ORDER = (*SEVERITY, "none")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
RELATIONS = {"at most": "≤", "at least": "≥"}


@dataclass(frozen=True)
class CheckRow:
    """One check as the page shows it; everything is text.

    Attributes:
        name, title, subject, definition, reason: of the check.
        verdict: a key of `SYMBOLS`.
        value, limit, reference: numbers in `unit`, "–" where there is none.
        unit: of the three; with the name of the quantity where it is not the one that the check is declared for.
        required: it decides the verdict.
        samples: effective number of samples, "" if it is exact.
        optional: it does not decide, and its fail is told.
        blind: what the check cannot see, "" where that is not said.
        gauge: where the value lies between 0 and twice the limit, see `Gauge`.
    """

    name: str
    title: str
    subject: str
    definition: str
    reason: str
    verdict: str
    value: str
    unit: str
    limit: str
    reference: str
    required: bool
    samples: str
    optional: bool = False
    blind: str = ""
    gauge: "Gauge | None" = None

    @property
    def family(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Gauge:
    """A value beside its limit, in per cent of a strip that ends at twice the limit.

    Attributes:
        value, low, high: the value and the ends of its error bar, cut at the ends of the strip.
        beyond: the value itself lies beyond the strip.
        good: where the good side begins, 0 or 50; it ends at the limit, 50, or the end of the strip.
    """

    value: float
    low: float
    high: float
    beyond: bool
    good: float

    @classmethod
    def of(cls, value: Any, error: Any, limit: Any, direction: str) -> "Gauge | None":
        """None where there is no number, or the limit is not a scale."""
        known = [one for one in (value, limit) if isinstance(one, int | float) and math.isfinite(one)]
        if len(known) < 2 or not limit > 0 or direction not in RELATIONS:
            return None
        half = error if isinstance(error, int | float) and math.isfinite(error) else 2.0 * limit
        size = abs(value) if direction == "at most" else value

        def place(one: float) -> float:
            return round(min(100.0, max(0.0, 50.0 * one / limit)), 2)

        good = 0.0 if direction == "at most" else 50.0
        return cls(place(size), place(size - half), place(size + half), not 0.0 <= size <= 2.0 * limit, good)


def check_rows(cycle: CycleFiles) -> list[CheckRow]:
    """All checks of a cycle; required ones that have no result are failed rows."""
    blind = cycle.verdict.get("power_notes") or {}
    rows = [replace(_row(check), blind=str(blind.get(check.get("check")) or "")) for check in cycle.checks]
    for entry in cycle.verdict.get("missing") or []:
        rows.append(
            CheckRow(
                name=entry["check"], title=entry["check"], subject=entry["subject"], definition="",
                reason="required, and not measured", verdict="fail", value="not measured", unit="", limit="–",
                reference="–", required=True, samples="",
            )
        )  # fmt: skip
    return rows


def _row(check: dict[str, Any]) -> CheckRow:
    unit = " ".join(part for part in (check.get("unit"), _in_brackets(check.get("quantity"))) if part)
    threshold, reference = check.get("threshold"), check.get("reference")
    relation = RELATIONS.get(check.get("direction") or "", "")
    samples = check.get("n_effective")
    verdict = check.get("verdict")
    return CheckRow(
        name=str(check.get("check")),
        title=str(check.get("title") or check.get("check")),
        subject=str(check.get("subject") or ""),
        definition=str(check.get("definition") or ""),
        reason=str(check.get("reason") or ""),
        verdict=verdict if verdict in SYMBOLS else "none",
        value=with_error(check.get("value"), check.get("error")),
        unit=unit if check.get("value") is not None else "",
        limit="–" if threshold is None else f"{relation} {short(threshold)}".strip(),
        reference="–" if reference is None else short(reference),
        required=bool(check.get("required")),
        samples="" if samples is None else f"{samples:.0f}",
        optional=bool(check.get("optional")),
        gauge=Gauge.of(check.get("value"), check.get("error"), threshold, check.get("direction") or ""),
    )


def _in_brackets(text: Any) -> str:
    return f"({text})" if text else ""


def control_rows(cycle: CycleFiles) -> list[CheckRow]:
    """The reference itself, put through the structural checks as if it were model output."""
    titles = {check.get("check"): check.get("title") for check in cycle.checks}
    controls = (cycle.verdict.get("controls") or cycle.metrics.get("controls") or {}).get("reference") or {}
    return [
        _row({"check": name, "title": titles.get(name), "subject": protein, **control})
        for protein, checks in controls.items()
        for name, control in checks.items()
    ]


def with_error(value: float | None, error: float | None, unit: str = "") -> str:
    """`0.342 ± 0.051 Å`: two digits of the error, and as many decimals of the value."""
    if value is None or not math.isfinite(value):
        return "not measured"
    if error is None or not math.isfinite(error):
        text = f"{short(value)} ± ?"
    elif error == 0:
        text = short(value)
    elif not 1e-4 <= max(abs(value), error) < 1e6:
        text = f"{short(value)} ± {short(error, 2)}"
    else:
        decimals = min(6, max(0, 1 - math.floor(math.log10(error))))
        text = f"{value:,.{decimals}f} ± {error:,.{decimals}f}".replace("-", "−")
    return f"{text} {unit}".strip()


def short(value: float, digits: int = 3) -> str:
    """So many significant digits without trailing zeros; `4.48 × 10⁻⁷` for very small and very large numbers."""
    if not math.isfinite(value):
        return number(value)
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        # `g` alone would write 1234 with three digits as 1.23e+03.
        decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        text = f"{value:,.{decimals}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}".replace("-", "−")


def decimals(value: float | None, places: int) -> str:
    """A number with so many decimals; zero without a sign."""
    if value is None:
        return "–"
    return f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−")


def worst(rows: list[CheckRow]) -> str:
    """The verdict that a group of checks is headed by: that of its required checks, or of all."""
    deciding = [row.verdict for row in rows if row.required] or [row.verdict for row in rows]
    return next((verdict for verdict in ORDER if verdict in deciding), "none")


def foremost(rows: list[CheckRow], at_most: int) -> list[CheckRow]:
    """All rows; of too many the worst, in the order of verdicts."""
    return rows if len(rows) <= at_most else sorted(rows, key=lambda row: ORDER.index(row.verdict))[:at_most]


def seconds(value: float | None) -> str:
    """`0.4 s`, `37 s`, `4 min 12 s`, `2 h 05 min`."""
    if value is None:
        return "–"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 59.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
