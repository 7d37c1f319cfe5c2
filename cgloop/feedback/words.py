"""Numbers and names as they are written in sentences."""

import math
from collections.abc import Mapping

from cgloop.feedback.evidence import Development
from cgloop.units import FS_PER_PS

TERM_WORDS = {
    "bond": "the bond term",
    "angle": "the angle term",
    "dihedral": "the dihedral term",
    "repulsion": "the repulsion",
    "electrostatics": "the electrostatics",
    "contact": "the contact term",
    "ml": "the ML term",
}
FORCE_UNIT = "kcal/mol/Å"


def number(value: float, digits: int = 3) -> str:
    """`value` with so many significant digits and no exponent while it is readable without."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
    return f"{value:,.{decimals}f}"


def length(value_A: float) -> str:
    """Å with two decimals, as distances between beads are told."""
    return f"{value_A:.2f} Å" if math.isfinite(value_A) else number(value_A)


def duration(time_fs: float) -> str:
    return f"{time_fs:.0f} fs" if time_fs < FS_PER_PS else f"{number(time_fs / FS_PER_PS)} ps"


def came_about(subject: str, change: Development, show: str, unit: str = "") -> str:
    """`The distance fell from 5.20 to 1.93 Å in 34 fs.` with values formatted by `show`, as `.2f`."""
    verb = "fell" if change.last < change.first else "rose"
    first, last = (number(v) if show == "number" else format(v, show) for v in (change.first, change.last))
    when = f"over all {duration(change.duration_fs)} recorded" if change.whole else f"in {duration(change.duration_fs)}"
    return f"{subject} {verb} from {first} to {last}{' ' if unit else ''}{unit} {when}."


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def largest(parts: Mapping[str, float]) -> tuple[str, float]:
    """The entry with the largest value; NaN counts as smallest."""
    name = max(parts, key=lambda key: parts[key] if math.isfinite(parts[key]) else -math.inf)
    return name, parts[name]
