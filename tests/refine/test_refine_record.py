"""The record of a refinement: written, read, and shown on the page."""

import json

import numpy as np
import pytest

from cgloop.config.refine import RefinementConfig
from cgloop.data.refined import read_refined
from cgloop.model.terms import PriorForms, zero_prior
from cgloop.refine.outcome import prior_curves, refined_protein
from cgloop.refine.result import RefineResult, read_result
from cgloop.report import refine_section
from cgloop.report.gather import CycleFiles
from tests.refine.dimers import dimer, point, refinement

SETTINGS = {"rounds": 4, "chains": 8, "frames_per_round": 4, "round_ps": 0.4, "outside_share": 0.0}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A short refinement of a bond and its record, in the folder of a cycle."""
    cycle = tmp_path_factory.mktemp("runs") / "cycle_000"
    out = cycle / "refine"
    out.mkdir(parents=True)
    config = RefinementConfig.model_validate(SETTINGS)
    whole = refinement(dimer(30.0, frames=600), 12.0, out / "checkpoints", config)
    finished = whole.run()
    (chains,) = whole._proteins
    found = refined_protein(
        chains, finished.before["dimer"], finished.after["dimer"], point(12.0), finished.params, (7,)
    )
    subjects = [chains.subject]
    forms = PriorForms(contacts=True)
    before = zero_prior()._replace(contact_energy=np.zeros((20, 20)), angle_coeffs=np.array([0.0, 1.0]))
    after = before._replace(contact_energy=np.full((20, 20), -0.5), angle_coeffs=np.array([0.0, 2.0]))
    result = RefineResult(
        parameters="prior", temperature_K=300.0, settings=config.model_dump(mode="json"), force_weight_scale={},
        first_frames=0, stopped=finished.progressed.stopped, failed=False,
        kept_round=finished.progressed.kept_round, rounds=finished.progressed.rounds,
        candidates=finished.progressed.candidates, proteins={"dimer": found},
        prior_curves=prior_curves("prior", forms, before, after, subjects), caveats=["one thing"],
    )  # fmt: skip
    result.write(out)
    return cycle, result


def test_it_is_read_as_it_was_written(done):
    cycle, result = done
    assert read_result(cycle / "refine") == result
    assert read_result(cycle) is None


def test_other_rooms_read_what_was_used(done):
    cycle, _ = done
    (found,) = read_refined(cycle / "refine").values()
    assert found.used == {0, 1, 2, 3, 4, 5, 7}
    assert not found.populations_determined


def test_energies_of_beads_add_up_to_the_change_of_the_bond(done):
    """Each bead has half of ½ (k − 12) (r − r0)² averaged over training frames."""
    _, result = done
    changes = result.proteins["dimer"].bead_energy_change
    assert changes[0] == pytest.approx(changes[1])
    assert changes[0] > 0


def test_distributions_are_densities(done):
    _, result = done
    for one in result.proteins["dimer"].histograms:
        for values in (one.reference, one.before, one.after):
            assert np.dot(values, np.diff(one.edges)) == pytest.approx(1.0, abs=1e-2)


def test_curves_are_those_of_the_keys_that_occur(done):
    _, result = done
    assert [(one.term, one.label) for one in result.prior_curves] == [
        ("angle", "all"), ("contact", "ALA-ALA"), ("contact", "ALA-GLY"), ("contact", "GLY-GLY"),
    ]  # fmt: skip
    angle = result.prior_curves[0]
    # 2 cos θ and cos θ from their minima at 180°.
    np.testing.assert_allclose(np.array(angle.after), 2 * np.array(angle.before), atol=1e-3)
    assert result.prior_curves[1].after == [-0.5]


def test_the_page_shows_it(done):
    cycle, _ = done
    section = refine_section.make(CycleFiles(0, cycle), ["dimer"])
    assert section is not None
    assert "prior's terms in 4 rounds" in section.intro
    assert section.notes == ["One thing."]
    ids = [figure.id for figure in section.figures]
    assert len(ids) == len(set(ids))
    assert {"refine-rmsd_A-dimer", "refine-ess-dimer", "refine-contacts-after-dimer", "refine-prior-angle"} <= set(ids)
    json.dumps([figure.to_json() for figure in section.figures], allow_nan=False)
    assert section.tables[0].rows[0][1] == "0, 1, 2"


def test_a_damaged_record_is_told(done, tmp_path):
    folder = tmp_path / "cycle_000" / "refine"
    folder.mkdir(parents=True)
    (folder / "refine.json").write_text('{"parameters": "prior"}')
    section = refine_section.make(CycleFiles(0, folder.parent), [])
    assert section is not None
    assert "damaged" in section.notes[0]


def test_without_a_refinement_there_is_no_section(tmp_path):
    assert refine_section.make(CycleFiles(0, tmp_path), []) is None
