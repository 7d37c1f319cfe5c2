"""The file for `pair_style chemtrain_deploy`: its bytes, its message, its module."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from cgloop.export.bundle import write_bundle
from cgloop.export.chemtrain_deploy import ARGUMENTS, RESULTS, ModelMessage, export_network, write_ptb
from cgloop.export.emulate import read_ptb
from cgloop.stages import digest_file
from tests.md.model_worlds import CUTOFF_A, small_model, small_painn


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("ptb") / "model.ptb"
    write_ptb(path, *small_model())
    return path


@pytest.fixture(scope="module")
def text(file):
    return read_ptb(file).text


def fields_of(data):
    """(number, wire type, value) of each field of a protobuf message, read as the encoding's documentation says."""
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            size = {2: varint, 5: lambda: 4}[key & 7]()
            value, at = data[at : at + size], at + size
        found.append((key >> 3, key & 7, value))
    return found


def test_bytes_are_the_message_of_chemtrain(file, text):
    """Numbers and types of its fields, without the class that wrote them."""
    module, neighbors, units = fields_of(file.read_bytes())
    assert module == (1, 2, text.encode())
    assert units == (5, 2, b"real")
    assert neighbors[:2] == (4, 2)
    assert fields_of(neighbors[2]) == [
        (1, 0, 0),
        (2, 5, np.float32(CUTOFF_A).tobytes()),
        (3, 0, 1),
        (3, 0, 2),
        (4, 0, 0),
    ]


def test_kinds_of_neighbor_lists():
    """Their numbers are not in order."""
    kinds = ModelMessage.DESCRIPTOR.enum_types_by_name["NeighborListType"]
    assert {value.name: value.number for value in kinds.values} == {
        "SIMPLE_SPARSE": 0,
        "DEVICE_SPARSE": 1,
        "SIMPLE_DENSE": 2,
    }
    assert ModelMessage.DESCRIPTOR.full_name == "chemsim.Model"


def test_a_message_without_a_module_is_none():
    with pytest.raises(Exception, match="missing required"):
        ModelMessage().SerializeToString()


def test_several_hops(tmp_path):
    found = write_ptb(tmp_path / "model.ptb", *small_painn())
    assert found["nbr_order"] == [2, 4]
    assert read_ptb(tmp_path / "model.ptb").nbr_order == (2, 4)
    assert found["contains"].startswith("the network PaiNN alone")


def test_module_is_for_one_platform_and_an_older_convention():
    exported = export_network(*small_model())
    assert exported.platforms == ("cuda",)
    assert exported.calling_convention_version == 9
    assert exported.module_kept_var_idx == tuple(range(len(ARGUMENTS)))
    for avals, described in ((exported.in_avals, ARGUMENTS), (exported.out_avals, RESULTS)):
        found = [(", ".join(str(size) for size in aval.shape), str(aval.dtype)) for aval in avals]
        assert found == list(described.values())


def test_text_takes_the_arguments_of_the_plugin(text):
    main = re.search(r"func public @main\((.*?)\) -> \((.*?)\) \{$", text, re.MULTILINE)
    kinds = [re.findall(r"tensor<([^>]*)>", part) for part in main.groups()]
    assert kinds == [
        ["?x3xf32", "?xi32", "i32", "i32", "i1", "?xi32", "?xi32", "?xi1"],
        ["?x3xf32", "f32", "i32", "i32"],
    ]
    assert "jax.uses_shape_polymorphism = true" in text


@pytest.mark.parametrize("made", [small_model, small_painn])
def test_text_has_nothing_that_is_special_to_a_platform(made, tmp_path):
    """The plugin's loader takes operations of these dialects alone; what is called is the check of sizes alone."""
    write_ptb(tmp_path / "model.ptb", *made())
    text = read_ptb(tmp_path / "model.ptb").text
    operations = set(re.findall(r"^\s*(?:%[\w:, %#]+ = )?\"?([a-z_]+)\.[a-z_]+", text, re.MULTILINE))
    assert operations == {"func", "stablehlo"}
    assert set(re.findall(r"custom_call @([\w.]+)", text)) == {"shape_assertion"}


def test_no_place_of_this_machine_is_in_it(file, repository):
    content = file.read_bytes()
    for trace in (str(repository), "cgloop", "site-packages", ".py", sys.prefix, "loc("):
        assert trace.encode() not in content


def test_same_bytes_in_another_process(file, repository, tmp_path):
    code = (
        "import sys, pathlib; from tests.md.model_worlds import small_model;"
        "from cgloop.export.chemtrain_deploy import write_ptb; write_ptb(pathlib.Path(sys.argv[1]), *small_model())"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again.ptb")], cwd=repository, check=True)
    assert (tmp_path / "again.ptb").read_bytes() == file.read_bytes()


def test_prior_terms_are_not_in_it(file, tmp_path):
    model, params = small_model()
    stiffer = {**params, "prior": params["prior"]._replace(bond_k=np.float32(999.0))}
    write_ptb(tmp_path / "model.ptb", model, stiffer)
    assert (tmp_path / "model.ptb").read_bytes() == file.read_bytes()


def test_without_a_network_there_is_no_file(tmp_path):
    model, params = small_model("prior-only")
    assert write_ptb(tmp_path / "model.ptb", model, params) == {"file": None, "reason": "the model has no network"}
    assert not (tmp_path / "model.ptb").exists()
    with pytest.raises(ValueError, match="no network"):
        export_network(model, params)


def test_a_jax_that_has_given_up_the_convention(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(jax.export, "minimum_supported_calling_convention_version", 10)
    found = write_ptb(tmp_path / "model.ptb", *small_model())
    assert found["file"] is None
    assert "no longer writes calling convention 9" in found["reason"]
    assert "no model.ptb" in caplog.text


def test_configuration_is_restored(file):
    assert jax.config.jax_export_calling_convention_version == jax.export.maximum_supported_calling_convention_version
    assert jax.config.jax_traceback_in_locations_limit != 0


def test_bundle_has_the_file_and_says_what_it_is(tmp_path):
    manifest = write_bundle(tmp_path, *small_model(), temperature_K=320.0)
    assert manifest["files"]["model.ptb"] == digest_file(tmp_path / "model.ptb")
    found = manifest["chemtrain_deploy"]
    assert {key: found[key] for key in ("cutoff_A", "nbr_order", "half_list", "unit_style", "calling_convention")} == {
        "cutoff_A": CUTOFF_A,
        "nbr_order": [1, 2],
        "half_list": False,
        "unit_style": "real",
        "calling_convention": 9,
    }
    assert found["jax"] == jax.__version__
    assert found["checked"] == "by emulation, not with the plugin"


def test_bundle_of_prior_terms_alone(tmp_path):
    manifest = write_bundle(tmp_path, *small_model("prior-only"), temperature_K=320.0)
    assert "model.ptb" not in manifest["files"]
    assert manifest["chemtrain_deploy"] == {"file": None, "reason": "the model has no network"}
