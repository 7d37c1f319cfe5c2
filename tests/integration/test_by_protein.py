"""The whole loop on proteins that training has not seen, beside a file that cannot be used."""

import json

import h5py
import pytest

from tests.integration.conftest import cgloop, short_config

REPLICAS = {"1abcA00": (0, 1), "2defB01": (2,), "3ghiC02": (3,)}
"""Three proteins made of one: their chains are the same, their trajectories are not."""


@pytest.fixture
def folder(tmp_path, example_h5):
    place = tmp_path / "data"
    place.mkdir()
    with h5py.File(example_h5) as source:
        for name, kept in REPLICAS.items():
            with h5py.File(place / f"mdcath_dataset_{name}.h5", "w") as target:
                target.attrs.update(source.attrs)
                source.copy("cln025", target, name)
                group = target[f"{name}/320"]
                for replica in set(group) - set(map(str, kept)):
                    del group[replica]
    (place / "mdcath_dataset_4jklD03.h5").write_bytes(example_h5.read_bytes()[:5000])
    return place


def divided(tmp_path, folder, split):
    sources = [{"path": str(folder / "*.h5"), "stride": 5}]
    return short_config(tmp_path, folder, data={"split": split, "sources": sources})


def read(path):
    return json.loads(path.read_text())


@pytest.mark.slow
def test_a_model_is_judged_on_proteins_that_it_has_not_seen(tmp_path, folder):
    split = {"by": "protein", "validation": ["2*"], "test": ["3ghiC02"]}
    config = divided(tmp_path, folder, split)
    done = cgloop("cycle", config)
    assert done.returncode in (0, 3, 4), done.stderr
    run = tmp_path / "runs" / "short"
    cycle = run / "cycle_000"

    manifest = read(cycle / "prep" / "manifest.json")
    counts = {name: one["frames_per_split"] for name, one in manifest["proteins"].items()}
    parts = {name: {part for part, n in found.items() if n} for name, found in counts.items()}
    assert parts == {"1abcA00": {"train"}, "2defB01": {"validation"}, "3ghiC02": {"test"}}
    assert [one["source"] for one in manifest["excluded_files"]] == ["mdcath_dataset_4jklD03.h5"]
    assert list(read(cycle / "train" / "forces.json")["frames_per_protein"]) == ["3ghiC02"]
    assert read(cycle / "parity" / "parity.json")["verdict"] == "pass"

    md = read(cycle / "md" / "md.json")["proteins"]
    assert {name: one["starts"][0]["start_split"] for name, one in md.items()} == {
        "2defB01": "validation", "3ghiC02": "test"
    }  # fmt: skip
    verdict = read(run / "verdict.json")
    subjects = {check["subject"] for check in verdict["checks"] if check["check"] == "stability.survival"}
    assert subjects == {"2defB01", "3ghiC02"}
    for name, part in (("2defB01", "validation"), ("3ghiC02", "test")):
        frames = verdict["proteins"][name]["reference"]["splits"]
        assert {key for key, n in frames.items() if n} == {part}
    kinds = [caution["kind"] for caution in verdict["cautions"]]
    assert "excluded-files" in kinds
    assert "trained-protein" not in kinds

    # A protein that trains is simulated on request, and that is told.
    done = cgloop("cycle", run, "--set", "md.proteins=[1abcA00]", "--set", f"run.root={run.parent}")
    assert done.returncode in (0, 3, 4), done.stderr
    assert read(cycle / "md" / "md.json")["proteins"]["1abcA00"]["starts"][0]["start_split"] == "train"
    told = [caution for caution in read(run / "verdict.json")["cautions"] if caution["kind"] == "trained-protein"]
    assert [caution["detail"]["protein"] for caution in told] == ["1abcA00"]
    assert "no held-out frames" in done.stdout


def test_a_name_that_no_protein_has_is_told_after_prep(tmp_path, folder):
    split = {"by": "protein", "validation": ["2defB0l"], "test": []}
    done = cgloop("prep", divided(tmp_path, folder, split), "--quiet")
    assert done.returncode == 2
    assert "did you mean `2defB01`?" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs" / "short" / "cycle_000" / "prep").exists()
    # What was finished serves the next call, although the config is another one.
    began = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(".prep.partial/.jobs/*/result.json")}
    assert len(began) == 3
    done = cgloop("prep", divided(tmp_path, folder, {**split, "validation": ["2defB01"]}))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "runs" / "short" / "cycle_000" / "prep").iterdir()}
    assert {f"{name}.h5" for name in REPLICAS} < names
    assert ".jobs" not in names
