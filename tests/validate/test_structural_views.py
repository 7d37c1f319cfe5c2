"""What the structural checks look at: handedness, classes, slow components, and what is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

from cgloop.config.validate import ValidateConfig
from cgloop.validate.equilibration import statistical_inefficiency
from cgloop.validate.family import BY_NAME
from cgloop.validate.handedness import mirror_check
from cgloop.validate.local import classes_by_residues
from cgloop.validate.observables import MAX_PAIRS, Frames, Protein, observe
from cgloop.validate.pairs import separation_classes
from cgloop.validate.sample import equilibrated
from cgloop.validate.structure import Target, run_comparison
from cgloop.validate.tica import slowest_components
from cgloop.validate.transfer import unseen_check
from tests.validate.builders import elastic_frames, ou_process, real_chain
from tests.validate.rows import not_decided_by_their_number

EXAMPLE = Path(__file__).parents[2] / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"


def helix(n, hand=1.0):
    """CA trace of an ideal α helix: 100° and 1.5 Å a residue, radius 2.3 Å."""
    turn = np.radians(100) * np.arange(n)
    return np.stack([2.3 * np.cos(turn), hand * 2.3 * np.sin(turn), 1.5 * np.arange(n)], axis=1)


def observed(structure, protein, settings, replicas=4, seed=0, amplitude=0.15):
    rng = np.random.default_rng(seed)
    return [observe(elastic_frames(rng, structure, 200, amplitude), protein, settings) for _ in range(replicas)]


def test_helix_has_a_hand_and_its_mirror_image_the_other(settings):
    protein = Protein.of(helix(16), np.ones(15, bool), settings)
    # The CA dihedral of a right-handed α helix is about +50°.
    exact = observe(helix(16)[None], protein, settings)
    assert exact.dihedrals == pytest.approx(np.full((1, 13), 50.0), abs=2.0)
    target = Target(protein, observed(helix(16), protein, settings), 300.0, settings)
    spec = BY_NAME["structure.handedness"]
    good = run_comparison(spec, observed(helix(16), protein, settings, seed=1), target, "helix")
    assert (good.verdict, good.detail["dihedrals"]) == ("pass", 13)
    assert (good.value, good.threshold) == (pytest.approx(1.0, abs=0.01), pytest.approx(0.9))
    bad = run_comparison(spec, observed(helix(16, -1.0), protein, settings, seed=1), target, "helix")
    assert bad.verdict == "fail"
    assert bad.value == pytest.approx(0.0, abs=0.01)
    assert "in every replica" in bad.reason
    (measure,) = bad.detail["measures"]
    assert (measure["value"], measure["limit"]) == (bad.value, bad.threshold)
    assert measure["direction"] == spec.check.direction == "at least"


def with_part_of(frames, others, part):
    """Frames of which this part, here and there, is taken from the others."""
    count = len(frames.rg)
    here = np.random.default_rng(2).permutation(count)[: round(part * count)]
    mixed = {key: values.copy() for key, values in vars(frames).items()}
    for key, values in mixed.items():
        values[here] = vars(others)[key][here]
    return Frames(**mixed)


def test_rows_of_a_hand_that_is_wrong_everywhere_show_the_number_that_decided(settings):
    """Replicas that differ too much for an error bar to decide, all with the other hand."""
    protein = Protein.of(helix(16), np.ones(15, bool), settings)
    target = Target(protein, observed(helix(16), protein, settings), 300.0, settings)
    other = observed(helix(16, -1.0), protein, settings, seed=1, replicas=3)
    mixed = [with_part_of(a, b, part) for a, b, part in zip(other, target.frames, (0.0, 0.48, 0.48), strict=False)]
    signs = run_comparison(BY_NAME["structure.handedness"], mixed, target, "helix")
    assert (signs.verdict, signs.evident) == ("fail", False)
    assert (signs.quantity, signs.threshold) == ("largest fraction of a replica", 0.5)
    assert 0.4 < signs.value < 0.5
    far = [replace(frames, rmsd=frames.rmsd + more) for frames, more in zip(other, (0.0, 0.0, 30.0), strict=True)]
    fold = mirror_check(far, target.frames, settings, "helix")
    assert (fold.verdict, fold.evident) == ("fail", False)
    assert (fold.quantity, fold.value, fold.threshold) == ("smallest share of mirrored frames in a replica", 1.0, 0.9)
    assert not_decided_by_their_number([signs.to_json(), fold.to_json()]) == []


def test_undecided_dihedrals_do_not_count(settings):
    """A flat zigzag has dihedrals of ±180°: none has a sign."""
    flat = np.stack([3.3 * np.arange(12), 0.9 * (-1.0) ** np.arange(12), np.zeros(12)], axis=1)
    protein = Protein.of(flat, np.ones(11, bool), settings)
    frames = observed(flat, protein, settings)
    result = run_comparison(BY_NAME["structure.handedness"], frames, Target(protein, frames, 300.0, settings), "flat")
    assert (result.verdict, result.value) == ("inconclusive", None)


def test_end_to_end_distance_is_that_of_each_piece(settings):
    x = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6)], axis=1)
    x[3:] *= 2
    linked = np.array([True, True, False, True, True])
    protein = Protein.of(x, linked, settings)
    assert protein.ends.tolist() == [[0, 2], [3, 5]]
    assert observe(x[None], protein, settings).end_to_end == pytest.approx([(2.0 + 4.0) / 2])


def test_classes_are_named_by_residues(chain, settings):
    types = np.array([0, 7, 7, 0, 3])
    protein = Protein.of(chain[1][:5], np.ones(4, bool), settings, types)
    class_of, names = classes_by_residues(protein, protein.bonds, ordered=False)
    assert [names[i] for i in class_of] == ["ALA–GLY", "GLY–GLY", "ALA–GLY", "ALA–ASP"]
    class_of, names = classes_by_residues(protein, protein.dihedrals[:, 1:3], ordered=True)
    assert [names[i] for i in class_of] == ["GLY–GLY", "GLY–ALA"]
    unknown = Protein.of(chain[1][:5], np.ones(4, bool), settings)
    assert classes_by_residues(unknown, unknown.bonds, ordered=False)[1] == ["1 2", "2 3", "3 4", "4 5"]


def test_pairs_are_classed_by_separation_and_bounded(settings):
    native = np.cumsum(np.random.default_rng(0).normal(size=(40, 3)) * 2.2, axis=0)
    linked = np.ones(39, bool)
    linked[29] = False
    protein = Protein.of(native, linked, settings)
    class_of, names = separation_classes(protein)
    assert len(protein.pairs) == len(protein.measured_pairs) == len(class_of) < MAX_PAIRS
    assert names == ["other chain", *(f"|i − j| = {s}" for s in ("4", "5", "6", "7", "8", "9–16", "17–32"))]
    for (i, j), k in zip(protein.measured_pairs, class_of, strict=True):
        if i < 30 <= j:
            assert names[k] == "other chain"
        else:
            low, *high = (int(v) for v in names[k].removeprefix("|i − j| = ").split("–"))
            assert low <= j - i <= (high or [low])[0]
    large = Protein.of(np.zeros((200, 3)), np.ones(199, bool), settings)
    assert len(large.measured_pairs) == MAX_PAIRS


def test_tica_finds_the_slow_direction_of_a_linear_process():
    """Independent AR(1) processes, mixed by a matrix: components are the unmixed ones, slowest first."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    hidden = [
        np.stack([ou_process(rng, 4000, (), tau) for tau in (5, 100, 2, 30)], axis=1) * [3.0, 0.3, 5.0, 0.5]
        for _ in range(3)
    ]
    components = slowest_components([x @ mixing for x in hidden], lag=5)
    found = components(np.concatenate(hidden) @ mixing)
    pooled = np.concatenate(hidden)
    for k, source in enumerate((1, 3)):
        assert abs(np.corrcoef(found[:, k], pooled[:, source])[0, 1]) > 0.98
    assert found.std(axis=0) == pytest.approx([1.0, 1.0], rel=0.05)


