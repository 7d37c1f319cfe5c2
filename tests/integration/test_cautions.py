"""What a run did on request that its checks cannot see is said wherever somebody may look."""

import json
import shutil

import h5py
import numpy as np
import pytest

from cgloop.errors import ExitCode
from tests.integration.conftest import cgloop, short_config

HOT_K = 450


@pytest.fixture
def two_temperatures(tmp_path, example_h5):
    """The example, with frames that stand for a second temperature: moved, so that none is a duplicate."""
    path = tmp_path / "two.h5"
    shutil.copy(example_h5, path)
    path.chmod(0o644)
    with h5py.File(path, "a") as file:
        protein = file[next(iter(file))]
        for replica in ("0", "2"):
            source, hot = protein["320"][replica], protein.create_group(f"{HOT_K}/{replica}")
            hot.attrs.update(source.attrs)
            hot["coords"] = source["coords"][:] + np.float32(1.0)
            hot["forces"] = source["forces"][:] * np.float32(np.sqrt(HOT_K / 320.0))
            hot["box"] = source["box"][:]
    return path


@pytest.mark.slow
def test_mixed_temperatures_scaled_energies_and_files_left_out_are_flagged_everywhere(tmp_path, two_temperatures):
    (tmp_path / "broken.h5").write_bytes(two_temperatures.read_bytes()[:1000])
    source = {"stride": 5, "temperatures_K": [320, HOT_K]}
    split = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}
    config = short_config(
        tmp_path,
        two_temperatures,
        data={
            "sources": [{"path": str(two_temperatures), **source}, {"path": str(tmp_path / "broken.h5"), **source}],
            "temperature_K": 320, "split": split, "on_bad_file": "exclude",
        },
        priors={"temperatures": "mixed", "weights": {"angle": 0.9}},
        gate={"required": ["parity.forces"]},  # so that it passes, and is deployed
    )  # fmt: skip
    done = cgloop("cycle", config)
    assert done.returncode == ExitCode.PASS, done.stderr
    run = tmp_path / "runs" / "short"

    verdict = json.loads((run / "verdict.json").read_text())
    cautions = {caution["kind"]: caution for caution in verdict["cautions"]}
    of_the_model = ["mixed-temperatures", "energy-weights", "excluded-files", "untrained-types"]
    # The reference was begun in the crystal structure in all replicas and still leaves it, which its fails depend on.
    assert [kind for kind in cautions if kind != "relaxing-reference"] == [*of_the_model, "reduced-gate"]
    assert cautions["mixed-temperatures"]["detail"]["temperatures_K"] == [320.0, HOT_K]
    assert cautions["energy-weights"]["detail"]["weights"] == pytest.approx({"angle": 0.9})
    assert [one["source"] for one in cautions["excluded-files"]["detail"]["files"]] == ["broken.h5"]
    assert {"ALA", "LYS"} <= set(cautions["untrained-types"]["detail"]["residue_types"])
    # Both temperatures were inverted and trained on; what is held out is at the model's.
    assert set(json.loads((run / "cycle_000/priors/summary.json").read_text())["temperatures_K"]) == {"320", "450"}
    assert json.loads((run / "cycle_000/train/summary.json").read_text())["frames"]["train"] == 3 * 100

    manifests = [
        json.loads((run / name / "manifest.json").read_text()) for name in ("cycle_000/export", "deploy/bundle")
    ]
    assert all(manifest["cautions"] == [cautions[kind] for kind in of_the_model] for manifest in manifests)
    page, card = (run / "report.html").read_text(), (run / "deploy" / "README.md").read_text()
    status = cgloop("status", run).stdout
    (shown,) = [line for line in done.stdout.splitlines() if line.startswith("verdict  PASS")]
    for caution in cautions.values():
        assert caution["text"] in shown
        assert caution["text"] in status
        assert caution["text"] in card
        # The page writes units and signs its own way.
        assert caution["text"].split(" K")[0].split(" × ")[0] in page
