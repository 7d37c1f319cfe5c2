"""Which rates a compiled program reaches, beside those of the machine (Williams, Waterman & Patterson 2009)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cgloop.bench.flops import product_flops
from cgloop.bench.record import Measurement, Setting
from cgloop.bench.roofline_facts import ROOFLINE
from cgloop.bench.timing import COPY_BYTES, MATMUL_FLOPS, copy, in_turns, matmul


@dataclass(frozen=True)
class Kernel:
    """A compiled program without loops, and a call of it.

    Attributes:
        name: of the program.
        settings: its sizes.
        compiled: with `cost_analysis` and `as_text`.
        call: runs it.
    """

    name: str
    settings: dict[str, Setting]
    compiled: Any
    call: Callable[[], Any]


def measure(kernel: Kernel, seconds: float = 4.0) -> Measurement:
    """Times in turns with a matrix product and a copy, beside the arithmetic and the traffic that XLA counts.

    XLA counts the operands and results of every operation as traffic, whether they come from memory or from a cache:
    a program whose arrays stay in the caches may be above the rate of a copy.
    """
    times = in_turns({"kernel": kernel.call, "matmul": matmul(), "copy": copy()}, seconds=seconds)
    shortest = {name: min(values) for name, values in times.items()}
    cost = kernel.compiled.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost
    flops, traffic = float(cost.get("flops", 0.0)), float(cost.get("bytes accessed", 0.0))
    matmul_rate, copy_rate = MATMUL_FLOPS / shortest["matmul"], 2 * COPY_BYTES / shortest["copy"]
    took = shortest["kernel"]
    facts: dict[str, Setting] = {
        "FLOPs": flops,
        "bytes": traffic,
        "FLOP/s": flops / took,
        "byte/s": traffic / took,
        "matmul FLOP/s": matmul_rate,
        "copy byte/s": copy_rate,
        "fraction of matmul rate": flops / took / matmul_rate,
        "fraction of copy rate": traffic / took / copy_rate,
        "temporary_MB": kernel.compiled.memory_analysis().temp_size_in_bytes / 1e6,
    }
    try:
        products = product_flops(kernel.compiled.as_text())
        facts["share of FLOPs in matrix products"] = products / flops if flops else 0.0
    except ValueError:
        pass  # In a library call: not told.
    return Measurement(
        name=ROOFLINE + kernel.name, settings=kernel.settings, unit="ms",
        values=tuple(1e3 * one for one in times["kernel"]), facts=facts,
    )  # fmt: skip
