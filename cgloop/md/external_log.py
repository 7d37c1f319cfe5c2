"""LAMMPS's log: the thermo table, and what went wrong."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REASONS = (
    (re.compile(r"Lost atoms"), "lost_atoms"),
    (re.compile(r"(Bond|Angle|Dihedral|Improper)s? atoms? .*missing"), "lost_atoms"),
    (re.compile(r"Bond length > table outer cutoff"), "bond"),
    (re.compile(r"(Pair distance|Bond length) < table inner cutoff"), "min_distance"),
    (re.compile(r"[Nn]on-numeric|Illegal bond in bond style table|nan", re.IGNORECASE), "non-finite"),
    (re.compile(r"[Cc]annot allocate|out of memory|RESOURCE_EXHAUSTED", re.IGNORECASE), "out_of_memory"),
    (re.compile(r"Unrecognized pair style|Unknown pair style"), "missing_plugin"),
)
"""What lines of errors mean; the first that fits."""


@dataclass(frozen=True, eq=False)
class Log:
    """Attributes:
    thermo: columns [T] under LAMMPS's names (`Step`, `Temp`, …); all runs of the log one after the other, a step that
        ends one and begins the next only once.
    errors: lines that begin with ERROR.
    """

    thermo: dict[str, np.ndarray]
    errors: list[str]


def read_log(path: Path) -> Log:
    """Read a log, also one that breaks off. A file that is not there has no rows."""
    columns: list[str] = []
    rows: dict[int, list[float]] = {}
    errors: list[str] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["Step"]:
            columns = words
        elif line.startswith("ERROR"):
            errors.append(line.strip())
        elif columns and len(words) == len(columns):
            numbers = _numbers(words)
            if numbers is not None and np.isfinite(numbers[0]):
                rows[int(numbers[0])] = numbers
        elif line.startswith("Loop time"):
            last, columns = columns, []
            names = last
    if columns:
        names = columns
    if not rows:
        return Log({}, errors)
    table = np.array(list(rows.values()))
    return Log({name: table[:, column] for column, name in enumerate(names)}, errors)


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def reason_of(errors: list[str]) -> str | None:
    """What the first error of a log means, as a short name; None if there is none."""
    if not errors:
        return None
    return next((name for pattern, name in REASONS if pattern.search(errors[0])), "engine_error")
