"""The one declaration of a check and its typed result; gate, tables and pages are made from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "fail", "inconclusive", "reported"]
Direction = Literal["at most", "at least", "reported"]

SEVERITY: tuple[Verdict, ...] = ("fail", "inconclusive", "pass", "reported")
"""The worst first."""


@dataclass(frozen=True)
class Check:
    """What is measured and which values are good.

    Attributes:
        name: unique id, `family.what`, as used in the config's `gate.required`.
        title: a few words for tables.
        unit: unit of value and threshold ("" if dimensionless).
        direction: whether a small or a large value is good.
        definition: one or two sentences from which a physicist could compute it.
    """

    name: str
    title: str
    unit: str
    direction: Direction
    definition: str

    @property
    def family(self) -> str:
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Curve:
    """One line, set of points, row of bars or map of a plot.

    Attributes:
        name: in the legend.
        role: what it is, which decides its colour on every page.
        x, y: of its points; of a map the bin centres along both axes.
        error: 95 % half-widths of `y`; empty where there are none.
        z: of a map, [len(y)][len(x)]; NaN where there is nothing.
    """

    name: str
    role: Literal["model", "reference", "control", "limit"]
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    z: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Plot:
    """What a check has to show beside its number, as data: the page draws it without knowing the check.

    Attributes:
        kind: `lines`, `steps` (densities over bin centres), `points`, `bars` (x are positions of `ticks`) or `maps`
            (one panel a curve, on one colour scale).
        x_label, y_label: with units.
        curves: what is drawn, the model first.
        ticks: names of the positions 0, 1, … of `bars`.
        z_label: of the colour scale of `maps`.
    """

    kind: Literal["lines", "steps", "points", "bars", "maps"]
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    ticks: Sequence[str] = ()
    z_label: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data, numbers to five digits."""
        return _five_digits(jsonable(asdict(self)))


@dataclass(frozen=True)
class Evidence:
    """Distance of a model from the reference lineage nearest to it, beside everything it is uncertain by.

    A lineage is a simulation together with what continues it: the unit that is independent of the others.

    Attributes:
        measure: name of the distance.
        distance: of the pooled model from the nearest lineage.
        lineage: name of the nearest lineage.
        model_error: 95 % half-width of `distance`, from the model's lineages.
        reference_error: largest distance of one lineage of the reference from the others.
        limit: limit of the check for this distance.
        margin: what is left of the distance after the errors and the limit, a failure is evident where it is
            positive; of square roots if the measure is a divergence.
    """

    measure: str
    distance: float
    lineage: str
    model_error: float
    reference_error: float
    limit: float
    margin: float

    @property
    def evident(self) -> bool:
        """Whether the failure holds with all errors; a margin that is not a number never does."""
        return self.margin > 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `CheckResult.detail["evidence"]`."""
        return jsonable(asdict(self))


@dataclass
class CheckResult:
    """The outcome of one check on one protein.

    Attributes:
        check: name of the declaration.
        subject: the protein (or artifact) that was judged.
        value: the number that decided the verdict; None or NaN if it could not be measured, which never passes.
        error: 95 % half-width of `value`; 0 where the value is exact.
        threshold: the limit applied, None for reported checks.
        quantity: what `value`, `error`, `threshold` and `unit` are of, where that is not what the check is declared
            for; empty where it is. Of a check with several criteria it is the one that decided.
        direction: which values of `quantity` are good; None: as declared.
        reference: the reference's own value where there is one.
        verdict: `pass`, `fail`, `inconclusive` or `reported`.
        n_effective: effective number of independent samples, None for exact values.
        reason: one sentence that says why the verdict is what it is, and what would decide it.
        inputs: files and settings it was computed from.
        detail: numbers for tables.
        plot: to be drawn beside the result; not part of `to_json`, it goes into `plots.json`.
        evident: the fail holds against the nearest lineage of the reference with all errors: neither controls nor
            corrections for many checks take it back. The numbers are in `detail["evidence"]`, see `Evidence`.
        measured: the part of `reason` that says what was measured, where the rest says why that does not decide; empty
            where `reason` has no such rest.
    """

    check: str
    subject: str
    value: float | None
    error: float
    threshold: float | None
    verdict: Verdict
    reason: str
    unit: str = ""
    reference: float | None = None
    n_effective: float | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    plot: Plot | None = None
    evident: bool = False
    measured: str = ""
    quantity: str = ""
    direction: Direction | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; non-finite numbers become null, which no reader can mistake for a pass."""
        return jsonable({name: value for name, value in vars(self).items() if name != "plot"})


def decide(value: float, error: float, threshold: float, direction: Direction) -> Verdict:
    """Three-valued comparison: inside with its error, outside with its error, or undecided.

    Every comparison is written so that NaN never passes: a non-finite value is a `fail`,
    a non-finite error is `inconclusive`.
    """
    if direction == "reported":
        return "reported"
    if not math.isfinite(value):
        return "fail"
    if not math.isfinite(error):
        return "inconclusive"
    sign = 1.0 if direction == "at most" else -1.0
    if sign * value + error <= sign * threshold:
        return "pass"
    return "fail" if sign * value - error > sign * threshold else "inconclusive"


def worst_of(results: Sequence[Mapping[str, Any]], direction: Direction) -> Mapping[str, Any]:
    """Of the results of one check on several proteins the worst: by verdict, then by how far it is on the bad side.

    Args:
        results: as `CheckResult.to_json` writes them; at least one.
        direction: of the check; of a value whose sign says nothing, as of a drift, the largest is the worst.
    """

    def badness(result: Mapping[str, Any]) -> tuple[int, float]:
        verdict, value = result.get("verdict"), result.get("value") or 0.0
        severity = -SEVERITY.index(verdict) if verdict in SEVERITY else -len(SEVERITY)
        return severity, -value if direction == "at least" else abs(value)

    return max(results, key=badness)


def jsonable(data: Any) -> Any:
    """`data` with NumPy scalars and arrays as plain numbers and lists, and non-finite numbers as None."""
    if isinstance(data, dict):
        return {str(key): jsonable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [jsonable(value) for value in data]
    if hasattr(data, "tolist"):
        return jsonable(data.tolist())
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def _five_digits(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _five_digits(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_five_digits(value) for value in data]
    return float(f"{data:.5g}") if isinstance(data, float) else data
