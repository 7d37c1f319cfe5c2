"""Two bundles are compared by what they say, by their parameters and by their files."""

import dataclasses

import jax
import numpy as np
import pytest

from cgloop.errors import UserError
from cgloop.export.bundle import write_bundle
from cgloop.export.diff import as_text, diff
from cgloop.model.allegro import AllegroSpec
from cgloop.model.hybrid import init_params
from tests.export.older import as_schema_1
from tests.md.model_worlds import PRIOR, small_model

pytestmark = pytest.mark.slow


def written(out, model, params, **options):
    out.mkdir()
    write_bundle(out, model, params, **{"temperature_K": 320.0, **options})
    return out


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return written(tmp_path_factory.mktemp("first") / "out", *small_model())


def test_the_same(first, tmp_path):
    second = written(tmp_path / "second", *small_model())
    found = diff(first, second)
    assert found["same"]
    assert found["manifest"] == found["model"] == []
    assert found["parameters"] == {}
    assert set(found["files"].values()) == {"same"}
    assert as_text(found).startswith("no difference")


def test_parameters_by_group(first, tmp_path):
    model, params = small_model()
    layer = dict(params["ml"]["layer_0"])
    name = next(iter(layer))
    layer[name] = jax.tree.map(lambda leaf: leaf + np.float32(0.25), layer[name])
    moved = {"prior": params["prior"]._replace(bond_k=np.float32(151.0)), "ml": {**params["ml"], "layer_0": layer}}
    found = diff(first, written(tmp_path / "second", model, moved))
    assert set(found["parameters"]) == {"prior/bond_k", "ml/layer_0"}
    assert found["parameters"]["prior/bond_k"] == {"tensors": 1, "max_abs_difference": 1.0, "max_abs": 150.0}
    assert found["parameters"]["ml/layer_0"]["max_abs_difference"] == pytest.approx(0.25, abs=1e-6)
    assert found["manifest"] == found["model"] == []
    assert found["files"]["model.mlir"] == found["files"]["model.cpu.stablehlo"] == "differs"
    assert not found["same"]
    line = next(line for line in as_text(found).splitlines() if line.startswith("prior/bond_k"))
    assert line.split() == ["prior/bond_k", "1", "1", "150"]


def test_one_number_that_is_none(first, tmp_path):
    model, params = small_model()
    broken = {**params, "prior": params["prior"]._replace(bond_k=np.float32("nan"))}
    found = diff(first, written(tmp_path / "second", model, broken))
    assert np.isnan(found["parameters"]["prior/bond_k"]["max_abs_difference"])
    assert not found["same"]


def test_what_the_manifest_says(first, tmp_path):
    model, params = small_model()
    untrained = tuple(i != 4 for i in range(20))
    spec = dataclasses.replace(model.spec, trained_types=untrained)
    other = dataclasses.replace(model, spec=spec)
    found = diff(first, written(tmp_path / "second", other, params, temperature_K=288.0, training={"epochs": 3}))
    assert "temperature_K: 320.0 → 288.0" in found["manifest"]
    assert "training.epochs: None → 3" in found["manifest"]
    (types,) = (line for line in found["manifest"] if line.startswith("trained_types"))
    assert "CYS" not in types.split("→")[1]
    assert "CYS" in types.split("→")[0]
    assert [line.split(":")[0] for line in found["model"]] == ["spec.trained_types"]
    assert found["parameters"] == {}


def test_another_network(first, tmp_path):
    model, _ = small_model()
    wider = dataclasses.replace(model.spec, mlp=(16,))
    assert isinstance(wider, AllegroSpec)
    other = dataclasses.replace(model, spec=wider)
    second = written(tmp_path / "second", other, init_params(other, PRIOR, jax.random.key(0)))
    found = diff(first, second)
    assert found["model"] == ["spec.mlp: [8] → [16]"]
    assert any("has shapes" in one.get("difference", "") for one in found["parameters"].values())
    alone = written(tmp_path / "alone", *small_model("prior-only"))
    gone = diff(first, alone)["parameters"]
    assert gone["ml/readout"]["difference"] == "ml/readout is in the first only"
    assert not any(name.startswith("prior") for name in gone)


def test_an_earlier_kind_has_other_modules_and_the_same_parameters(first, tmp_path):
    found = diff(first, as_schema_1(first, tmp_path / "old"))
    assert found["parameters"] == {}
    assert found["model"] == []
    assert "schema_version: 2 → 1" in found["manifest"]
    assert found["files"]["model.stablehlo"] == "only in the second"
    assert found["files"]["model.cuda.stablehlo"] == "only in the first"
    assert found["files"]["model.mlir"] == "same"


def test_parameters_that_cannot_be_read(first, tmp_path):
    old = as_schema_1(first, tmp_path / "old")
    (old / "params.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match=r"params\.safetensors: cannot be read"):
        diff(first, old)
