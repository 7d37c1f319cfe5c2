"""What a refined model is judged by: lineages that the refinement did not use, where they suffice."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cgloop.cautions import protein_cautions
from cgloop.checks import jsonable
from cgloop.config.validate import ValidateConfig
from cgloop.data.refined import Refined, read_refined
from cgloop.errors import UserError
from cgloop.validate.observables import observe
from cgloop.validate.reference import reference_of
from cgloop.validate.structural import note_whole, structural_results
from tests.validate.builders import elastic_frames
from tests.validate.test_lineages import FRAMES, data_of

SETTINGS = ValidateConfig(noise_blocks=20)
REPLICAS = (0, 1, 2, 3, 4, 5, 6, 7)
UNSEEN = tuple(f"replica {number}" for number in REPLICAS[3:])


def refined(training=(0, 1), stopping=(2,), started_from=(), determined=True):
    return Refined(training, stopping, started_from, determined)


def judged_by(chain, used, *, settings=SETTINGS, replicas=REPLICAS, data=None):
    data = data or data_of(native=chain[1], replicas=replicas)
    return reference_of(data, 320.0, 320.0, settings, "here", used)


def test_a_model_that_was_not_refined_is_judged_by_the_whole_reference(chain):
    reference = judged_by(chain, None)
    assert len(reference.frames) == len(REPLICAS)
    assert reference.whole is None
    assert "compared" not in reference.description


def test_a_refined_model_is_judged_by_what_was_not_used(chain):
    reference = judged_by(chain, refined())
    assert reference.target.lineages == UNSEEN
    assert reference.whole.lineages == tuple(f"replica {number}" for number in REPLICAS)
    found = reference.description["compared"]
    assert (found["with"], found["used_replicas"]) == ("unseen", [0, 1, 2])
    assert set(found["effective_samples"]) == {"CA-RMSD to native", "fraction of native contacts", "radius of gyration"}
    assert min(found["effective_samples"].values()) >= 30
    # Counts of the parts are those of all frames: the caution about training frames needs them.
    assert reference.trained_frames == len(REPLICAS) * FRAMES


@pytest.mark.parametrize(
    ("used", "left", "why"),
    [
        (refined(training=(0, 1, 2, 3, 4), stopping=(5,)), ["replica 6", "replica 7"], "not used is 2, 3 are"),
        (refined(started_from=(4, 5, 6, 7)), ["replica 3"], "not used is 1, 3 are"),
        (refined(training=REPLICAS), [], "not used is 0, 3 are needed"),
    ],
)
def test_too_few_unseen_lineages_do_not_suffice(chain, used, left, why):
    reference = judged_by(chain, used)
    assert len(reference.frames) == len(REPLICAS)
    assert reference.whole is None
    found = reference.description["compared"]
    assert (found["with"], found["unseen_lineages"]) == ("all", left)
    assert why in found["why"]


def test_unseen_lineages_that_differ_have_too_few_samples(chain):
    """Each is well sampled, and the scatter of their means says that they are three samples."""
    data = data_of(native=chain[1], replicas=REPLICAS)
    size = np.repeat([1.0, 1.0, 1.0, 0.9, 1.0, 1.1, 0.95, 1.05], FRAMES)[:, None, None]
    reference = judged_by(chain, refined(), data=replace(data, positions=(data.positions * size).astype(np.float32)))
    assert reference.whole is None
    found = reference.description["compared"]
    assert found["effective_samples"]["radius of gyration"] < 5
    assert "of the radius of gyration, 30 are needed" in found["why"]


def test_a_lineage_is_used_if_any_of_its_replicas_is(chain):
    settings = ValidateConfig(noise_blocks=20, lineages={"chain": [[0, 3]]})
    reference = judged_by(chain, refined(stopping=()), settings=settings)
    assert reference.target.lineages == ("replica 2", *UNSEEN[1:])


def test_the_whole_reference_stands_beside_what_judges(chain):
    reference = judged_by(chain, refined())
    rng = np.random.default_rng(1)
    native = chain[1]
    model = [observe(elastic_frames(rng, native, FRAMES, 0.3), reference.protein, SETTINGS) for _ in range(4)]
    results = structural_results(model, reference, lambda check: None)
    before = {result.check: result.value for result in results}
    note_whole(results, model, reference)
    assert {result.check: result.value for result in results} == before
    (rmsd,) = [result for result in results if result.check == "structure.rmsd"]
    beside = rmsd.detail["whole_reference"]
    whole = judged_by(chain, None)
    expected = next(r for r in structural_results(model, whole, lambda check: None) if r.check == "structure.rmsd")
    assert beside["value"] == pytest.approx(expected.value)
    assert beside["value"] != rmsd.value
    plain = structural_results(model, whole, lambda check: None)
    note_whole(plain, model, whole)
    assert not any("whole_reference" in result.detail for result in plain)


def test_a_caution_says_that_what_was_used_is_compared_with(chain):
    def texts(reference):
        entry = {"reference": jsonable(reference.description)}
        return [one.text for one in protein_cautions({"chain": entry}) if one.kind == "matched-reference"]

    assert texts(judged_by(chain, refined())) == texts(judged_by(chain, None)) == []
    (text,) = texts(judged_by(chain, refined(training=REPLICAS)))
    assert "what its refinement used included: the number of lineages that were not used is 0, 3 are needed" in text
    assert "matched, not predicted" in text


def test_the_record_of_a_refinement_is_read_or_refused(tmp_path):
    assert read_refined(tmp_path) == {}
    used = {"training": [0, 1], "stopping": [2], "started_from": []}
    entry = {"used": used, "populations_determined": False, "more": 1}
    (tmp_path / "refine.json").write_text(json.dumps({"proteins": {"chain": entry}}))
    assert read_refined(tmp_path) == {"chain": refined(determined=False)}
    assert read_refined(tmp_path)["chain"].used == {0, 1, 2}
    (tmp_path / "refine.json").write_text(json.dumps({"proteins": {"chain": {"used": used}}}))
    with pytest.raises(UserError, match="run `cgloop refine` again"):
        read_refined(tmp_path)
