"""The reference that the example ships decides: enough lineages and samples that nothing else has used."""

import pytest

from cgloop.config.load import load_config
from cgloop.data.dataset import DatasetReader
from cgloop.data.refined import Refined
from cgloop.prep.pipeline import prepare
from cgloop.validate.controls import reference_control
from cgloop.validate.reference import reference_of

TRAINING, VALIDATION = (0, 1, 7, 13), (2, 5, 10)
DECIDING = ("structure.rmsd", "structure.q", "structure.rg", "structure.contacts")


@pytest.fixture(scope="module")
def example(repository, tmp_path_factory):
    config = load_config(repository / "examples" / "chignolin" / "config.yaml")
    out = tmp_path_factory.mktemp("example")
    # The map of forces does not matter here, and its fit takes longest.
    prepare(config.data.model_copy(update={"projection": "slice"}), out)
    return config, DatasetReader.open(out).load("cln025")


def test_unseen_lineages_suffice_and_the_reference_passes_its_own_checks(example):
    config, data = example
    split = config.data.split
    assert (tuple(split.train), tuple(split.validation)) == (TRAINING, VALIDATION)
    used = Refined(TRAINING, VALIDATION, (), False)
    reference = reference_of(data, 320.0, 320.0, config.validate_, "example", used)
    compared = reference.description["compared"]
    assert compared["with"] == "unseen"
    assert len(compared["unseen_lineages"]) >= 8
    assert min(compared["effective_samples"].values()) >= 30
    control = reference_control(reference.target, reference.name)
    assert {check: control[check]["verdict"] for check in DECIDING} == dict.fromkeys(DECIDING, "pass")


def test_the_first_nanosecond_of_every_lineage_is_left_out(example):
    config, data = example
    reference = reference_of(data, 320.0, 320.0, config.validate_, "example")
    assert reference.description["lineages"] == [[number] for number in range(17)]
    assert reference.description["skipped_frames"] == 17 * 250
    assert data.has_forces.sum() == 2000
