"""Evident failure: what fails whatever the effective samples, and what never does."""

import math
from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import pytest

from cgloop.validate.comparison import STILL_RELAXES, Comparison, compare
from cgloop.validate.distances import ContactMap, Divergence, Wasserstein
from cgloop.validate.evidence import evidence_against, margin_of
from cgloop.validate.family import BY_NAME
from cgloop.validate.handedness import mirror_check
from cgloop.validate.measure import Measure
from cgloop.validate.observables import Protein, observe
from cgloop.validate.sample import equilibrated
from cgloop.validate.statistics import student_t
from cgloop.validate.structure import Target, deciding, run_comparison
from tests.validate.builders import elastic_frames, ou_process

LENGTH = (Measure("distance", "Å", 0.5),)
wasserstein = Wasserstein(-60.0, 60.0)
TURN = np.radians(100) * np.arange(16)
HELIX = np.stack([2.3 * np.cos(TURN), 2.3 * np.sin(TURN), 1.5 * np.arange(16)], axis=1)


def gaussian(shifts, frames=60, correlation=40.0, seed=0):
    """Lineages of unit variance about the shifts, with hardly more than one effective sample each."""
    rng = np.random.default_rng(seed)
    series = [shift + ou_process(rng, frames, (), correlation) for shift in shifts]
    return equilibrated(series, series, 0.25)


def test_margin_by_hand():
    assert margin_of(3.0, 0.5, 0.25, 1.0, squared=False) == pytest.approx(1.25)
    # √0.64 − √0.04 − 0.16 / (2 √0.64) − √0.09
    assert margin_of(0.64, 0.16, 0.04, 0.09, squared=True) == pytest.approx(0.8 - 0.2 - 0.1 - 0.3)
    assert margin_of(0.0, 0.0, 0.0, 0.05, squared=True) == -math.inf
    assert math.isnan(margin_of(math.nan, 0.1, 0.1, 0.1, squared=False))


def test_every_term_of_the_rule_is_what_it_says():
    """Points on a line: a Wasserstein-1 distance of two points is their separation, and every term is known exactly."""
    metric = Wasserstein(0.0, 2047.0)
    at = np.array([100.0, 140.0, 120.0, 300.0, 310.0])
    theirs = metric.summaries(np.repeat(at[3:], 4), np.array([0, 4]))
    mine = metric.summaries(np.repeat(at[:3], 5), np.array([0, 5, 10]))
    evidence = evidence_against(mine, theirs, ["first", "second"], metric, LENGTH, np.array([25.0]))
    assert evidence.lineage == "first"
    assert evidence.distance == pytest.approx(300.0 - 120.0)
    assert evidence.reference_error == pytest.approx(10.0)
    # Jackknife of a mean is its standard error: 20 / √3, times Student's factor.
    assert evidence.model_error == pytest.approx(student_t(2) * 20.0 / np.sqrt(3.0))
    assert evidence.margin == pytest.approx(180.0 - 25.0 - 10.0 - evidence.model_error)


def test_few_effective_samples_do_not_hide_a_hopeless_model(settings):
    result = compare(gaussian([20.0] * 3), gaussian([0.0] * 3, seed=1), wasserstein, LENGTH, settings)
    assert result.n_effective_reference < settings.min_effective_samples
    assert (result.verdict, result.evident) == ("fail", True)
    assert "nearest lineage of the reference" in result.reason
    assert result.needs == {}


@pytest.mark.parametrize(
    ("model", "reference"),
    [
        ([20.0] * 2, [0.0] * 3),  # too few replicas for an error of the model
        ([20.0] * 3, [0.0]),  # one lineage has no distance to others
        ([20.0] * 3, [0.0, 19.0]),  # near one of the lineages
        ([1.0, 1.0, 40.0], [0.0] * 3),  # replicas of the model that do not agree
        ([20.0] * 3, [0.0, 40.0, 0.0]),  # lineages differ among themselves by more
    ],
)
def test_what_errors_explain_is_not_evident(settings, model, reference):
    result = compare(gaussian(model), gaussian(reference, seed=1), wasserstein, LENGTH, settings)
    assert not result.evident
    assert result.verdict == "inconclusive"