@pytest.mark.parametrize("offset", [0.0, 40.0])
def test_tica_is_independent_of_the_mean_of_the_features(offset):
    """Ornstein–Uhlenbeck processes about a point far from the origin, as distances in Å are.

    Closed form: the slowest component is the process with the longest correlation time τ, whose autocorrelation at the
    lag is exp(−lag/τ). Independent solution: the generalized eigenvalue problem of mean-free covariances.
    """
    rng, lag = np.random.default_rng(3), 5
    mixing = rng.normal(size=(4, 4)) + 3 * np.eye(4)
    hidden = [np.stack([ou_process(rng, 4000, (), tau) for tau in (60, 20, 5, 2)], axis=1) for _ in range(3)]
    features = [x @ mixing + offset * np.array([1.0, 2.0, -1.0, 0.5]) for x in hidden]
    components = slowest_components(features, lag)
    found = [components(values) for values in features]
    assert np.concatenate(found).mean(axis=0) == pytest.approx([0.0, 0.0], abs=0.02)
    autocorrelation = np.mean([(values[:-lag] * values[lag:]).mean(axis=0) for values in found], axis=0)
    assert autocorrelation == pytest.approx(np.exp(-lag / np.array([60.0, 20.0])), abs=0.03)
    first, last = (np.concatenate([v[part] for v in features]) for part in (slice(None, -lag), slice(lag, None)))
    both = np.concatenate([first, last])
    first, last = first - both.mean(axis=0), last - both.mean(axis=0)
    lagged = (first.T @ last + last.T @ first) / len(both)
    eigenvalues = eigh(lagged, np.cov(both.T, ddof=0), eigvals_only=True)[::-1]
    assert autocorrelation == pytest.approx(eigenvalues[:2], abs=2e-3)


