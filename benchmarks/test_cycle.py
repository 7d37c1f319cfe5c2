"""A whole cycle of the example: share of each stage, and time in which neither training nor MD ran."""

from benchmarks.conftest import KEPT, RUN_LOAD
from cgloop.bench.cycle_shares import read_shares


def test_shares_of_a_cycle(benchmark, keep, finished_run):
    shares = benchmark.pedantic(read_shares, args=(finished_run,), rounds=1)
    if benchmark.enabled:
        found = [one.model_copy(update={"load": tuple(RUN_LOAD)}) for one in shares.measurements()]
        KEPT.setdefault("cycle", []).extend(found)