def test_divergences_are_compared_by_their_square_roots(settings):
    """Histograms that overlap by half: the divergence is no metric, and its root is."""
    metric = Divergence(np.zeros(1, int), 4, np.ones(1))
    rng = np.random.default_rng(2)
    measure = (Measure("divergence", "", 0.05, squared=True),)
    theirs = metric.summaries(rng.integers(0, 2, (600, 1)), np.array([0, 200, 400]))
    mine = metric.summaries(rng.integers(1, 4, (600, 1)), np.array([0, 200, 400]))
    names = ["a", "b", "c"]
    evidence = evidence_against(mine, theirs, names, metric, measure, np.array([0.05]))
    assert evidence.margin == pytest.approx(
        math.sqrt(evidence.distance)
        - math.sqrt(evidence.reference_error)
        - evidence.model_error / (2 * math.sqrt(evidence.distance))
        - math.sqrt(0.05)
    )
    assert evidence.evident
    assert not evidence_against(theirs, theirs, names, metric, measure, np.array([0.05])).evident


def test_a_reference_that_still_relaxes_is_named_in_the_fail(settings):
    rng = np.random.default_rng(3)
    leaving = [np.linspace(0.0, 3.0, 300) + 0.1 * rng.normal(size=300) for _ in range(4)]
    sample = equilibrated(leaving, leaving, 0.25)
    assert sample.drift > 0
    model = gaussian([30.0] * 4)
    plain = compare(model, sample, wasserstein, LENGTH, settings)
    assert (plain.verdict, plain.caveat) == ("fail", "")
    assert STILL_RELAXES not in plain.reason
    named = compare(model, replace(sample, one_start=True), wasserstein, LENGTH, settings)
    assert (named.verdict, named.evident) == ("fail", True)
    assert STILL_RELAXES in named.reason
    assert "drift together" in named.caveat


@pytest.fixture(scope="module")
def real(chain, settings):
    """CLN025 at 320 K: four lineages with 13 effective samples of Q."""
    protein = Protein.of(chain[1], np.ones(9, bool), settings)
    return Target(protein, [observe(x, protein, settings) for x in chain[2]], 320.0, settings)


def collapsed(positions):
    """Every frame at 70 % of its size."""
    center = positions.mean(axis=1, keepdims=True)
    return center + 0.7 * (positions - center)


def test_collapsed_and_extended_models_fail_against_a_short_reference(chain, real, settings):
    """Histograms that do not overlap fail, though the reference has fewer than 20 effective samples."""
    rng = np.random.default_rng(5)
    stretched = np.stack([3.6 * np.arange(10), 1.2 * (-1.0) ** np.arange(10), np.zeros(10)], axis=1)
    models = {
        "collapsed": [observe(collapsed(x), real.protein, settings) for x in chain[2]],
        "extended": [observe(elastic_frames(rng, stretched, 200, 0.2), real.protein, settings) for _ in range(4)],
    }
    assert max(f.rg.max() for f in models["collapsed"]) < min(f.rg.min() for f in real.frames)
    rg = run_comparison(BY_NAME["structure.rg"], models["collapsed"], real, "chain")
    assert rg.detail["n_effective_reference"] < settings.min_effective_samples
    assert (rg.verdict, rg.evident) == ("fail", True)
    assert rg.detail["evidence"]["margin"] > 0
    for name in ("rmsd", "contacts", "q", "rg", "end_to_end"):
        result = run_comparison(BY_NAME[f"structure.{name}"], models["extended"], real, "chain")
        assert (result.verdict, result.evident) == ("fail", True), result.reason
    # Too few effective samples for the classes of dihedrals and angles hide nothing either.
    for name in ("local.angles", "local.dihedrals", "pair.distances"):
        result = run_comparison(BY_NAME[name], models["extended"], real, "chain")
        assert (result.verdict, result.evident) == ("fail", True), result.reason


