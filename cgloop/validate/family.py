"""All structural checks of a protein, and their controls, in one place: for runs of ours and for anybody's."""

from cgloop.checks import Check
from cgloop.validate import handedness, landscape, local, pairs, structure
from cgloop.validate.structure import StructuralCheck

COMPARISONS: tuple[StructuralCheck, ...] = (
    *structure.COMPARISONS,
    *handedness.COMPARISONS,
    *local.COMPARISONS,
    *pairs.COMPARISONS,
    *landscape.COMPARISONS,
)
"""All checks that compare distributions with the reference's."""

BY_NAME = {spec.check.name: spec for spec in COMPARISONS}

DECLARED: tuple[Check, ...] = (*(spec.check for spec in COMPARISONS), handedness.MIRROR)
"""These and the mirror check."""

FAMILIES = frozenset(check.family for check in DECLARED)
