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


LIMITING = 0.5
"""Share of the roof below which it is not the roof that limits."""


def limited_by(facts: dict[str, Setting]) -> str:
    """In words. A program far below the roof is limited by what every operation costs, however little it computes."""
    share = share_of_roof(facts)
    if share < LIMITING:
        return f"many short operations, at {share:.0%} of what {bound(facts)} would allow"
    return f"{bound(facts)}, at {share:.0%} of the roof"
