"""The sections on data and priors, and cautions on page and card: from one protein to five thousand."""

import json

import numpy as np
import pytest
from scipy import stats

from cgloop.report import card, data_figures, data_section, prior_figures, priors_section
from cgloop.report.data_facts import read_facts, spread
from cgloop.report.gather import read_run_files
from cgloop.report.page import write_report
from cgloop.residues import RESIDUES
from tests.report import builders
from tests.report.soundness import require_sound
from tests.report.test_page import Page, page_of

MANY = 5000


@pytest.fixture(scope="module")
def cycle(passing_run):
    return read_run_files(passing_run).latest


@pytest.fixture(scope="module")
def many_run(tmp_path_factory):
    """Five thousand proteins, and fifty files that could not be used."""
    run = builders.write_run(tmp_path_factory.mktemp("runs") / "many", "pass")
    random = np.random.default_rng(5)
    names = [f"dom{i:04d}A00" for i in range(MANY)]
    prep = run / "cycle_000" / "prep"
    manifest = json.loads((prep / "manifest.json").read_text())
    entry = manifest["proteins"]["cln025"]
    manifest["proteins"] = {name: {**entry, "beads": int(random.integers(50, 500))} for name in names}
    manifest["excluded_files"] = [{"source": f"bad{i}.h5", "reason": "too many bad frames"} for i in range(50)]
    builders.write_json(prep / "manifest.json", manifest)
    lost = {"dom0007A00": {builders.OVERLAP: 900}, "dom0011A00": {"all-zero forces": 30}}
    builders.write_json(
        prep / "quarantine.json",
        {"proteins": {name: builders.quarantine(2000, lost.get(name, {})) for name in names}},
    )
    virials = 1.0 + 0.2 * random.normal(size=MANY)
    virials[42] = 3.0
    forces = {name: builders.projection(float(virial)) for name, virial in zip(names, virials, strict=True)}
    builders.write_json(prep / "projection.json", {"proteins": forces})
    return run


def figure(figures, name):
    return next(one for one in figures if one.id == name)


def test_numbers_of_the_force_maps_are_in_figure_and_table(cycle):
    facts = read_facts(cycle)
    shown = figure(data_figures.projection(facts), "data-projection")
    assert {trace["name"]: trace["y"][0] for trace in shown.data} == pytest.approx(
        {"slice": 715.4, "basic": 632.2, "optimal": 157.5, "noise, at most": 8.9**2}
    )
    ratios = {trace["name"]: trace["x"][0] for trace in figure(data_figures.virial(facts), "data-virial").data}
    assert ratios == pytest.approx({"slice": 2.52, "basic": 1.27, "optimal": 1.02})
    frames, forces = data_section.make(cycle).tables[:2]
    row = dict(zip(forces.head, forces.rows[0], strict=True))
    assert row["optimal"] == "157.5 ± 1.6"
    assert row["noise"] == "8.900 ± 0.070"
    assert row["can be explained"] == f"{100 * (1 - (8.9 / 12.6) ** 2):.0f} %"
    assert frames.rows == [["cln025", "10", "2,007", "2,000", "1,000", "500", "500"]]


def test_what_was_set_aside_and_left_out_is_told_with_reasons(passing_run):
    words = page_of(passing_run).text
    assert "2,007 frames read, 2,000 kept (1,000 for training, 500 for validation and 500 for the test)" in words
    assert "overlapping heavy atoms 5 1 cln025 (5) all-zero forces 2 1 cln025 (2)" in words
    assert "broken.h5 truncated file" in words


