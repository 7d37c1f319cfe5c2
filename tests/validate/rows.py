"""Whether the number of a result is the one that decided its verdict."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cgloop.checks import decide
from cgloop.validate.registry import CHECKS


def not_decided_by_their_number(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the results whose verdict does not follow from value, error, threshold and direction.

    A pass or a fail is what `decide` makes of the four; of a value that was not measured it is a fail. Other verdicts
    have a reason of their own, as too few samples.

    Args:
        results: as `CheckResult.to_json` writes them.
    """
    return [
        f"{one['check']} of {one['subject']}: {one['verdict']}, with {one['value']} ± {one['error']} "
        f"{direction_of(one)} {one['threshold']} {one['quantity']}: {one['reason']}"
        for one in results
        if one["verdict"] in ("pass", "fail") and verdict_of_number(one) != one["verdict"]
    ]


def direction_of(result: Mapping[str, Any]) -> Any:
    return result.get("direction") or CHECKS[result["check"]].direction


def verdict_of_number(result: Mapping[str, Any]) -> str:
    value, error, threshold = result["value"], result["error"], result["threshold"]
    if value is None:
        return "fail"
    return decide(value, math.inf if error is None else error, threshold, direction_of(result))
