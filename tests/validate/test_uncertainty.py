"""The check of ensemble disagreement, from a file as `md` writes it."""

import json

import numpy as np
import pytest
from scipy import stats

from cgloop.errors import UserError
from cgloop.validate.gate import judge
from cgloop.validate.run import validate_run
from cgloop.validate.uncertainty import disagreement_checks, read_uncertainty
from tests.validate import builders

OF_REPLICAS = [0.30, 0.34, 0.29, 0.35]


def content(**changes):
    value = float(np.sqrt(np.mean(np.square(OF_REPLICAS))))
    one = {
        "n_frames": 200, "disagreement": value, "validation": {"proteins": "chain", "disagreement": 0.2},
        "ratio": value / 0.2, "per_bead": [0.3] * 10, "per_residue_type": {"TYR": 0.3},
        "per_replica": [{"replica": i, "n_frames": 50, "disagreement": d} for i, d in enumerate(OF_REPLICAS)],
        **changes,
    }  # fmt: skip
    return {"members": 3, "unit": "kcal/mol/Å", "stage": "nvt", "proteins": {"chain": one}}


def checked(folder, data):
    (folder / "uncertainty.json").write_text(json.dumps(data))
    (result,) = disagreement_checks(read_uncertainty(folder), "chain")
    return result


def test_value_ratio_and_error_bar(tmp_path):
    result = checked(tmp_path, content())
    assert result.verdict == "reported"
    assert result.reference == 0.2
    assert result.detail["ratio"] == pytest.approx(result.value / 0.2)
    # To first order the error of a root mean square is that of the mean square over twice the root.
    squares = np.square(OF_REPLICAS)
    expected = stats.t.ppf(0.975, 3) * stats.sem(squares) / (2 * result.value)
    assert result.error == pytest.approx(expected, rel=0.02)
    assert result.detail["ratio_error"] == pytest.approx(result.error / 0.2)
    assert "3 members, 200 frames" in result.reason


def test_one_replica_has_no_error_bar_and_none_no_value(tmp_path):
    one = content(per_replica=[{"replica": 0, "n_frames": 200, "disagreement": 0.3}])
    assert checked(tmp_path, one).error == np.inf
    none = content(n_frames=0, disagreement=None, ratio=None, per_bead=[None] * 10, per_replica=[])
    result = checked(tmp_path, none).to_json()
    assert result["value"] is None
    assert result["reason"] == "there are no frames of NVT"


@pytest.mark.parametrize("text", ["{", "[]", '{"members": 2}', '{"members": 2, "proteins": {"chain": {}}}',
                                  '{"members": 2, "proteins": [1]}'])  # fmt: skip
def test_damaged_file_is_one_clear_error(tmp_path, text):
    (tmp_path / "uncertainty.json").write_text(text)
    with pytest.raises(UserError, match=r"uncertainty.json.*run `cgloop md` again"):
        read_uncertainty(tmp_path)


def test_it_is_in_the_verdict_and_decides_nothing(chain, tmp_path):
    names, native, _ = chain
    run = builders.analytic_run(names, native)
    paths = builders.write_run(run, tmp_path / "run")
    without = validate_run(run.config(), out=tmp_path / "without", **paths)
    assert not [one for one in without["checks"] if one["check"].startswith("uncertainty.")]
    (paths["md_dir"] / "uncertainty.json").write_text(json.dumps(content()))
    metrics = validate_run(run.config(), out=tmp_path / "out", **paths)
    required = ["nvt.temperature", "nve.drift"]
    before, after = judge(without, required), judge(metrics, required)
    assert after["verdict"] == before["verdict"]
    (found,) = [one for one in after["checks"] if one["check"] == "uncertainty.disagreement"]
    assert found["verdict"] == "reported"
    assert found["title"] == "ensemble disagreement in NVT"
    assert found["inputs"] == {"files": ["md/uncertainty.json"]}