def test_changed_periodic_images_are_counted(tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    path = run / "cycle_000" / "prep" / "quarantine.json"
    assert not any("Periodic images" in note for note in data_section.make(read_run_files(run).latest).notes)
    quarantine = json.loads(path.read_text())
    quarantine["proteins"]["cln025"]["frames_moved"] = 1203
    builders.write_json(path, quarantine)
    notes = data_section.make(read_run_files(run).latest).notes
    assert "Periodic images of atoms were changed in 1,203 of 2,007 frames: cln025 (1,203)." in notes


def test_without_forces_and_noise_there_are_gaps_and_no_guesses(tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    prep = run / "cycle_000" / "prep"
    unknown = builders.projection(noise=None)
    unknown["mean_squared_force"] = {name: {"value": None, "error": None} for name in unknown["mean_squared_force"]}
    unknown["virial"] = []
    unknown["keeps_rigid_bonds"]["optimal"] = False
    unknown["fit"]["unavailable"] = "no good training frame"
    builders.write_json(prep / "projection.json", {"proteins": {"cln025": unknown}})
    (prep / "quarantine.json").unlink()
    section = data_section.make(read_run_files(run).latest)
    assert section.figures == []
    assert ["cln025", "–", "–", "–", "–", "–"] in [row for table in section.tables for row in table.rows]
    assert any("splits rigid bonds" in note for note in section.notes)
    assert any("no good training frame" in note for note in section.notes)


def test_five_thousand_proteins_are_told_as_distributions_and_exceptions(many_run, passing_run):
    path = write_report(many_run)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.problems == []
    assert path.stat().st_size < write_report(passing_run).stat().st_size + 100_000
    assert "5,000 proteins of 50 to 499 beads: 10,000,000 frames read, 9,999,070 kept" in page.text
    assert "dom0007A00" in page.text
    assert "45.0 % of its frames set aside" in page.text
    assert "dom0042A00" in page.text
    assert "virial 10 standard errors above 1" in page.text
    assert "bad0.h5" in page.text
    assert "40 more" in page.text
    assert page.text.count("dom0") < 40


def test_boxes_and_deviations_of_many_are_those_of_the_values(many_run):
    facts = read_facts(read_run_files(many_run).latest)
    boxes = {trace["name"]: trace for trace in data_figures.projection(facts)[0].data}
    assert boxes["optimal"]["values"][2] == 157.5
    shown = data_figures.virial(facts)[0]
    bars, expected = shown.data
    assert sum(bars["y"]) == MANY
    assert bars["y"][-1] >= 1  # the one that is 10 standard errors off is in the last bin
    at = expected["x"].index(0.0)
    assert expected["y"][at] == pytest.approx(MANY * 0.5 * stats.norm.pdf(0.0), rel=1e-3)
    assert abs(bars["y"][11] - MANY * 0.5 * stats.norm.pdf(0.25)) < 5 * np.sqrt(1000)
    for one in (*data_figures.projection(facts), shown):
        require_sound(one)


def test_spread_leaves_out_what_is_not_known():
    assert spread([None, 1.0, 2.0, 3.0]) == pytest.approx([1.0, 1.1, 2.0, 2.9, 3.0])
    assert spread([None]) == []


def test_force_errors_of_the_prior_are_in_the_table(cycle):
    section = priors_section.make(cycle)
    rows = {row[0]: row[1:] for row in section.tables[0].rows}
    assert rows["validation, inverted"] == ["9.354", "44.8 %", "89.8 %"]
    assert rows["validation, refined"] == ["9.351", "44.9 %", "90.0 %"]
    assert rows["training, no model"] == ["12.587", "–", "–"]
    assert "8.914" in section.tables[0].caption
    assert "refined together" in section.intro
    assert "spline dihedrals" in section.intro


def keyed_curves(kind):
    """Curves of a fit with parameters by class (3 keys, 9 pairs) or by residue type (20 keys, 400 pairs)."""
    names = [r.name for r in RESIDUES] if kind == "residue" else ["other", "GLY", "PRO"]
    theta, phi = np.linspace(1, 179, 45), np.linspace(-179, 179, 90)
    keys = [{"term": "bond", "key": n, "samples": 100 + i, "k": 100.0 + i, "r0": 3.8} for i, n in enumerate(names)]
    keys += [
        {"term": "angle", "key": n, "samples": 10 + i, "grid": theta.tolist(), "fitted": (theta / 40).tolist()}
        for i, n in enumerate(names)
    ]
    pairs = [f"{a}-{b}" for a in names for b in names]
    keys += [
        {"term": "dihedral", "key": n, "samples": i + 1, "grid": phi.tolist(), "fitted": np.abs(phi / 20).tolist()}
        for i, n in enumerate(pairs)
    ]
    return keys


def with_curves(folder, **changes):
    run = builders.write_run(folder / "r", "pass")
    path = run / "cycle_000" / "priors" / "curves.json"
    builders.write_json(path, {**json.loads(path.read_text()), **changes})
    return run


@pytest.mark.parametrize("kind", ["class", "residue"])
def test_keyed_terms_are_lines_where_few_and_maps_where_many(kind, tmp_path):
    run = with_curves(tmp_path, keys=keyed_curves(kind))
    figures = prior_figures.keyed(read_run_files(run).latest)
    assert [one.id for one in figures] == ["prior-bond-keys", "prior-angle-keys", "prior-dihedral-keys"]
    for one in figures:
        require_sound(one)
    angle, dihedral = figures[1:]
    assert len(angle.data) == (3 if kind == "class" else 1)
    rows = dihedral.layout["y"]["names"]
    assert len(rows) == (9 if kind == "class" else prior_figures.MOST_ROWS)
    assert rows[0] == ("PRO-PRO" if kind == "class" else "VAL-VAL")  # most samples
    assert ("360 keys" in dihedral.caption) == (kind == "residue")
    assert page_of(run).problems == []


def test_pair_terms_show_only_residues_that_met(tmp_path):
    energy, contacts = np.zeros((20, 20)), np.zeros((20, 20))
    energy[0, 1] = energy[1, 0] = -0.4
    contacts[0, 1] = contacts[1, 0] = 12
    pairs = [
        {"term": "electrostatics", "unit": "Å", "grid": [3.0, 4.0], "fitted": [1.0, 0.6], "debye_length_A": 7.9,
         "about": "two like unit charges"},
        {"term": "contact", "residues": [r.name for r in RESIDUES], "energy": energy.tolist(),
         "contacts": contacts.tolist()},
    ]  # fmt: skip
    run = with_curves(tmp_path, pairs=pairs)
    electrostatics, contact = prior_figures.pairs(read_run_files(run).latest)
    assert electrostatics.data[0]["y"] == [1.0, 0.6]
    assert contact.data[0]["x"] == ["ALA", "ARG"]
    assert contact.data[0]["z"] == [[None, -0.4], [-0.4, None]]
    assert "Debye length 7.9 Å" in page_of(run).text
    for one in (electrostatics, contact):
        require_sound(one)


def test_cautions_stand_beside_the_verdict(passing_run, tmp_path):
    words = page_of(passing_run).text
    for caution in builders.CAUTIONS:
        assert words.index("All 9 required") < words.index(caution["text"]) < words.index("Force RMSE")
    begun = builders.write_run(tmp_path / "begun", "none", stages=builders.STAGES[:4])
    assert builders.CAUTIONS[0]["text"] in page_of(begun).text
    none = builders.write_run(tmp_path / "none", "pass")
    for name in ("verdict.json", "export/manifest.json"):
        path = none / "cycle_000" / name
        builders.write_json(path, {**json.loads(path.read_text()), "cautions": []})
    assert "Caution" not in page_of(none).text


def test_the_card_says_what_the_verdict_says(cycle):
    text = card.render("demo", cycle)
    assert text.startswith("# demo\n")
    assert "**pass**" in text
    for caution in builders.CAUTIONS:
        assert f"- **{caution['kind']}**: {caution['text']}" in text
    for expected in ("| temperature | 320 K |", "| residue types in training | TYR |", "broken.h5", "23.280 ± 0.040"):
        assert expected in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") - line.count("\\|") for line in tables} == {3, 7}


def test_cells_of_the_card_stay_in_their_row():
    assert card.cell("a | b\nc") == "a \\| b c"


def test_of_many_simulated_proteins_the_worst_have_plots(tmp_path):
    run = builders.write_run(tmp_path / "r", "pass")
    cycle = run / "cycle_000"
    names = [f"dom{i:03d}" for i in range(100)]
    md = json.loads((cycle / "md" / "md.json").read_text())
    md["proteins"] = dict.fromkeys(names, md["proteins"]["cln025"])
    builders.write_json(cycle / "md" / "md.json", md)
    builders.write_json(cycle / "validate" / "plots.json", {"proteins": dict.fromkeys(names, builders.plots())})
    verdict = json.loads((cycle / "verdict.json").read_text())
    every = [{**check, "subject": name} for name in names for check in verdict["checks"]]
    for check in every:
        if check["subject"] == "dom077" and check["check"] == "structure.q":
            check["verdict"] = "fail"
    builders.write_json(cycle / "verdict.json", {**verdict, "checks": every})
    path = write_report(run)
    page = Page(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 3_000_000
    assert page.problems == []
    assert "Plots of 8 of 100 proteins, those with the worst verdicts." in page.text
    ids = [part.split('"')[0] for part in path.read_text(encoding="utf-8").split('data-figure="c0-rmsd-dom')[1:]]
    assert len(ids) == 8
    assert "077" in ids
    assert f"{100 * len(verdict['checks']) - 200:,} other checks" in page.text
    assert "76 others are no worse." in page.text
