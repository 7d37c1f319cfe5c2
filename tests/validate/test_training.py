"""Convergence of losses that are known to have come to rest, or not."""

import numpy as np

from cgloop.validate.training import converged_check


def history(train, validation):
    epochs = list(range(1, len(train) + 1))
    return {"columns": {"epoch": epochs, "train_loss": list(train), "validation_loss": list(validation)}}


def test_losses_that_level_off_pass_and_others_do_not(settings):
    epochs = np.arange(1, 101)
    noise = 0.05 * np.random.default_rng(0).normal(size=(2, 100))
    level = converged_check(history(80 + 10 * np.exp(-epochs / 8) + noise[0], 82 + noise[1]), settings)
    assert level.verdict == "pass"
    assert level.detail["gap"] > 0.02
    falling = converged_check(history(80 - 0.2 * epochs + noise[0], 82 + noise[1]), settings)
    assert falling.verdict == "fail"
    assert abs(falling.detail["changes"]["train"] + 0.2 * 19 / 61.9) < 0.005
    forgetting = converged_check(history(80 + noise[0], 60 + 0.2 * epochs + noise[1]), settings)
    assert forgetting.verdict == "fail", "a validation loss that rises is not level either"


def test_what_cannot_be_told_is_no_pass(settings):
    assert converged_check({}, settings).verdict == "inconclusive"
    assert converged_check(history([1.0] * 3, [1.0] * 3), settings).verdict == "inconclusive"
    broken = converged_check(history([1.0] * 19 + [np.nan], [1.0] * 20), settings)
    assert broken.verdict == "fail"
