"""A bundle is made anew from its parameters, also one of an earlier kind; its module is never read."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save

from cgloop.cautions import Caution
from cgloop.errors import UserError
from cgloop.export import renew as module
from cgloop.export.bundle import load_bundle, write_bundle
from cgloop.export.renew import renew_bundle
from cgloop.stages import digest_file, digest_files
from tests.export.older import as_schema_1
from tests.md.model_worlds import small_model

pytestmark = pytest.mark.slow

CAUTION = Caution("excluded-files", "1 source file could not be used and left out: bad.h5.", {"files": [{"a": "b"}]})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "source.yaml").write_text("bond: 1\n")
    out = folder / "out"
    out.mkdir()
    write_bundle(
        out, *small_model("prior-only"), temperature_K=288.0, mapping="ca", priors_yaml=folder / "source.yaml",
        training={"best_epoch": 3}, cautions=[CAUTION],
    )  # fmt: skip
    return out


def test_from_an_earlier_kind(bundle, tmp_path):
    old = as_schema_1(bundle, tmp_path / "old")
    before = digest_files(old)
    found = renew_bundle(old, tmp_path / "new")
    assert found.forces < 1e-5
    assert found.energy < 1e-6
    assert digest_files(old) == before
    loaded, original = load_bundle(tmp_path / "new"), load_bundle(bundle)
    origin = loaded.manifest.pop("renewed_from")
    assert origin == {"cgloop": "0.0.9", "schema_version": 1, "jax": "0.9.0"}
    # All else, digests of the modules included, is what the export itself had written.
    assert loaded.manifest == original.manifest
    assert loaded.manifest["training"] == {"best_epoch": 3}
    assert loaded.manifest["cautions"] == [CAUTION.to_json()]
    assert loaded.temperature_K == 288.0
    assert loaded.manifest["module"]["jax"] == jax.__version__


def test_a_verdict_of_the_old_module_is_not_the_new_one_s(bundle, tmp_path):
    old = shutil.copytree(bundle, tmp_path / "old")
    manifest = json.loads((old / "manifest.json").read_text())
    manifest.update(parity={"verdict": "pass"}, verdict={"verdict": "pass"})
    (old / "manifest.json").write_text(json.dumps(manifest))
    renew_bundle(old, tmp_path / "new")
    found = load_bundle(tmp_path / "new").manifest
    assert "verdict" not in found
    assert "parity" not in found
    assert found["renewed_from"]["verdict"] == {"verdict": "pass"}


def test_nothing_is_overwritten(bundle, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(UserError, match="exists already"):
        renew_bundle(bundle, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_link_to_nowhere_is_not_overwritten(bundle, tmp_path):
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="exists already"):
        renew_bundle(bundle, tmp_path / "new")


@pytest.mark.parametrize("name", ["params.safetensors", "priors.yaml"])
def test_damaged_sources_are_refused(bundle, tmp_path, name):
    old = shutil.copytree(bundle, tmp_path / "old")
    with open(old / name, "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="does not match its digest") as caught:
        renew_bundle(old, tmp_path / "new")
    assert caught.value.where == old / name
    assert not (tmp_path / "new").exists()


def test_a_damaged_module_is_replaced(bundle, tmp_path):
    old = shutil.copytree(bundle, tmp_path / "old")
    (old / "model.cpu.stablehlo").unlink()
    (old / "model.cuda.stablehlo").write_bytes(b"x")
    renew_bundle(old, tmp_path / "new")
    assert load_bundle(tmp_path / "new").platform == "cpu"


def with_params(bundle, old, change):
    """A copy of a bundle with other parameters, and their digest."""
    shutil.copytree(bundle, old)
    params = load_file(old / "params.safetensors")
    change(params)
    (old / "params.safetensors").write_bytes(save({name: np.asarray(array) for name, array in params.items()}))
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["files"]["params.safetensors"] = digest_file(old / "params.safetensors")
    (old / "manifest.json").write_text(json.dumps(manifest))
    return old


def test_a_parameter_that_is_not_there(bundle, tmp_path):
    old = with_params(bundle, tmp_path / "old", lambda params: params.pop("prior/bond_k"))
    with pytest.raises(UserError, match="bond_k"):
        renew_bundle(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_difference_beyond_the_limit_leaves_nothing_behind(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FORCE_LIMIT", 1e-12)
    with pytest.raises(UserError, match="the new module is not the model: forces differ by"):
        renew_bundle(bundle, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_gives_no_numbers(bundle, tmp_path):
    old = with_params(bundle, tmp_path / "old", lambda params: params.update({"prior/bond_k": np.float32("nan")}))
    with pytest.raises(UserError, match="the new module is not the model: forces differ by nan"):
        renew_bundle(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
