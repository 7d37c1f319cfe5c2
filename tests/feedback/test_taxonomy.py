"""Every limit has a class, every class a meaning."""

import pytest

from cgloop.feedback.taxonomy import BY_LIMIT, MEANING, CrashClass, Evidence, classify, limit_name, meaning


def test_every_class_means_something():
    assert set(MEANING) == set(CrashClass)


@pytest.mark.parametrize(("limit", "kind"), BY_LIMIT.items())
def test_a_limit_alone_has_its_class(limit, kind):
    assert classify(Evidence(limit, "nvt")) == kind


@pytest.mark.parametrize("name", ["non-finite", "Non finite", "non_finite"])
def test_spellings(name):
    assert limit_name(name) == "non_finite"


def test_monitors_and_taxonomy_know_the_same_limits():
    monitors = pytest.importorskip("cgloop.md.monitors")
    assert {limit_name(name) for name in monitors.LIMIT_NAMES} <= set(BY_LIMIT)


def test_a_jump_of_the_energy():
    """By itself it speaks of the energy; behind a burst of the force stands what the force did."""
    calm = Evidence("energy_jump", "nvt", dominant_term="ml")
    assert classify(calm) == CrashClass.ENERGY_DRIFT
    assert "in one step" in meaning(CrashClass.ENERGY_DRIFT, calm)
    burst = {
        term: classify(Evidence("energy_jump", "nve", dominant_term=term, force_growth=8.0)) for term in ("ml", "bond")
    }
    assert burst == {"ml": CrashClass.FORCE_EXPLOSION, "bond": CrashClass.BROKEN_BOND}
