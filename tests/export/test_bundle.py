"""A bundle describes itself, and is refused when it is not what it says."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle, read_trained, write_bundle
from cgloop.export.stage import export_stage
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces, flatten_params
from cgloop.stages import digest_file
from tests.md.model_worlds import CUTOFF_A, config, protein, small_model, write_world


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "source.yaml").write_text("bond: 1\n")
    out = folder / "out"
    out.mkdir()
    write_bundle(out, *small_model(), temperature_K=320.0, priors_yaml=folder / "source.yaml", training={"epochs": 3})
    return out


@pytest.fixture
def copy(bundle, tmp_path):
    """A bundle that may be damaged."""
    out = tmp_path / "copy"
    out.mkdir()
    for file in bundle.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    return out


def test_round_trip(bundle):
    loaded = load_bundle(bundle)
    model, params = small_model()
    assert loaded.model == model
    for name, array in flatten_params(params).items():
        found = flatten_params(loaded.params)[name]
        # The comparison of arrays takes (1,) for ().
        assert found.shape == np.shape(array)
        np.testing.assert_array_equal(found, array)
    one = protein(8)
    graph = build_graph(one.residue_type, one.linked, one.positions[0], CUTOFF_A)
    found = jax.jit(loaded.function)(one.positions[0], graph)
    expected = jax.jit(partial(energy_and_forces, model, params))(one.positions[0], graph)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-6)


def test_manifest(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text())
    names = {"model.stablehlo", "model.mlir", "params.safetensors", "priors.yaml"}
    assert set(manifest["files"]) == names
    assert {path.name for path in bundle.iterdir()} == names | {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert digest_file(bundle / name) == digest
    assert manifest["cutoff_A"] == CUTOFF_A
    assert manifest["temperature_K"] == 320.0
    assert manifest["types"][18] == {"id": 18, "lammps_type": 19, "name": "TYR", "mass": 163.1733, "trained": True}
    assert manifest["module"]["jax"] == jax.__version__
    assert manifest["energy"]["prior_weights"] == dict.fromkeys(("bond", "angle", "dihedral", "repulsion"), 1.0)
    assert manifest["training"] == {"epochs": 3}


def test_no_place_of_this_machine_is_in_it(bundle, repository, tmp_path_factory):
    for file in bundle.iterdir():
        content = file.read_bytes()
        for place in (str(repository), str(tmp_path_factory.getbasetemp()), "site-packages", "/root", "/home"):
            assert place.encode() not in content, file.name


@pytest.mark.parametrize("name", ["model.stablehlo", "model.mlir", "params.safetensors", "priors.yaml"])
def test_a_changed_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match="does not match its digest") as caught:
        load_bundle(copy)
    assert caught.value.where == copy / name


def test_a_missing_file_is_named(copy):
    (copy / "model.stablehlo").unlink()
    with pytest.raises(UserError, match=r"model\.stablehlo: file of the bundle is missing"):
        load_bundle(copy)


def test_no_bundle(tmp_path):
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 99}', '{"schema_version": 1, "files": {}}'])
def test_a_manifest_that_cannot_be_used(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=r"manifest\.json"):
        load_bundle(copy)


def test_an_exporter_that_is_newer_than_this_jax(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["module"]["jax"] = "99.1.0"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"exported by jax 99\.1\.0"):
        load_bundle(copy)


def test_stage(tmp_path):
    paths = write_world(tmp_path / "world", "prior-only")
    (tmp_path / "priors.yaml").write_text("bond: 1\n")
    (paths["train"] / "summary.json").write_text('{"best_epoch": 12}')
    (tmp_path / "out").mkdir()
    manifest = export_stage(config(), paths["prep"], paths["train"], tmp_path / "priors.yaml", tmp_path / "out")
    assert manifest["training"] == {"best_epoch": 12}
    assert manifest["energy"]["kind"] == "prior-only"
    assert not any(entry["trained"] for entry in manifest["types"])
    assert load_bundle(tmp_path / "out").model.energy == "prior-only"


def test_the_manifest_carries_what_to_beware_of(tmp_path):
    """Mixed temperatures, scaled energies and files left out; without a network no residue type is untrained."""
    paths = write_world(tmp_path / "world", "prior-only")
    dataset = json.loads((paths["prep"] / "manifest.json").read_text())
    dataset["excluded_files"] = [{"source": "bad.h5", "reason": "truncated"}]
    for entry in dataset["proteins"].values():
        entry["frames_per_temperature"] = {"320": 10, "450": 10}
    (paths["prep"] / "manifest.json").write_text(json.dumps(dataset))
    params = load_file(paths["train"] / "params.safetensors")
    (name,) = (key for key in params if key.endswith("weights"))
    params[name] = np.array([0.5, 1, 1, 1, 1, 1], np.float32)
    (paths["train"] / "params.safetensors").write_bytes(save(params))
    (tmp_path / "priors.yaml").write_text("bond: 1\n")
    (tmp_path / "out").mkdir()
    mixed = config()
    mixed = mixed.model_copy(update={"priors": mixed.priors.model_copy(update={"temperatures": "mixed"})})
    manifest = export_stage(mixed, paths["prep"], paths["train"], tmp_path / "priors.yaml", tmp_path / "out")
    found = {caution["kind"]: caution["detail"] for caution in manifest["cautions"]}
    assert found == {
        "mixed-temperatures": {"temperatures_K": [320.0, 450.0], "model_temperature_K": 320.0},
        "energy-weights": {"weights": {"bond": 0.5}},
        "excluded-files": {"files": [{"source": "bad.h5", "reason": "truncated"}]},
    }
    assert load_bundle(tmp_path / "out").manifest["cautions"] == manifest["cautions"]


def test_no_trained_model(tmp_path):
    with pytest.raises(UserError, match="no trained model"):
        read_trained(tmp_path)