def test_lineages_of_the_reference_are_never_evident_failures(real, settings):
    """Splits of the reference's own frames, halves of its trajectories as replicas: none fails."""
    frames = real.frames
    halves = [
        type(one)(**{f.name: getattr(one, f.name)[part] for f in fields(one)})
        for one in frames
        for part in (slice(0, 250), slice(250, 500))
    ]
    for chosen in list(combinations(range(8), 4))[::14]:
        model = [halves[i] for i in chosen]
        target = Target(real.protein, [halves[i] for i in range(8) if i not in chosen], 320.0, settings)
        for name, spec in BY_NAME.items():
            result = run_comparison(spec, model, target, "chain")
            assert not result.evident, (name, chosen, result.reason)


def test_mirror_image_is_evident_by_its_error_bar_though_samples_are_few(chain, real, settings):
    """Three replicas, each with 80 % of its few folded frames at the mirror image."""
    native = chain[1]
    mirrored = native * [1, 1, -1]
    rng = np.random.default_rng(7)
    model = []
    for _ in range(3):
        frames = np.concatenate([native[None], mirrored[None].repeat(4, 0)])
        model.append(observe(frames + 0.1 * rng.normal(size=frames.shape), real.protein, settings))
    result = mirror_check(model, real.frames, settings, "chain")
    assert result.n_effective < settings.min_effective_samples
    assert (result.verdict, result.evident) == ("fail", True)
    assert not result.detail["by_own_rule"]


def test_a_limit_of_zero_is_no_division_by_zero(chain, settings):
    """A fraction that must be 1, and a reference whose signs never differ: limit and noise are both zero."""
    strict = settings.model_copy(update={"handedness_fraction": 1.0})
    target = Target(Protein.of(HELIX, np.ones(15, bool), strict), [], 300.0, strict)
    replicas = [observe(np.repeat(HELIX[None], 60, axis=0), target.protein, strict) for _ in range(3)]
    target = replace(target, frames=replicas)
    spec = BY_NAME["structure.handedness"]
    wrong = [observe(np.repeat(HELIX[None] * [1, -1, 1], 60, axis=0), target.protein, strict) for _ in range(3)]
    result = run_comparison(spec, wrong, target, "helix")
    assert result.detail["measures"][0]["limit"] == 1.0
    assert (result.verdict, result.evident) == ("fail", True)
    assert not run_comparison(spec, replicas, target, "helix").evident


def test_the_row_of_an_evident_fail_is_of_the_distance_with_the_evidence(settings):
    """Both measures are outside their limits; the evidence is stronger in the second."""
    metric = ContactMap(np.arange(4))
    rng = np.random.default_rng(4)
    measures = (Measure("mean absolute difference", "", 0.3), Measure("Pearson r", "", 0.1, True, True))
    mine, theirs = ((rng.random((3, 200, 4)) < p).astype(np.uint8) for p in ([0.9, 0.1] * 2, [0.1, 0.9] * 2))
    samples = [equilibrated(list(x), list(x.sum(axis=2).astype(float)), 0.25) for x in (mine, theirs)]
    outcome = compare(*samples, metric, measures, settings)
    assert outcome.evident
    assert outcome.evidence.measure == "Pearson r"
    assert outcome.values[0] - outcome.errors[0] > outcome.limits[0]
    assert deciding(measures, outcome) == 1


def test_the_row_shows_the_distance_that_the_scatter_of_the_reference_leaves_open():
    """The first distance passes; the second is outside its limit, but not beyond the error of the reference."""
    values, errors, scatter = np.array([0.05, 0.3]), np.array([0.01, 0.02]), np.array([0.01, 0.5])
    limits = np.array([0.1, 0.1])
    outcome = Comparison(values, errors, scatter, limits, limits, 50.0, 50.0, "inconclusive", "", "", {})
    measures = (Measure("mean absolute difference", "", 0.1), Measure("Pearson r", "", 0.1, True, True))
    assert deciding(measures, outcome) == 1
