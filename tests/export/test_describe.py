"""What `cgloop bundle show` tells is what is in the bundle, and in the run that it lies in."""

import json
import shutil

import numpy as np
import pytest

from cgloop.cautions import Caution
from cgloop.export.bundle import write_bundle
from cgloop.export.describe import as_text, describe
from cgloop.export.manifest import add_outcome
from cgloop.model.hybrid import flatten_params
from tests.export.older import as_schema_1
from tests.md.model_worlds import small_model

TRAINING = {
    "frames": {"train": 100, "validation": 20, "test": 20}, "proteins": ["cln025"], "epochs": 12, "best_epoch": 7,
    "split": "test", "rmse_full": 1.234, "rmse_prior": 2.345, "rmse_zero": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("bundle")
    caution = Caution("energy-weights", "Energies of prior terms are scaled (bond × 0.5).", {"weights": {"bond": 0.5}})
    write_bundle(out, *small_model(), temperature_K=320.0, training=TRAINING, cautions=[caution])
    return out


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def rows(facts):
    lines = [line.split("  ", 1) for line in as_text(facts).splitlines() if "  " in line]
    return {name.strip(): text.strip() for name, text in lines}


def test_the_facts(bundle):
    facts = describe(bundle)
    flat = flatten_params(small_model()[1])
    for part in ("prior", "ml"):
        assert facts["parameters"][part] == sum(np.size(a) for name, a in flat.items() if name.startswith(part + "/"))
    assert facts["files"]["model.mlir"]["bytes"] == (bundle / "model.mlir").stat().st_size
    assert facts["module"]["platforms"] == ["cpu", "cuda"]
    assert facts["wrong_files"] == {}
    assert "verdict" not in facts
    json.dumps(facts)


def test_the_text(bundle):
    facts = describe(bundle)
    found = rows(facts)
    assert found["temperature"] == "320 K"
    assert found["trained types"] == "all 20"
    assert found["trained on"] == "train 100, validation 20, test 20 frames of cln025"
    assert found["epochs"] == "12, the best was 7"
    assert found["force RMSE"] == "model 1.23, prior alone 2.35 kcal/mol/Å (test frames)"
    assert found["runs on"].startswith("cpu and cuda")
    assert found["verdict"].startswith("none in manifest.json")
    assert as_text(facts).endswith("\nbeware: Energies of prior terms are scaled (bond × 0.5).")


def test_without_a_network(tmp_path):
    write_bundle(tmp_path, *small_model("prior-only"), temperature_K=320.0)
    facts = describe(tmp_path)
    found = rows(facts)
    assert found["network"] == "none"
    assert found["trained types"] == "none: nothing is learned"
    assert facts["untrained_types"] == []


def test_types_without_training(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["types"][4]["trained"] = False
    (copy / "manifest.json").write_text(json.dumps(manifest))
    found = rows(describe(copy))
    assert found["untrained types"].startswith("CYS: ")
    assert "CYS" not in found["trained types"]


def test_an_earlier_kind(bundle, tmp_path):
    facts = describe(as_schema_1(bundle, tmp_path / "old"))
    assert facts["module"]["platforms"] == ["cpu", "cuda"]
    text = as_text(facts)
    assert "`cgloop bundle renew" in text.split("\n\n")[0]
    assert "cgloop 0.0.9, jax 0.9.0, jaxlib unknown" in text


def test_damage_is_told(copy):
    (copy / "model.cpu.stablehlo").unlink()
    (copy / "params.safetensors").write_bytes(b"x")
    text = as_text(describe(copy))
    assert "error: model.cpu.stablehlo: file of the bundle is missing" in text
    assert "error: params.safetensors: does not match its digest" in text
    assert "unreadable" in text


def test_an_outcome_in_the_manifest(copy):
    size = {"value": 2.5e-6, "limit": 1e-4}
    add_outcome(
        copy,
        parity={"verdict": "pass", "force": size, "energy": {"value": None, "limit": 1e-5}},
        verdict={"verdict": "pass", "summary": "All checks pass."},
    )
    found = rows(describe(copy))
    assert found["parity"] == "pass: forces differ by 2.5e-06 (limit 0.0001), energies differ by – (limit 1e-05)"
    assert found["verdict"] == "pass: All checks pass."


@pytest.mark.parametrize("of_it", [True, False])
def test_an_outcome_beside_it_in_a_run_counts_if_it_is_its_own(bundle, tmp_path, of_it):
    """A verdict of what was exported before is none of this."""
    cycle = tmp_path / "cycle_000"
    shutil.copytree(bundle, cycle / "export")
    (cycle / "parity").mkdir()
    record = {
        "stage": "export", "inputs": {}, "inputs_digest": "", "result_digest": "abc", "outputs": {}, "versions": {},
        "seed": 0, "started": "", "finished": "", "seconds": 0.0,
    }  # fmt: skip
    digest = "abc" if of_it else "other"
    (cycle / "export" / "stage.json").write_text(json.dumps(record))
    (cycle / "parity" / "stage.json").write_text(json.dumps({**record, "inputs": {"export": {"digest": digest}}}))
    (cycle / "parity" / "parity.json").write_text('{"verdict": "pass"}')
    (cycle / "verdict.json").write_text(json.dumps({"verdict": "fail", "results": {"export": digest}}))
    facts = describe(cycle / "export")
    assert facts.get("parity") == ({"verdict": "pass"} if of_it else None)
    assert facts.get("verdict", {}).get("verdict") == ("fail" if of_it else None)
