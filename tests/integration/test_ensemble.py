"""The whole loop with an ensemble: how members differ where the dynamics went stands in the verdict and on the page."""

import json

import pytest

from tests.integration.conftest import cgloop, short_config


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
def test_disagreement_along_the_dynamics_is_reported(tmp_path, example_h5, finished_run):
    config = short_config(tmp_path, example_h5, train={"epochs": 3, "batch_size": 16, "ensemble": {"members": 2}})
    done = cgloop("cycle", config)
    assert done.returncode in (0, 3, 4), done.stderr
    run = tmp_path / "runs" / "short"
    cycle = run / "cycle_000"
    trained = read(cycle / "train" / "ensemble.json")
    (check,) = [one for one in read(run / "verdict.json")["checks"] if one["check"] == "uncertainty.disagreement"]
    assert check["verdict"] == "reported"
    assert not check["required"]
    assert check["detail"]["members"] == 2
    assert check["detail"]["frames"] == 12
    assert 0 < check["error"] < 10 * check["value"]
    assert check["reference"] == pytest.approx(trained["per_protein"]["cln025"]["disagreement"])
    # Two picoseconds from held-out frames: not far from where members were compared.
    assert 0.2 < check["detail"]["ratio"] < 5
    assert check["detail"]["ratio"] == pytest.approx(check["value"] / check["reference"])
    page = (run / "report.html").read_text()
    assert "<code>uncertainty.disagreement</code>" in page
    assert f"times that on validation frames of {check['subject']}" in page
    assert "train" in read(cycle / "md" / "stage.json")["inputs"]

    alone = finished_run / "cycle_000"
    assert not (alone / "md" / "uncertainty.json").exists()
    assert "train" not in read(alone / "md" / "stage.json")["inputs"]
    assert "uncertainty." not in (finished_run / "verdict.json").read_text()