def test_slowest_component_of_the_example_is_a_motion_and_not_a_constant(settings):
    """Of CLN025 the slowest component relaxes; about a mean that was kept it had the singular value 0.9999."""
    _, native, trajectories = real_chain(EXAMPLE)
    protein = Protein.of(native, np.ones(9, bool), settings)
    distances = [observe(positions, protein, settings).distances for positions in trajectories]
    components = slowest_components(distances, lag=5)
    found = [components(values)[:, 0] for values in distances]
    pooled = np.concatenate(found)
    assert pooled.mean() == pytest.approx(0.0, abs=0.02)
    assert np.mean([(x[:-5] * x[5:]).mean() for x in found]) / pooled.var() == pytest.approx(0.775, abs=0.02)
    assert 5 < len(pooled) / statistical_inefficiency(found) < 20


def test_there_are_no_two_components_in_one_direction_or_in_short_series():
    line = np.random.default_rng(0).normal(size=(300, 1)) * [[1.0, 2.0, 3.0]]
    assert slowest_components([line, line[::-1]], lag=5) is None
    assert slowest_components([np.random.default_rng(0).normal(size=(5, 4))], lag=5) is None


def test_class_with_few_effective_samples_is_left_out(chain, protein_of, settings):
    few = ValidateConfig(noise_blocks=20, class_min_effective_samples=1e6)
    protein = protein_of(few)
    frames = observed(chain[1], protein, few)
    result = run_comparison(BY_NAME["local.angles"], frames, Target(protein, frames, 320.0, few), "chain")
    assert (result.verdict, result.value) == ("inconclusive", None)
    assert "0 of 8 are in classes with 1e+06 effective samples" in result.reason


@pytest.fixture
def protein_of(chain):
    return lambda settings: Protein.of(chain[1], np.ones(9, bool), settings)


def test_divergence_sees_one_wrong_coordinate(chain, protein_of, settings):
    """The first bond is 0.4 Å too long; everything else is right."""
    protein = protein_of(settings)
    target = Target(protein, observed(chain[1], protein, settings, 8, amplitude=0.05), 320.0, settings)
    longer = chain[1].copy()
    longer[0] -= 0.4 * (chain[1][1] - chain[1][0]) / np.linalg.norm(chain[1][1] - chain[1][0])
    model = observed(longer, protein, settings, 8, seed=1, amplitude=0.05)
    result = run_comparison(BY_NAME["local.bonds"], model, target, "chain")
    assert result.verdict == "fail", result.reason
    assert result.detail["worst"][0]["name"] == "1 2"
    assert result.detail["worst"][0]["divergence"] > 0.5 > 0.1 > result.detail["worst"][1]["divergence"]


def test_angle_across_the_border_of_the_circle_is_not_slow():
    rng = np.random.default_rng(0)
    angle = np.radians(180 + 10 * rng.normal(size=(4, 300, 1)))
    circle = [np.concatenate([np.cos(a), np.sin(a)], axis=1) for a in angle]
    sample = equilibrated(circle, [np.cos(a[:, 0]) for a in angle], 0.25, circle)
    assert sample.coordinates_effective.min() > 900


def test_unseen_protein_is_summed_up_and_a_seen_one_is_not(chain, protein_of, settings):
    protein = protein_of(settings)
    frames = observed(chain[1], protein, settings)
    target = Target(protein, frames, 320.0, settings)
    results = [run_comparison(BY_NAME[name], frames, target, "chain") for name in ("structure.rmsd", "local.bonds")]
    assert unseen_check(results, 100, [], "chain") == []
    (summary,) = unseen_check(results, 0, ["TRP"], "chain")
    assert (summary.verdict, summary.value) == ("reported", 1.0)
    assert "2 of 2" in summary.reason
    assert "TRP" in summary.reason
