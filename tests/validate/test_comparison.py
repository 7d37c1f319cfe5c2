"""Comparison with a reference: three verdicts, and why."""

import numpy as np
import pytest

from cgloop.validate.comparison import compare, leave_one_out, reference_noise, worst
from cgloop.validate.distances import Wasserstein
from cgloop.validate.measure import Measure
from cgloop.validate.sample import equilibrated, together
from tests.validate.builders import ou_process

LENGTH = (Measure("distance", "Å", 0.5),)
wasserstein = Wasserstein(-60.0, 60.0)


def sample(shift=0.0, replicas=8, frames=300, seed=0, correlation=2.0, spread=0.0):
    """Gaussian ensemble of unit variance about `shift`; replicas differ by `spread` in their means."""
    rng = np.random.default_rng(seed)
    series = [shift + spread * rng.normal() + ou_process(rng, frames, (), correlation) for _ in range(replicas)]
    return equilibrated(series, series, 0.25)


def test_same_distribution_passes(settings):
    result = compare(sample(seed=1), sample(seed=2), wasserstein, LENGTH, settings)
    assert result.verdict == "pass"
    assert result.limits[0] == 0.5
    assert result.needs == {}


def test_shift_is_measured_and_fails(settings):
    result = compare(sample(shift=2.0, seed=1), sample(seed=2), wasserstein, LENGTH, settings)
    assert result.values[0] == pytest.approx(2.0, abs=0.1)
    assert result.verdict == "fail"


def test_value_on_the_limit_is_inconclusive_and_says_how_long(settings):
    result = compare(sample(shift=0.5, seed=1, spread=0.1), sample(seed=2), wasserstein, LENGTH, settings)
    assert result.verdict == "inconclusive"
    assert "across the limit" in result.reason
    assert result.needs["run_factor"] > 1


@pytest.mark.parametrize(
    ("model", "reference", "words", "needs"),
    [
        (dict(replicas=2, shift=3), {}, "2 replicas, 3 are needed", {"replicas": 3}),
        (dict(frames=40, correlation=30, replicas=3), {}, "the model has", {"run_factor"}),
        ({}, dict(frames=60, correlation=40, replicas=3), "the reference has", {"longer_reference"}),
    ],
)
def test_what_cannot_be_told_is_inconclusive(settings, model, reference, words, needs):
    result = compare(sample(seed=3, **model), sample(seed=4, **reference), wasserstein, LENGTH, settings)
    assert result.verdict == "inconclusive"
    assert words in result.reason
    assert set(needs) <= set(result.needs)


def test_series_that_moves_is_inconclusive_even_if_its_mean_is_right(settings):
    rng = np.random.default_rng(5)
    moving = [np.linspace(-2, 2, 300) + 0.1 * rng.normal(size=300) for _ in range(8)]
    result = compare(equilibrated(moving, moving, 0.25), sample(), wasserstein, (Measure("d", "", 50.0),), settings)
    assert result.verdict == "inconclusive"
    assert "drift together by" in result.reason


def test_stationary_replicas_rarely_seem_to_move_together():
    flagged = [sample(seed=seed, frames=200, correlation=10).drift != 0 for seed in range(60)]
    assert sum(flagged) <= 2


def test_noisy_reference_cannot_decide(settings):
    measure = (Measure("distance", "Å", 0.01),)
    result = compare(sample(seed=1, frames=60), sample(seed=2), wasserstein, measure, settings)
    assert result.verdict == "inconclusive"
    assert "more than twice the limit" in result.reason
    assert result.needs["longer_reference"]


def test_limit_follows_noise_between_floor_and_twice_the_floor(settings):
    reference, model = sample(seed=2, frames=600), sample(seed=1, frames=20)
    noise, _ = reference_noise(reference, model.n_effective, wasserstein, settings.noise_blocks)
    measure = (Measure("distance", "Å", float(noise[0]) / 1.5),)
    result = compare(model, reference, wasserstein, measure, settings)
    assert result.limits[0] == pytest.approx(noise[0])


