"""The power study of evident failure: a right model is not failed, and a hopeless one is, by few lineages."""

import pytest

from benchmarks.evident_power import FAR, LIMIT, PROCESSES, judged


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSES)
def test_right_models_do_not_fail_and_hopeless_ones_do(name):
    process = PROCESSES[name]
    verdict, evident, _ = judged(process, 4, 0, 0.0)
    assert verdict != "fail"
    assert evident == 0
    hopeless, evident, _ = judged(process, 4, 0, -FAR * LIMIT - process.step)
    assert hopeless == "fail"
    assert evident > 0
