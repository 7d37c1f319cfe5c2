"""What is noise is not called a change, what is a change is, and different machines are not compared."""

import math

import numpy as np
import pytest

from cgloop.bench.compare import compare, holm, welch
from cgloop.bench.record import Load, Machine, Measurement, Record
from cgloop.errors import UserError

HERE = Machine(processor="AMD EPYC (family 25, model 17)", cores=2, memory_GB=25)
OTHER = Machine(processor="AMD EPYC (family 26, model 2)", cores=2, memory_GB=25)


def record(times, machine=HERE, others_cores=0.0, **more):
    measurements = [Measurement(name=f"m{i}", unit="ms", values=tuple(row), **more) for i, row in enumerate(times)]
    load = Load(average=(0, 0), others_cores=others_cores, seconds=1)
    return Record(suite="s", date="2026-11-26", made_by="t", machine=machine, load=load, measurements=measurements)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_false_positives_on_equal_distributions(n):
    random, trials = np.random.default_rng(n), 2000
    p = [welch(*np.exp(random.normal(0, 0.05, (2, n))))[3] for _ in range(trials)]
    rate = np.mean(np.array(p) < 0.05)
    # Welch's test is conservative with few repeats; never above its level by more than chance.
    assert 0.02 < rate < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_a_whole_file_without_changes_is_called_changed_in_5_percent_at_most():
    random, trials, called = np.random.default_rng(0), 300, 0
    for _ in range(trials):
        before, after = (record(np.exp(random.normal(0, 0.05, (12, 5)))) for _ in range(2))
        found = compare(before, after, threshold=0.0)
        called += any(one.verdict in ("worse", "better") for one in found.changes)
    assert called / trials < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_regressions_are_found_and_their_direction_is():
    random = np.random.default_rng(1)
    noise = np.exp(random.normal(0, 0.01, (2, 3, 5)))
    before, after = record(noise[0], independent=True), record(noise[1] * [[1.3], [0.7], [1.0]], independent=True)
    found = compare(before, after)
    assert [one.verdict for one in found.changes] == ["worse", "better", "no difference shown"]
    assert [one.before.name for one in found.regressions] == ["m0"]
    assert found.changes[0].low < 1.3 < found.changes[0].high
    assert found.caveats == ()
    rates = [record(noise[i] * [[1.3 - 0.6 * i]] * 3, better="higher") for i in range(2)]
    assert {one.verdict for one in compare(*rates).changes} == {"worse"}


def test_significant_but_small_and_single_values_are_no_regressions():
    exact = np.ones((1, 4)) * [[1.0, 1.001, 0.999, 1.0]]
    assert compare(record(exact), record(1.02 * exact)).changes[0].verdict == "small"
    assert compare(record([[1.0]]), record([[9.0]])).changes[0].verdict == "too few repeats"


def test_different_hardware_is_refused_unless_forced():
    times = np.ones((1, 2))
    with pytest.raises(UserError, match="different hardware"):
        compare(record(times), record(times, machine=OTHER))
    forced = compare(record(times), record(times, machine=OTHER), force=True)
    assert "not the same" in forced.caveats[0]
    unknown = Machine(processor="not recorded", cores=0, memory_GB=0)
    with pytest.raises(UserError, match="not recorded"):
        compare(record(times, machine=unknown), record(times, machine=unknown))
    with pytest.raises(UserError, match="in common"):
        compare(record(times), record(np.ones((0, 2))))
    busy = compare(record(times), record(times, others_cores=1.5))
    assert any("cores more busy" in one for one in busy.caveats)


def test_holm():
    # Holm 1979: the smallest times 3, the next times 2, the largest times 1; never falling.
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
