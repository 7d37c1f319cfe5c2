"""The known-bad kernel of every gate: both checks that are meant for it fail it, and pass the sound one."""

import pytest

from cgloop.config import Config
from cgloop.validate.wrong_kernel import FORCE_ERROR, gradient_result, order_result

SPLIT = {"by": "replica", "train": [0], "validation": [1], "test": [2]}


def configure(**sections):
    data = {"sources": [{"path": "x.h5"}], "temperature_K": 320.0, "split": SPLIT}
    return Config.model_validate({"run": {"name": "test"}, "data": data, **sections})


@pytest.mark.parametrize("order_ps", [0.1, 2.0])
@pytest.mark.parametrize("n_beads", [10, 100])
def test_it_is_failed_and_the_sound_one_passes(n_beads, order_ps):
    config = configure(control={"order_ps": order_ps})
    for error, verdict in ((0.0, "pass"), (FORCE_ERROR, "fail"), (4 * FORCE_ERROR, "fail")):
        order = order_result(error, n_beads, 3, config)
        assert (gradient_result(error, config).verdict, order.verdict) == (verdict, verdict), order.reason


def test_limits_that_are_too_wide_let_it_pass():
    """Then the gate refuses to judge."""
    wide = configure(validate={"static_gradient_relative": 0.01, "nve_order_deviation": 3.0})
    assert gradient_result(FORCE_ERROR, wide).verdict == "pass"
    assert order_result(FORCE_ERROR, 10, 3, wide).verdict == "pass"
