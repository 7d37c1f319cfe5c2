"""Typed objects of the gate: a check as the gate sees it, why its verdict was changed, and what else is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from cgloop.checks import Check, Verdict
from cgloop.validate.artifact import SUBJECT
from cgloop.validate.registry import CHECKS, OF_THE_MODEL

GATE_ENGINE = "lammps"
"""Engine that a model must run in to be deployed: LAMMPS with the artifact that parity compared, monitored at every
step."""

ReasonKind = Literal[
    "not applicable",
    "control missing",
    "control fails",
    "control inconclusive",
    "no power",
    "run too short",
    "chance",
    "structure undecided",
    "other engine",
    "no known-bad trajectories",
]

Key = tuple[str, str]
"""Name of a check and its subject."""


@dataclass(frozen=True)
class Reason:
    """Why the gate changed a verdict, as data; `gate_words` has the sentence of each kind.

    Attributes:
        kind: which rule.
        values: numbers and names that the sentence is made from.
    """

    kind: ReasonKind
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `verdict.json`."""
        return {"kind": self.kind, "values": dict(self.values)}


@dataclass(frozen=True)
class Chance:
    """p-value of a check alone, and after the correction for all checks that were tested with it."""

    alone: float
    corrected: float


@dataclass(frozen=True)
class JudgedCheck:
    """One result and what the rules of the gate made of it.

    Attributes:
        result: entry of `checks` of `metrics.json`; never changed.
        verdict: after the rules so far.
        required: the check is one of `gate.required`.
        optional: the check is one of `gate.optional` and not required.
        reasons: why the verdict is not the measured one, oldest first.
        set_aside: why the check can decide nothing about this protein; None if it can.
        needs: what would decide it, where a rule knows better than the check.
        chance: p-values, where the correction for many checks applies.
    """

    result: Mapping[str, Any]
    verdict: Verdict
    required: bool = False
    optional: bool = False
    reasons: tuple[Reason, ...] = ()
    set_aside: Reason | None = None
    needs: Mapping[str, Any] | None = None
    chance: Chance | None = None

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "JudgedCheck":
        """Return a result as it was measured."""
        return cls(result, result["verdict"])

    @property
    def name(self) -> str:
        return self.result["check"]

    @property
    def subject(self) -> str:
        return self.result["subject"]

    @property
    def key(self) -> Key:
        return self.name, self.subject

    @property
    def declared(self) -> Check | None:
        return CHECKS.get(self.name)

    @property
    def title(self) -> str:
        return self.declared.title if self.declared else self.name

    @property
    def detail(self) -> dict[str, Any]:
        """The numbers of the result, with those that the rules found."""
        own: dict[str, Any] = dict(self.result.get("detail") or {})
        if self.chance is not None:
            own |= {"chance": self.chance.alone, "chance_corrected": self.chance.corrected}
        return own if self.needs is None else {**own, "needs": dict(self.needs)}

    @property
    def what_decides(self) -> dict[str, Any]:
        """What would decide an inconclusive check (`comparison.Needs`); empty otherwise, or if that is not known."""
        return dict(self.detail.get("needs") or {}) if self.verdict == "inconclusive" else {}

    @property
    def decided(self) -> bool:
        return self.verdict in ("pass", "fail")

    @property
    def passed(self) -> bool:
        """Whether it is a pass whose value is a number; null stands for a value that could not be computed."""
        value = self.result.get("value")
        return self.verdict == "pass" and isinstance(value, int | float) and math.isfinite(value)

    @property
    def incomplete(self) -> bool:
        """Whether it failed because data are missing or not finite."""
        return bool(self.detail.get("incomplete"))

    @property
    def evident_fail(self) -> bool:
        """Whether it fails by more than all errors of model and reference together."""
        return self.verdict == "fail" and bool(self.result.get("evident"))

    def changed(self, verdict: Verdict, reason: Reason, needs: Mapping[str, Any] | None = None) -> "JudgedCheck":
        """Return the check with another verdict, and why."""
        reasons = (*self.reasons, reason)
        return replace(self, verdict=verdict, reasons=reasons, needs=self.needs if needs is None else needs)


Checks = tuple[JudgedCheck, ...]