def test_noise_falls_with_the_size_of_the_model(settings):
    reference = sample(replicas=4, frames=2000)
    small, few = reference_noise(reference, 20, wasserstein, 60)
    large, many = reference_noise(reference, 200, wasserstein, 60)
    frames_per_sample = reference.n_frames / reference.n_effective
    assert few == pytest.approx(20 * frames_per_sample, abs=1)
    assert many == pytest.approx(200 * frames_per_sample, abs=1)
    # Wasserstein distances of equal distributions fall as 1/√n.
    assert small[0] / large[0] == pytest.approx(np.sqrt(10), rel=0.5)


def test_noise_block_is_at_most_half_of_the_reference():
    reference = sample(replicas=4, frames=100)
    assert reference_noise(reference, 1e9, wasserstein, 20)[1] == reference.n_frames // 2


def test_states_that_lineages_rarely_leave_are_no_fault_of_a_model_that_has_not_seen_them(settings):
    """Five of 13 lineages spend half their time in a second state, which no replica of the model has reached."""
    rng = np.random.default_rng(5)
    model = [ou_process(rng, 1000, (), 5.0) for _ in range(8)]
    reference = [ou_process(rng, 1000, (), 5.0) for _ in range(13)]
    for lineage in (0, 3, 5, 8, 11):
        first = 500 * (lineage % 2)
        reference[lineage][first : first + 500] += 3.0
    mine, theirs = (equilibrated(series, series, settings.max_trim) for series in (model, reference))
    metric = Wasserstein.of(*mine.replicas, *theirs.replicas)
    outcome = compare(mine, theirs, metric, (Measure("distance", "", 0.3),), settings)
    assert min(mine.n_effective, theirs.n_effective) > settings.min_effective_samples
    assert outcome.values[0] - outcome.errors[0] > outcome.limits[0]
    # The error of a mean over lineages, which the distance is here.
    means = np.array([lineage.mean() for lineage in theirs.replicas])
    assert outcome.reference_errors[0] == pytest.approx(2.179 * means.std(ddof=1) / np.sqrt(13), rel=0.1)
    assert outcome.verdict == "inconclusive"
    assert outcome.needs == {"longer_reference": True}
    assert "the scatter between the lineages of the reference" in outcome.reason


def test_nan_fails(settings):
    class Undefined(Wasserstein):
        def distances(self, model, reference):
            return np.nan * super().distances(model, reference)

    result = compare(sample(), sample(seed=1), Undefined(-60.0, 60.0), LENGTH, settings)
    assert result.verdict == "fail"


def test_leave_one_out_finds_a_replica_that_is_elsewhere(settings):
    fine = sample(replicas=4, seed=1)
    assert leave_one_out(fine, wasserstein, LENGTH, settings)[0] == "pass"
    apart = [shift + np.random.default_rng(i).normal(size=300) for i, shift in enumerate((0, 10, 20, 30))]
    torn = equilibrated(apart, apart, 0.25)
    verdict, means, _ = leave_one_out(torn, wasserstein, LENGTH, settings)
    assert means[0] == pytest.approx(50 / 3, rel=0.05)
    assert verdict in ("fail", "inconclusive")
    assert leave_one_out(sample(replicas=1), wasserstein, LENGTH, settings)[0] == "inconclusive"


def test_measures_in_words():
    assert LENGTH[0].in_words(0.3112, 0.052, 0.5) == "distance 0.311 ± 0.052 Å (at most 0.5)"
    alike = Measure("Pearson r", "", 0.1, similarity=True)
    assert alike.in_words(0.25, 0.1, 0.1) == "Pearson r 0.75 ± 0.1 (at least 0.9)"
    assert alike.in_words(0.25, 0.1) == "Pearson r 0.75 ± 0.1"


def test_worst_and_together():
    assert worst(["pass", "inconclusive", "fail"]) == "fail"
    assert worst(["pass", "inconclusive"]) == "inconclusive"
    assert worst([]) == "pass"
    assert together([]) == {}
