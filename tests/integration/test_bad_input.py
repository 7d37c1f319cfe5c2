"""Every mistake of a user ends in one clear line, exit code 2, and nothing half-written."""

import shutil

import h5py
import numpy as np
import pytest
import yaml

from cgloop.errors import ExitCode
from tests.integration.conftest import cgloop, short_config


def rewrite(path, change):
    """Replace `coords` and `forces` of replica 0 by changed copies (its filters cannot store NaN)."""
    with h5py.File(path, "r+") as file:
        group = file["cln025/320/0"]
        arrays = {name: group[name][()] for name in ("coords", "forces")}
        change(arrays)
        for name, array in arrays.items():
            del group[name]
            group[name] = array


def truncated(path, data):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_forces(path, data):
    with h5py.File(path, "r+") as file:
        for replica in file["cln025/320"].values():
            del replica["forces"]


def unknown_residue(path, data):
    with h5py.File(path, "r+") as file:
        group = file["cln025"]
        names = group["resname"][()]
        names[:] = [b"XYZ" if i == b"GLY" else i for i in names]
        group["resname"][...] = names
        text = group["pdbProteinAtoms"][()].replace(b" GLY ", b" XYZ ")
        del group["pdbProteinAtoms"]
        group["pdbProteinAtoms"] = text


def other_temperature(path, data):
    data["data"]["temperature_K"] = 350


def too_few_frames(path, data):
    data["data"]["sources"][0]["stride"] = 100


def nan_positions(path, data):
    rewrite(path, lambda arrays: arrays["coords"].__setitem__((slice(0, 400), 5), np.nan))


def nan_forces(path, data):
    rewrite(path, lambda arrays: arrays["forces"].__setitem__((slice(0, 400), 5), np.nan))


def missing_source(path, data):
    path.unlink()


def not_hdf5(path, data):
    path.write_text("hello")


def unknown_key(path, data):
    data["train"]["epoch"] = 3


def missing_key(path, data):
    del data["data"]["temperature_K"]


def no_room(path, data):
    data["run"]["min_free_gb"] = 1e9


def below_a_file(path, data):
    data["run"]["root"] = str(path / "runs")


def unknown_check(path, data):
    data["gate"] = {"required": ["structure.rmds"]}


def protein_that_is_not_there(path, data):
    data["md"]["proteins"] = ["cln052"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (truncated, ["example.h5", "truncated"]),
        (without_forces, ["prep", "no training frames with forces", "320 K"]),
        (unknown_residue, ["example.h5", "XYZ"]),
        (other_temperature, ["example.h5", "350", "320"]),
        (too_few_frames, ["frames"]),
        (nan_positions, ["example.h5", "cln025/320/0", "frame 0", "non-finite positions"]),
        (nan_forces, ["example.h5", "cln025/320/0", "frame 0", "non-finite forces"]),
        (missing_source, ["example.h5", "no such file"]),
        (not_hdf5, ["example.h5", "HDF5"]),
        (unknown_key, ["config.yaml, line", "train.epoch", "did you mean `epochs`"]),
        (missing_key, ["config.yaml, line", "data.temperature_K"]),
        (no_room, ["GB free"]),
        (below_a_file, ["cannot be written", "Not a directory"]),
        (unknown_check, ["structure.rmds", "structure.rmsd"]),
        (protein_that_is_not_there, ["cln052", "cln025"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_one_clear_line(tmp_path, example_h5, mistake, words):
    source = shutil.copy(example_h5, tmp_path / "example.h5")
    config = short_config(tmp_path, tmp_path / "example.h5")
    data = yaml.safe_load(config.read_text())
    mistake(tmp_path / "example.h5", data)
    config.write_text(yaml.safe_dump(data))

    done = cgloop("cycle", config, "--quiet")

    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert done.stdout == ""
    left = [p for p in tmp_path.rglob("*") if p.name.endswith((".partial", ".tmp")) or p.name == "lock.json"]
    assert left == []
    assert source


def test_full_disk_is_told(tmp_path, example_h5):
    """The record of events lies on a device without room: the first line that is written fails."""
    config = short_config(tmp_path, example_h5)
    run = tmp_path / "runs" / "short"
    run.mkdir(parents=True)
    (run / "events.jsonl").symlink_to("/dev/full")
    done = cgloop("cycle", config, "--quiet")
    assert done.returncode == ExitCode.BAD_INPUT
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_directory_that_is_none(tmp_path):
    done = cgloop("status", tmp_path)
    assert done.returncode == ExitCode.BAD_INPUT
    assert "not a run directory" in done.stderr