@dataclass(frozen=True)
class Case:
    """What the rules know besides the checks.

    Attributes:
        required, optional: names of checks.
        significance: chance that a healthy model is failed by any required check.
        proteins: by name, `gated`, `replicas` and more.
        controls: `controls` of `metrics.json`.
        temperature: of MD and model, and whether it is `gated`.
        engine: what ran the dynamics.
        stopped: why no dynamics were run; empty if they were.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    significance: float = 0.01
    proteins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    controls: Mapping[str, Any] = field(default_factory=dict)
    temperature: Mapping[str, Any] | None = None
    engine: str = GATE_ENGINE
    stopped: str = ""

    @classmethod
    def of(
        cls, metrics: Mapping[str, Any], required: Sequence[str], optional: Sequence[str], significance: float
    ) -> "Case":
        """Return the case of the contents of `metrics.json`; a name that is given twice counts once."""
        return cls(
            tuple(dict.fromkeys(required)),
            tuple(dict.fromkeys(optional)),
            significance,
            proteins=metrics.get("proteins") or {},
            controls=metrics.get("controls") or {},
            temperature=metrics.get("temperature"),
            engine=metrics.get("engine") or GATE_ENGINE,
            stopped=metrics.get("stopped") or "",
        )

    @cached_property
    def gated(self) -> list[str]:
        """Names of the gated proteins."""
        return [name for name, protein in sorted(self.proteins.items()) if protein.get("gated")]

    @cached_property
    def wanted(self) -> list[Key]:
        """Everything that has to pass. Without a protein the checks of proteins are missing, not absent."""
        subjects = self.gated or ["any protein"]
        return [
            (name, subject) for name in self.required for subject in ([SUBJECT] if name in OF_THE_MODEL else subjects)
        ]

    @property
    def ungated(self) -> bool:
        """Whether the dynamics ran at another temperature than the model's, so that nothing is gated."""
        return not (self.temperature or {}).get("gated", True)

    def replicas(self, check: JudgedCheck) -> int | None:
        """Return the number of the model's replicas of the check's protein; None if that is not known."""
        count = self.proteins.get(check.subject, {}).get("replicas")
        return int(count) if count else None

    def control(self, check: JudgedCheck) -> Mapping[str, Any] | None:
        """Return the outcome of the check with the reference in the model's place, if it was run."""
        return (self.controls.get("reference") or {}).get(check.subject, {}).get(check.name)

    def power(self, check: JudgedCheck) -> Mapping[str, Any] | None:
        """Return whether the check distinguishes the reference at another temperature, if that was tried."""
        return (self.controls.get("power") or {}).get(check.subject, {}).get(check.name)

    def known_bad(self, check: JudgedCheck) -> list[Mapping[str, Any]]:
        """Return the known-bad trajectories of the check's protein that are meant for the check."""
        cases = (self.controls.get("known_bad") or {}).get(check.subject) or {}
        return [entry for entry in cases.values() if entry["check"] == check.name]


@dataclass(frozen=True)
class Judged:
    """All checks after the rules, grouped by what they mean for the verdict."""

    checks: Checks
    case: Case

    @cached_property
    def asked(self) -> list[JudgedCheck]:
        """The required results, in the order of `gate.required`."""
        return [self.checks[index] for index in asked(self.checks, self.case)]

    @cached_property
    def deciding(self) -> list[JudgedCheck]:
        return [check for check in self.asked if check.set_aside is None]

    @cached_property
    def aside(self) -> list[JudgedCheck]:
        """Required checks that can decide nothing about their protein."""
        return [check for check in self.asked if check.set_aside is not None]

    @cached_property
    def missing(self) -> list[Key]:
        """Required checks without a result."""
        found = {check.key for check in self.checks}
        return [key for key in self.case.wanted if key not in found]

    @cached_property
    def failed(self) -> list[JudgedCheck]:
        return [check for check in self.deciding if check.verdict == "fail"]

    @cached_property
    def open(self) -> list[JudgedCheck]:
        """Deciding checks that neither fail nor pass; one that is only reported has decided nothing."""
        return [check for check in self.deciding if check.verdict != "fail" and not check.passed]

    @cached_property
    def optional_fails(self) -> list[JudgedCheck]:
        return [check for check in self.checks if check.optional and check.verdict == "fail"]


def asked(checks: Checks, case: Case) -> list[int]:
    """Return the indices of the required results, in the order of `gate.required`."""
    place = {check.key: index for index, check in enumerate(checks)}
    return [place[key] for key in case.wanted if key in place]
