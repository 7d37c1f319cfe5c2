"""A bundle describes itself, and is refused when it is not what it says."""

import getpass
import json
import shutil
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax import export
from safetensors.numpy import load_file, save

from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle, platform_here, read_trained, write_bundle
from cgloop.export.manifest import add_outcome, find_bundle, foreign_files, read_manifest
from cgloop.export.stage import export_stage
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces, flatten_params
from cgloop.pipeline import BY_NAME
from cgloop.stages import digest_file, digest_files
from tests.md.model_worlds import CUTOFF_A, config, protein, small_model, write_world

FILES = ("model.cpu.stablehlo", "model.cuda.stablehlo", "model.mlir", "model.ptb", "params.safetensors", "priors.yaml")


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
    names = set(FILES)
    assert set(manifest["files"]) == names
    assert {path.name for path in bundle.iterdir()} == names | {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert digest_file(bundle / name) == digest
    assert manifest["cutoff_A"] == CUTOFF_A
    assert manifest["temperature_K"] == 320.0
    assert manifest["types"][18] == {"id": 18, "lammps_type": 19, "name": "TYR", "mass": 163.1733, "trained": True}
    module = manifest["module"]
    assert module["jax"] == jax.__version__
    assert module["jaxlib"] == version("jaxlib")
    assert module["files"] == {"cpu": "model.cpu.stablehlo", "cuda": "model.cuda.stablehlo"}
    assert module["text"] == {"model.mlir": ["cpu", "cuda"]}
    for platform, name in module["files"].items():
        exported = export.deserialize(bytearray((bundle / name).read_bytes()))
        assert exported.platforms == (platform,)
        assert exported.calling_convention_version == module["calling_convention"]
    assert module["loads_in"].startswith(f"jax {jax.__version__} and newer; promised for ")
    assert manifest["energy"]["prior_weights"] == dict.fromkeys(("bond", "angle", "dihedral", "repulsion"), 1.0)
    assert manifest["training"] == {"epochs": 3}


def test_no_place_of_this_machine_is_in_it(bundle, repository, tmp_path_factory):
    """No path and no time: the same model gives the same bytes anywhere."""
    places = (
        repository,
        tmp_path_factory.getbasetemp(),
        Path.home(),
        sys.prefix,
        tempfile.gettempdir(),
        "site-packages",
    )
    for file in bundle.iterdir():
        content = file.read_bytes()
        for trace in (*map(str, places), "/home/", ".py", "cgloop/", getpass.getuser() + "@"):
            assert trace.encode() not in content, file.name


def test_the_same_model_gives_the_same_bytes(bundle, tmp_path):
    out = tmp_path / "again"
    out.mkdir()
    source = bundle.parent / "source.yaml"
    write_bundle(out, *small_model(), temperature_K=320.0, priors_yaml=source, training={"epochs": 3})
    assert digest_files(out) == digest_files(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match="does not match its digest") as caught:
        load_bundle(copy)
    assert caught.value.where == copy / name


def test_a_missing_file_is_named(copy):
    (copy / "model.cuda.stablehlo").unlink()
    with pytest.raises(UserError, match=r"model\.cuda\.stablehlo: file of the bundle is missing"):
        load_bundle(copy)


def test_no_bundle(tmp_path):
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not the manifest of a bundle"),
        ('{"schema_version": "2"}', "not the manifest of a bundle"),
        ('{"schema_version": 99}', "made by a newer cgloop: schema version 99, this one reads 2"),
        ('{"schema_version": 2, "files": {}}', "incomplete manifest: no module, model, cutoff_A, temperature_K"),
        ('{"schema_version": 1, "proteins": {}}', "a data set, not a bundle"),
    ],
)
def test_a_manifest_that_cannot_be_used(copy, text, message):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_bundle(copy)


def changed(copy, change):
    """Change the manifest of a copy, with right digests for whatever files there are now."""
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    manifest["files"] = {name: digest_file(copy / name) for name in manifest["files"] if (copy / name).is_file()}
    (copy / "manifest.json").write_text(json.dumps(manifest))


def one_line(caught):
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_an_exporter_that_is_newer_than_this_jax(copy):
    changed(copy, lambda manifest: manifest["module"].update(jax="99.1.0"))
    with pytest.raises(UserError, match=r"exported by jax 99\.1\.0, which the jax .* here cannot read") as caught:
        load_bundle(copy)
    assert f"`cgloop bundle renew {copy} NEW_FOLDER`" in one_line(caught)


@pytest.mark.parametrize("older", ["0.4.30", "0.10.1", jax.__version__])
def test_an_exporter_that_is_older_is_welcome(copy, older):
    changed(copy, lambda manifest: manifest["module"].update(jax=older))
    assert load_bundle(copy).platform == "cpu"


