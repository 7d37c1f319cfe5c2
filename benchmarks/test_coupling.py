"""The loop of LAMMPS and model beside the bare model, kept as measurements; `python -m benchmarks.md` has all sizes.

Over ranks it is measured by `cgloop bench scaling --what md`: replicas are spread over processes.
"""

import pytest

from benchmarks.md import measure
from cgloop.bench.older import md_measurements


@pytest.mark.sized(
    ("n_beads", "n_replicas"),
    small=[(10, 1), (10, 10), (50, 1)],
    full=[(10, 1), (10, 10), (10, 100), (50, 1), (50, 10), (200, 1), (200, 10)],
)
def test_coupling(benchmark, keep, size, n_beads, n_replicas):
    seconds, repeats = (0.5, 3) if size == "small" else (1.0, 5)
    row = benchmark.pedantic(measure, args=(n_beads, n_replicas, seconds, repeats, False), rounds=1)
    for one in md_measurements([row]):
        keep(one.name.removeprefix("md/"), one.unit, one.values, facts=one.facts, **one.settings)
    keep("one replica", "ns/day", [row["ns_per_day_per_replica"]], "higher", beads=n_beads, replicas=n_replicas)
