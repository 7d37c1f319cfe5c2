"""How much longer dynamics go on that were too short to decide."""

import math

import pytest

from cgloop.config.md import MDConfig
from cgloop.extension import Lengths, longer

MD = MDConfig.model_validate(
    {"extend": True, "max_extensions": 2, "max_length_factor": 5, "nvt": {"length_ps": 100}, "nve": {"length_ps": 20}}
)
ASKED = Lengths(100.0, 20.0)


def verdict(*checks, verdict="inconclusive", **more):
    rows = [
        {"check": name, "required": True, "verdict": state, "detail": {"needs": needs}} for name, state, needs in checks
    ]
    return {"verdict": verdict, "checks": rows, **more}


def open_check(name="nvt.temperature", **needs):
    return name, "inconclusive", needs


def test_goes_on_for_as_long_as_would_decide_with_a_margin():
    assert longer(MD, ASKED, 0, verdict(open_check(run_factor=2.0))) == (240, 20)
    assert longer(MD, ASKED, 0, verdict(open_check("nve.drift", run_factor=1.5))) == (100, 36)
    both = verdict(open_check("structure.q", run_factor=1.01), open_check("nve.drift", run_factor=3.0))
    assert longer(MD, ASKED, 0, both) == (125, 72)


def test_stays_within_its_limits():
    far = verdict(open_check(run_factor=80.0))
    assert longer(MD, ASKED, 0, far) == (500, 20)
    assert longer(MD, Lengths(500, 20), 1, far) is None
    assert longer(MD, Lengths(200, 20), 2, far) is None


@pytest.mark.parametrize(
    "judged",
    [
        verdict(open_check(run_factor=2.0), verdict="fail"),
        verdict(verdict="pass"),
        verdict(open_check(run_factor=2.0), refused=True),
        verdict(open_check(run_factor=2.0), open_check("structure.rmsd", longer_reference=True)),
        verdict(open_check(run_factor=2.0, replicas=3)),
        verdict(open_check(run_factor=None)),
        verdict(open_check(run_factor=math.inf)),
        verdict(open_check()),
        verdict(("nvt.temperature", "reported", {"run_factor": 2.0}), open_check()),
        verdict(),
    ],
)
def test_does_not_go_on_where_that_would_not_decide(judged):
    assert longer(MD, ASKED, 0, judged) is None


def test_does_not_go_on_unasked():
    off = MD.model_copy(update={"extend": False})
    assert longer(off, ASKED, 0, verdict(open_check(run_factor=2.0))) is None
