"""What a model's user has to know: found where it is, silent where it is not."""

import json

import pytest

from cgloop.cautions import KINDS, gate_cautions, model_cautions, protein_cautions
from cgloop.residues import RESIDUES


def dataset(*temperatures, excluded=()):
    """A data set's manifest; each protein has frames of its own temperatures."""
    return {
        "temperature_K": 320.0,
        "proteins": {f"p{i}": {"frames_per_temperature": dict(one)} for i, one in enumerate(temperatures)},
        "excluded_files": list(excluded),
    }


def cautions(**changes):
    plain = {"dataset": dataset({"320": 10}), "mixed": False, "energy_weights": {"bond": 1.0}, "untrained": []}
    return model_cautions(**{**plain, **changes})


def test_a_plain_model_has_none():
    assert cautions() == []


def test_mixed_temperatures_are_told_with_all_of_them():
    (found,) = cautions(dataset=dataset({"320": 10, "450": 7}, {"379": 3}), mixed=True)
    assert found.kind == "mixed-temperatures"
    assert found.detail == {"temperatures_K": [320.0, 379.0, 450.0], "model_temperature_K": 320.0}
    assert "320, 379 and 450 K" in found.text


@pytest.mark.parametrize(
    ("temperatures", "mixed"),
    [({"320": 10, "450": 7}, False), ({"320": 10}, True)],
    ids=["other frames are there and not used", "allowed, and nothing to mix"],
)
def test_temperatures_that_were_not_mixed(temperatures, mixed):
    assert cautions(dataset=dataset(temperatures), mixed=mixed) == []


def test_frames_of_another_temperature_alone():
    """They do not make a model of 320 K, either."""
    (found,) = cautions(dataset=dataset({"450": 7}), mixed=True)
    assert found.text.startswith("Fitted to frames of 450 K, and judged at 320 K")


def test_energy_weights_other_than_one():
    (found,) = cautions(energy_weights={"bond": 0.5, "angle": 1.0, "dihedral": 0.0})
    assert found.detail == {"weights": {"bond": 0.5, "dihedral": 0.0}}
    assert "bond × 0.5 and dihedral × 0" in found.text


def test_excluded_files_are_counted_and_the_first_named():
    files = [{"source": f"f{i}.h5", "reason": "truncated"} for i in range(48)]
    (found,) = cautions(dataset=dataset({"320": 1}, excluded=files))
    assert found.text.startswith("48 source files")
    assert "f0.h5" in found.text
    assert "42 more" in found.text
    assert found.detail["files"] == files
    (one,) = cautions(dataset=dataset({"320": 1}, excluded=files[:1]))
    assert one.text.startswith("1 source file could not be used")


def test_residue_types_without_training():
    names = [residue.name for residue in RESIDUES[:13]]
    (found,) = cautions(untrained=names)
    assert found.text.startswith("13 of 20 residue types")
    assert all(name in found.text for name in names)


def test_simulated_proteins_with_such_residues():
    found = protein_cautions({"b": {"untrained_types": ["ALA", "LYS"]}, "a": {"untrained_types": []}, "c": {}})
    assert [(one.kind, one.detail["protein"]) for one in found] == [("untrained-protein", "b")]
    assert "ALA and LYS" in found[0].text


def test_all_kinds_come_in_one_order_and_as_plain_data():
    found = cautions(
        dataset=dataset({"320": 1, "450": 1}, excluded=[{"source": "x.h5", "reason": "?"}]), mixed=True,
        energy_weights={"bond": 2.0}, untrained=["ALA"], refined={"p": [0, 1]}, undetermined=["p"],
    )  # fmt: skip
    moved = {"minimization": {"max_rmsd_A": 3.0, "rmsd_caution_A": 2.0}}
    compared = {"with": "all", "why": "the number of lineages that were not used is 1, 3 are needed"}
    reference = {"splits": {"train": 10}, "relaxing": ["structure.q"], "compared": compared}
    trained_on = {"reference": reference, **moved}
    found += protein_cautions({"p": {"untrained_types": ["ALA"], **trained_on}}) + gate_cautions(["a"], ["a", "b"])
    assert tuple(one.kind for one in found) == KINDS
    assert json.loads(json.dumps([one.to_json() for one in found]))[1]["detail"] == {"weights": {"bond": 2.0}}
    assert all(one.text.endswith(".") and len(one.text) < 250 for one in found)
