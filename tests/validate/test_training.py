"""Convergence of synthetic histories, of each of which it is known what a reader of the curve would say."""

import numpy as np
import pytest

from cgloop.validate.training import converged_check, mean_of_three
from tests.validate.rows import not_decided_by_their_number

EPOCHS = np.arange(1, 101)
NOISE = 0.05 * np.random.default_rng(0).normal(size=(2, 100))


def history(train, validation, best_epoch=None, **more):
    epochs = list(range(1, len(train) + 1))
    if best_epoch is None:
        best_epoch = int(np.argmin(validation)) + 1
    return {
        "columns": {"epoch": epochs, "train_loss": list(train), "validation_loss": list(validation)},
        "best_epoch": best_epoch, "initial_validation_loss": 300.0, **more,
    }  # fmt: skip


def overfitted(slope=0.15):
    """The validation loss is lowest at epoch 9 and rises slowly and steadily from there: by 0.2 % in a fifth."""
    return np.where(EPOCHS < 9, 80 + 3.0 * (9 - EPOCHS), 80 + slope * 0.06 * (EPOCHS - 9)) + 0.2 * NOISE[1]


def test_losses_that_level_off_pass(settings):
    level = converged_check(history(80 + 10 * np.exp(-EPOCHS / 8) + NOISE[0], 82 + NOISE[1]), settings)
    assert level.verdict == "pass"
    assert level.detail["gap"] > 0.02


def test_loss_that_still_falls_fails_by_what_it_falls_by(settings):
    falling = converged_check(history(80 - 0.2 * EPOCHS + NOISE[0], 82 - 0.2 * EPOCHS + NOISE[1]), settings)
    assert falling.verdict == "fail"
    assert falling.value == pytest.approx(0.2 * 19 / (82 - 0.2 * 90.5), abs=0.001)
    assert falling.value == falling.detail["fall"]
    assert falling.quantity == "fall at the end"
    assert "falls by" in falling.reason


def test_loss_that_falls_slowly_passes(settings):
    """0.8 % over the last fifth: a training loss that falls faster is no fault of the parameters that are kept."""
    slow = converged_check(history(80 - 0.3 * EPOCHS + NOISE[0], 82 - 0.032 * EPOCHS + 0.2 * NOISE[1]), settings)
    assert slow.verdict == "pass"
    assert 0.006 < slow.detail["fall"] < 0.01


def test_a_fall_within_its_error_decides_nothing(settings):
    """5 % over the last fifth with an error of 10 %: the row shows the kept epoch, which passes."""
    rough = 60.0 - 0.15 * EPOCHS + 4.0 * np.where(EPOCHS % 2, 1, -1) * (EPOCHS > 80)
    found = converged_check(history(rough, rough, best_epoch=100), settings)
    assert found.detail["lowest_in_last_part"]
    assert 0.01 < found.detail["fall"] < found.detail["fall_error"]
    assert (found.verdict, found.quantity) == ("pass", "kept epoch above the lowest")
    assert not_decided_by_their_number([found.to_json()]) == []


def test_overfitted_run_passes_if_the_minimum_was_kept_and_says_so(settings):
    validation = overfitted(2.0)
    assert abs(validation[-1] / validation[-20] - 1) > 0.01, "by its last fifth alone it would fail"
    kept = converged_check(history(80 - 0.3 * EPOCHS, validation), settings)
    assert kept.verdict == "pass"
    assert abs(kept.detail["lowest_epoch"] - 9) <= 1
    assert kept.detail["rise"] == pytest.approx(0.12 * 91 / 80, rel=0.1)
    assert "rises by" in kept.reason


@pytest.mark.parametrize("slope", [0.5, 2.0])
def test_overfitted_run_fails_if_its_last_epoch_was_kept(settings, slope):
    """Rising by 0.7 % in the last fifth, it passed when only that was looked at."""
    last = converged_check(history(80 - 0.01 * EPOCHS, overfitted(slope), best_epoch=100), settings)
    assert last.verdict == "fail"
    assert last.value == last.detail["excess"] == pytest.approx(slope * 0.06 * 91 / 80, rel=0.1)


def test_a_single_low_epoch_is_no_minimum(settings):
    """Parameters that were kept for one lucky validation are not those of the minimum."""
    lucky = 100 * np.ones(100) - 0.1 * np.minimum(EPOCHS, 60)
    lucky[9] = 90.0
    found = converged_check(history(lucky, lucky, best_epoch=10), settings)
    assert found.verdict == "fail"
    assert found.detail["lowest_epoch"] > 50


def test_noise_of_a_level_loss_does_not_fail_whichever_epoch_was_kept(settings):
    rng = np.random.default_rng(4)
    for _ in range(20):
        validation = 80 + 0.2 * rng.normal(size=100)
        assert converged_check(history(validation, validation), settings).verdict == "pass"


def test_start_may_be_the_minimum(settings):
    rising = 80 + 0.02 * EPOCHS
    found = converged_check(history(rising, rising, best_epoch=0, initial_validation_loss=79.9), settings)
    assert (found.verdict, found.detail["lowest_epoch"]) == ("pass", 0)


def test_what_cannot_be_told_is_no_pass(settings):
    assert converged_check({}, settings).verdict == "inconclusive"
    assert converged_check(history([1.0] * 3, [1.0] * 3), settings).verdict == "inconclusive"
    assert converged_check(history([1.0] * 19 + [np.nan], [1.0] * 20), settings).verdict == "fail"
    assert converged_check(history([1.0] * 20, [1.0] * 20, best_epoch=33), settings).verdict == "fail"


def test_mean_of_three():
    assert mean_of_three(np.array([1.0, 4.0, 7.0, 1.0])).tolist() == [2.5, 4.0, 4.0, 4.0]
    assert mean_of_three(np.array([2.0])).tolist() == [2.0]
