"""The loop of LAMMPS and model beside the bare model; `python -m benchmarks.md` has all sizes, and jax-md."""

import pytest

from benchmarks.conftest import ROWS
from benchmarks.md import Loop, line, make_world, measure


@pytest.mark.parametrize(("n_beads", "n_replicas"), [(10, 1), (10, 10), (50, 10)])
def test_loop(benchmark, n_beads, n_replicas):
    if benchmark.enabled:
        row = measure(n_beads, n_replicas, with_jax_md=False)
        benchmark.extra_info.update(row)
        ROWS.append("LAMMPS loop, " + line(row))
    with Loop(make_world(n_beads, n_replicas)) as loop:
        benchmark(loop.steps, 20)
