"""What the facts beside a measurement of the roofline amount to. The standard library alone."""

from cgloop.bench.record import Setting

ROOFLINE = "roofline/"
"""What names of such measurements begin with."""


def bound(facts: dict[str, Setting]) -> str:
    """What limits such a program on this machine: `arithmetic` or `memory`, by where it meets the roof."""
    intensity = float(facts["FLOPs"]) / max(float(facts["bytes"]), 1.0)
    return "arithmetic" if intensity * float(facts["copy byte/s"]) > float(facts["matmul FLOP/s"]) else "memory"


def share_of_roof(facts: dict[str, Setting]) -> float:
    """Rate of arithmetic over the most that the roof allows at this intensity."""
    intensity = float(facts["FLOPs"]) / max(float(facts["bytes"]), 1.0)
    return float(facts["FLOP/s"]) / min(float(facts["matmul FLOP/s"]), intensity * float(facts["copy byte/s"]))
