"""What one distance between a model and the reference is called, in which unit, and how far it may go."""

import math
from dataclasses import dataclass

from cgloop.checks import Direction


@dataclass(frozen=True)
class Measure:
    """One of a metric's K distances.

    Attributes:
        name: in words.
        unit: "" if dimensionless.
        floor: limit where the reference's noise is smaller; infinite for a distance that is shown and not judged.
        similarity: the distance is 1 − this quantity, which is what is shown and what words speak of.
        squared: the distance is the square of a metric, as a divergence and 1 − r are.
        undefined: what it means that a distance, its error or its noise is NaN, if that says nothing against a model:
            it is then undecided, and the others may still fail.
    """

    name: str
    unit: str
    floor: float
    similarity: bool = False
    squared: bool = False
    undefined: str = ""

    @property
    def judged(self) -> bool:
        return math.isfinite(self.floor)

    @property
    def direction(self) -> Direction:
        """Which values of what is shown are good."""
        return "at least" if self.similarity else "at most"

    def shown(self, distance: float) -> float:
        """A distance, or a limit of one, as it is shown."""
        return 1.0 - float(distance) if self.similarity else float(distance)

    def is_open(self, *numbers: float) -> bool:
        """Whether the distance cannot be judged for the reason `undefined`, by its value, error and noise."""
        return bool(self.undefined) and any(map(math.isnan, numbers))

    def in_words(self, value: float, error: float, limit: float | None = None) -> str:
        """As `distance 0.31 ± 0.05 Å (at most 1)`."""
        unit = f" {self.unit}" if self.unit else ""
        end = "" if limit is None else f" ({self.direction} {self.shown(limit):.3g})"
        return f"{self.name} {self.shown(value):.3g} ± {error:.2g}{unit}{end}"