def test_an_older_schema_says_how_to_go_on(copy):
    changed(copy, lambda manifest: manifest.update(schema_version=1))
    with pytest.raises(UserError, match="made by an older cgloop: schema version 1, this one reads 2") as caught:
        load_bundle(copy)
    assert f"`cgloop bundle renew {copy} NEW_FOLDER`" in one_line(caught)


def test_no_module_for_this_platform(copy):
    changed(copy, lambda manifest: manifest["module"]["files"].pop("cpu"))
    with pytest.raises(UserError, match="no module for `cpu`, where JAX computes here; there are: cuda") as caught:
        load_bundle(copy)
    one_line(caught)


def test_platforms_are_called_as_in_bundles(monkeypatch):
    found = {}
    for backend, said in (("cpu", "cpu"), ("gpu", "PJRT C API\ncuda 12090"), ("gpu", "PJRT C API\nrocm 60400")):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        described = SimpleNamespace(platform_version=said)
        monkeypatch.setattr("cgloop.export.bundle.get_backend", lambda described=described: described)
        found[said.split()[-2:][0]] = platform_here()
    assert found == {"cpu": "cpu", "cuda": "cuda", "rocm": "rocm"}


def test_modules_in_each_other_s_place(copy):
    (copy / "model.cuda.stablehlo").replace(copy / "model.cpu.stablehlo")
    changed(copy, lambda manifest: manifest["module"]["files"].pop("cuda"))
    with pytest.raises(UserError, match=r"model\.cpu\.stablehlo: a module for cuda"):
        load_bundle(copy)


@pytest.mark.parametrize("content", [b"", b"no module", bytes(5000), bytes(range(256)) * 40])
def test_what_is_no_module(copy, content):
    (copy / "model.cpu.stablehlo").write_bytes(content)
    changed(copy, lambda manifest: None)
    with pytest.raises(UserError, match=r"model\.cpu\.stablehlo: jax .* cannot read this module") as caught:
        load_bundle(copy)
    one_line(caught)


def test_a_foreign_module(copy):
    module = export.export(jax.jit(lambda x: 2 * x), platforms=("cpu",))(jax.ShapeDtypeStruct((3,), np.float32))
    (copy / "model.cpu.stablehlo").write_bytes(module.serialize())
    changed(copy, lambda manifest: None)
    with pytest.raises(UserError, match=r"model\.cpu\.stablehlo: a module with other arguments or results"):
        load_bundle(copy)


def test_a_file_outside_of_the_bundle_is_not_followed(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../other"] = manifest["files"]["model.mlir"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"lists `\.\./other`, which is outside of the bundle"):
        load_bundle(copy)


def test_files_that_the_manifest_does_not_name(copy):
    manifest = read_manifest(copy)
    assert foreign_files(copy, manifest) == []
    for name in ("stage.json", "model.rocm.stablehlo", "notes.txt"):
        (copy / name).write_text("x")
    assert foreign_files(copy, manifest) == ["model.rocm.stablehlo", "notes.txt"]
    assert load_bundle(copy).platform == "cpu"


def test_a_bundle_is_found_from_a_run_and_from_what_it_deployed(bundle, tmp_path):
    run = tmp_path / "run"
    for cycle in ("cycle_000", "cycle_001"):
        shutil.copytree(bundle, run / cycle / "export")
    shutil.copytree(bundle, run / "deploy" / "bundle")
    assert find_bundle(run) == run / "cycle_001" / "export"
    assert find_bundle(run / "cycle_000") == run / "cycle_000" / "export"
    assert find_bundle(run / "deploy") == run / "deploy" / "bundle"
    assert find_bundle(bundle) == bundle
    with pytest.raises(UserError, match="no bundle here"):
        find_bundle(tmp_path)


def test_the_outcome_is_added_to_a_copy(copy, bundle):
    plain = json.loads((copy / "manifest.json").read_text())
    parity = {
        "verdict": "pass", "force": {"value": 2e-6, "limit": 1e-4}, "energy": {"value": float("inf"), "limit": 1e-5},
        "frames": 4, "proteins": ["a"], "cases": [{"name": "padded", "verdict": "pass", "frame": "x"}],
    }  # fmt: skip
    add_outcome(
        copy, parity=parity, verdict={"verdict": "pass", "summary": "good", "run": "r", "cycle": 1, "checks": []}
    )
    manifest = load_bundle(copy).manifest
    assert manifest.pop("verdict") == {"verdict": "pass", "summary": "good", "run": "r", "cycle": 1}
    found = manifest.pop("parity")
    assert found["force"] == {"value": 2e-6, "limit": 1e-4}
    assert found["energy"]["value"] is None
    assert found["cases"] == {"padded": "pass"}
    assert manifest == plain


def test_settings_of_the_stage_name_the_exporter():
    """Another JAX has to export again: an older one could not load the module."""
    found = BY_NAME["export"].settings(config())
    assert (found["jax"], found["jaxlib"]) == (jax.__version__, version("jaxlib"))


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
