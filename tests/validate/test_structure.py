"""Structural checks, their controls and the data of plots, on arrays."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cgloop.residues import TYPE_ID, parent_name
from cgloop.validate.controls import CONTROLLED, power_control, reference_control
from cgloop.validate.family import BY_NAME
from cgloop.validate.handedness import mirror_check
from cgloop.validate.plots import MAX_BYTES, ProteinPlots, plot_data, rounded
from cgloop.validate.rundata import Replica, StageRun
from cgloop.validate.structure import Frames, Protein, Target, observe, run_comparison
from tests.validate.builders import elastic_frames
from tests.validate.rows import not_decided_by_their_number

ALL = list(BY_NAME)


@pytest.fixture(scope="module")
def protein(chain, settings):
    types = np.array([TYPE_ID[parent_name(name)] for name in chain[0]])
    return Protein.of(chain[1], np.ones(9, bool), settings, types)


@pytest.fixture(scope="module")
def target(ensembles, protein, settings):
    return Target(protein, ensembles["reference"], 320.0, settings)


@pytest.fixture(scope="module")
def real(chain, protein, settings):
    return Target(protein, [observe(x, protein, settings) for x in chain[2]], 320.0, settings)


@pytest.fixture(scope="module")
def ensembles(chain, protein, settings):
    """Observables of a reference, of a model with the same process, and of an unfolded chain."""
    native = chain[1]
    rng = np.random.default_rng(0)

    def observed(count, frames, of):
        return [observe(elastic_frames(rng, of, frames, 0.3), protein, settings) for _ in range(count)]

    stretched = np.stack([3.6 * np.arange(10), 1.2 * (-1.0) ** np.arange(10), np.zeros(10)], axis=1)
    return {
        "reference": observed(4, 400, native),
        "model": observed(8, 200, native),
        "unfolded": observed(8, 200, stretched),
        "mirrored": observed(8, 200, native * [1, 1, -1]),
    }


@pytest.mark.parametrize("name", ALL)
def test_same_process_passes_and_unfolded_fails(name, ensembles, target):
    good = run_comparison(BY_NAME[name], ensembles["model"], target, "chain")
    assert good.verdict == "pass", good.reason
    bad = run_comparison(BY_NAME[name], ensembles["unfolded"], target, "chain")
    assert bad.verdict == "fail", bad.reason
    worse = np.greater if BY_NAME[name].check.direction == "at most" else np.less
    assert worse(bad.value, bad.threshold)
    assert worse(bad.value, good.value)
    for result in (good, bad):
        plot = result.plot.to_json()
        assert [curve["role"] for curve in plot["curves"][:2]] in (["model", "reference"], ["model", "control"])
        assert len(json.dumps(plot)) < 50_000


@pytest.mark.parametrize("name", ALL)
def test_frozen_frames_never_pass(name, ensembles, target):
    """Frames of the reference itself, each repeated for a whole trajectory: perfect on average, and one sample each."""
    still = [
        Frames(**{key: np.repeat(values[:1], 200, axis=0) for key, values in vars(frames).items()})
        for frames in ensembles["reference"] * 2
    ]
    assert run_comparison(BY_NAME[name], still, target, "chain").verdict in ("inconclusive", "fail")


def test_contacts_need_both_correlation_and_difference(ensembles, target):
    """All contacts weakened alike: r stays 1, and the difference alone has to fail."""
    weak = [
        replace(f, contacts=f.contacts * (np.arange(len(f.q)) % 2).astype(np.uint8)[:, None])
        for f in ensembles["model"]
    ]
    result = run_comparison(BY_NAME["structure.contacts"], weak, target, "chain")
    assert result.verdict == "fail"
    assert result.detail["pearson_r"] > 0.99
    mad, correlation = result.detail["measures"]
    assert mad["value"] > mad["limit"]
    assert (mad["direction"], correlation["direction"]) == ("at most", "at least")
    assert correlation["value"] > correlation["limit"] == pytest.approx(0.9)


def test_a_flat_contact_map_has_no_correlation(ensembles, target):
    """A chain that never folds, beside a reference that seldom does: the difference is small, and r is not defined."""
    spec, never = BY_NAME["structure.contacts"], [replace(f, contacts=0 * f.contacts) for f in ensembles["model"]]
    assert run_comparison(spec, never, target, "chain").verdict == "fail"
    seldom = [
        replace(f, contacts=f.contacts * (np.arange(len(f.q)) % 12 == 0).astype(np.uint8)[:, None])
        for f in ensembles["reference"]
    ]
    unfolded = replace(target, frames=seldom, _views={}, _samples={})
    result = run_comparison(spec, never, unfolded, "chain")
    assert (result.verdict, result.reason[:8]) == ("inconclusive", "flat map")
    assert result.value < result.threshold
    assert not result.detail["needs"]
    # A reference with one pair, beside itself: one that is always in contact is the same in all its parts.
    present = np.concatenate([f.contacts for f in ensembles["reference"]]).mean(axis=0)
    for pair, verdict in ((present.argmax(), "pass"), (np.abs(present - 0.5).argmin(), "inconclusive")):
        single = [replace(f, contacts=f.contacts * (np.arange(len(present)) == pair)) for f in ensembles["reference"]]
        control = reference_control(replace(target, frames=single, _views={}, _samples={}), "chain")[spec.check.name]
        assert (control["verdict"], control["needs"]) == (verdict, {})
        assert ("flat map" in control["reason"]) == (verdict == "inconclusive")


def test_mirror_image_is_seen_by_signs_alone(ensembles, target, settings):
    mirrored, reference = ensembles["mirrored"], ensembles["reference"]
    assert mirror_check(mirrored, reference, settings, "chain").verdict == "fail"
    assert mirror_check(ensembles["model"], reference, settings, "chain").verdict == "pass"
    verdicts = {name: run_comparison(BY_NAME[name], mirrored, target, "chain").verdict for name in ALL}
    assert {name for name, verdict in verdicts.items() if verdict == "fail"} == {
        "structure.rmsd", "structure.handedness", "local.dihedrals"
    }  # fmt: skip


def test_mirror_image_fails_however_slowly_it_moves(chain, protein, real, settings):
    """Real frames have few effective samples; that every replica is mirrored leaves nothing to doubt."""
    frames = real.frames
    mirrored = [observe(x * [1, 1, -1], protein, settings) for x in chain[2]]
    assert mirror_check(mirrored, frames, settings, "chain").verdict == "fail"
    assert run_comparison(BY_NAME["structure.handedness"], mirrored, real, "chain").verdict == "fail"
    assert mirror_check(frames, frames, settings, "chain").verdict in ("pass", "inconclusive")
    half = mirrored[:2] + frames[2:]
    assert mirror_check(half, frames, settings, "chain").verdict == "inconclusive"


def test_without_folded_frames_handedness_is_open(ensembles, settings):
    result = mirror_check(ensembles["unfolded"], ensembles["reference"], settings, "chain")
    assert (result.verdict, result.value) == ("inconclusive", None)


def test_protein_without_native_contacts_has_no_q(settings):
    straight = np.stack([3.8 * np.arange(12.0), np.zeros(12), np.zeros(12)], axis=1)
    protein = Protein.of(straight, np.ones(11, bool), settings)
    frames = [observe(straight[None].repeat(5, 0), protein, settings)] * 3
    for name in ("structure.q", "structure.contacts"):
        result = run_comparison(BY_NAME[name], frames, Target(protein, frames, 320.0, settings), "chain")
        assert result.verdict == "inconclusive"
        assert "no" in result.reason


def test_reference_passes_its_own_control(target):
    outcome = reference_control(target, "chain")
    assert set(outcome) == set(CONTROLLED)
    assert {entry["verdict"] for entry in outcome.values()} == {"pass"}


def test_real_reference_does_not_fail_its_own_control(real):
    """CLN025 at 320 K: three of four replicas move half-way, so that RMSD, Q and the surface cannot be judged by it."""
    outcome = reference_control(real, "chain")
    verdicts = {name: entry["verdict"] for name, entry in outcome.items()}
    assert {name for name, verdict in verdicts.items() if verdict == "pass"} == {
        "structure.contacts", "structure.end_to_end", "structure.handedness", "structure.mirror",
        "local.bonds",
    }  # fmt: skip
    assert "fail" not in verdicts.values()
    assert "effective samples, 20 are needed" in outcome["structure.rmsd"]["reason"]
    assert outcome["structure.rmsd"]["needs"] == {"longer_reference": True}
    assert "200 effective samples" in outcome["local.dihedrals"]["reason"]


def test_reference_of_replicas_in_different_places_does_not_pass(chain, protein, settings):
    rng = np.random.default_rng(3)
    places = [chain[1] * scale for scale in (1.0, 1.3, 1.7, 2.2)]
    torn = [observe(elastic_frames(rng, place, 300), protein, settings) for place in places]
    outcome = reference_control(Target(protein, torn, 320.0, settings), "chain")
    # Directions, and so handedness, are the same in all of these places.
    blind = {"structure.mirror", "structure.handedness", "local.angles", "local.dihedrals"}
    assert all(outcome[name]["verdict"] != "pass" for name in set(ALL) - blind)


def test_power_is_telling_temperatures_apart(ensembles, target):
    able = power_control(ensembles["unfolded"], 450.0, target)
    assert all(entry["able"] for entry in able.values())
    blind = power_control(ensembles["model"], 450.0, target)
    assert not any(entry["able"] for entry in blind.values())


def stage_run(frames, n_beads, replicas, stage="nvt"):
    points = 5 * frames
    series = {
        name: np.linspace(1.0, 2.0, points) for name in ("time_ps", "temperature_K", "kinetic", "potential", "total")
    }
    made = [Replica(i, 1000 * frames, 1000 * frames, "", series, np.zeros((0, n_beads, 3))) for i in range(replicas)]
    return StageRun("chain", stage, 2.0, 320.0, n_beads, replicas, frames, points, made)


def test_plots_are_thinned_rounded_and_complete(ensembles, protein):
    model = list(enumerate(ensembles["model"]))
    plots = ProteinPlots(stage_run(200, 10, 8), stage_run(200, 10, 8, "nve"), model, ensembles["reference"], protein)
    data = plot_data({"chain": plots})["proteins"]["chain"]
    assert set(data) == {"temperature", "nve_energy", "rmsd", "q", "rg", "contacts"}
    assert len(data["temperature"]["replicas"]) == 8
    assert all(len(r["time_ps"]) == len(r["temperature_K"]) <= 400 for r in data["temperature"]["replicas"])
    assert data["nve_energy"]["replicas"][0]["energy_change"][0] == 0
    assert data["rmsd"]["replicas"][0]["time_ps"][-1] == pytest.approx(400.0)
    width = data["rmsd"]["grid"][1] - data["rmsd"]["grid"][0]
    for name in ("model", "reference"):
        assert np.sum(data["rmsd"][name]) * width == pytest.approx(1.0, abs=1e-3)
    contacts = data["contacts"]
    assert np.array(contacts["model"]).shape == (10, 10)
    i, j = protein.pairs[0]
    expected = np.concatenate([f.contacts[:, 0] for f in ensembles["reference"]]).mean()
    assert contacts["reference"][i][j] == contacts["reference"][j][i] == pytest.approx(expected, abs=1e-3)
    assert np.sum(contacts["native"]) == 2 * len(protein.contacts.pairs)


def test_plots_stay_small(settings):
    rng = np.random.default_rng(0)
    native = np.cumsum(rng.normal(size=(300, 3)) * 2.2, axis=0)
    protein = Protein.of(native, np.ones(299, bool), settings)
    frames = [observe(native + rng.normal(size=(20, 300, 3)), protein, settings) for _ in range(2)]
    many = [(i, frames[i % 2]) for i in range(100)]
    plots = ProteinPlots(stage_run(1000, 300, 100), stage_run(1000, 300, 100, "nve"), many, frames, protein)
    data = plot_data({"a": plots, "b": plots})
    assert len(json.dumps(data)) < MAX_BYTES
    contacts = data["proteins"]["a"]["contacts"]
    assert contacts["stride"] > 1
    assert len(contacts["model"]) == -(-300 // contacts["stride"])


def test_nothing_to_plot_is_no_error(ensembles, protein):
    empty = ProteinPlots(None, None, [], ensembles["reference"], protein)
    assert plot_data({"chain": empty})["proteins"]["chain"] == {}
    lost = ProteinPlots(stage_run(10, 10, 0), None, [], ensembles["reference"], protein)
    assert plot_data({"chain": lost})["proteins"]["chain"]["contacts"]["model"] == []


def test_rounding():
    assert rounded(np.array([1.2345678, np.nan, -0.000123456])) == [1.2346, None, -0.00012346]


def test_the_row_of_the_contact_map_shows_the_correlation_where_that_fails(chain, protein, ensembles, settings):
    """With a wide limit of the mean difference a chain folded the other way round fails by Pearson's r alone."""
    wide = settings.model_copy(update={"contact_mad": 1.0})
    spec = BY_NAME["structure.contacts"]
    random, turned = np.random.default_rng(5), chain[1][[3, 4, 5, 6, 7, 8, 9, 0, 1, 2]]
    model = [observe(elastic_frames(random, turned, 200), protein, settings) for _ in range(8)]
    result = run_comparison(spec, model, Target(protein, ensembles["reference"], 320.0, wide), "chain")
    difference, correlation = result.detail["measures"]
    assert difference["value"] < difference["limit"]
    assert result.verdict == "fail"
    assert (result.quantity, result.direction) == ("Pearson r", "at least")
    assert (result.value, result.threshold) == (correlation["value"], correlation["limit"])
    assert not_decided_by_their_number([result.to_json()]) == []
