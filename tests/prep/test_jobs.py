"""Files as independent jobs: processes, interruption, bad files, patterns, digests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from synthetic_mdcath import build, chain_of, frames_of, write_mdcath

from cgloop.config.data import DataConfig, SplitConfig
from cgloop.data import sources
from cgloop.data.dataset import DatasetReader
from cgloop.data.sources import describe_sources, digest_source, expand_sources
from cgloop.errors import Interrupted, Unfinished, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.prep import jobs
from cgloop.prep.pipeline import prepare
from cgloop.prep.pool import run_all
from cgloop.stages import digest_file, run_stage

SPLIT = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}
FILES = ("1abcA00", "2defB01", "3ghiC02")


def write_sources(folder, names=FILES, n_frames=20):
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        molecule = build(chain_of(4 + index))
        data = {f"320/{i}": frames_of(molecule, n_frames, seed=i + 10 * index) for i in range(3)}
        write_mdcath(folder / f"mdcath_dataset_{name}.h5", molecule, data, name=name)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_sources(tmp_path / "data")


def config_of(folder, **settings):
    return DataConfig(sources=[{"path": folder / "*.h5"}], temperature_K=320, split=SPLIT, **settings)


def out_of(tmp_path, name="out"):
    out = tmp_path / name
    out.mkdir()
    return out


def everything(out):
    return {path.name: digest_file(path) for path in out.iterdir()}


def test_processes_and_one_process_give_the_same_bytes(tmp_path, folder):
    found = []
    for workers in (1, 2):
        out = out_of(tmp_path, str(workers))
        prepare(config_of(folder, workers=workers), out)
        found.append(everything(out))
    assert found[0] == found[1]
    assert set(found[0]) == {f"{name}.h5" for name in FILES} | {"manifest.json", "quarantine.json", "projection.json"}


def test_patterns_find_files_in_order(tmp_path, folder):
    (folder / "sub").mkdir()
    names = [source.path.name for source in expand_sources(config_of(folder))]
    assert names == [f"mdcath_dataset_{name}.h5" for name in FILES]
    exact = config_of(folder).sources[0].model_copy(update={"path": folder / f"mdcath_dataset_{FILES[1]}.h5"})
    several = config_of(folder).model_copy(update={"sources": [exact]})
    assert [source.path.name for source in expand_sources(several)] == [f"mdcath_dataset_{FILES[1]}.h5"]
    with pytest.raises(UserError, match="no file matches this pattern"):
        expand_sources(config_of(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="not a file"):
        expand_sources(config_of(folder).model_copy(update={"sources": [exact.model_copy(update={"path": folder})]}))


def spoil(folder, name=FILES[1]):
    path = folder / f"mdcath_dataset_{name}.h5"
    path.write_bytes(path.read_bytes()[:3000])
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_file_stops_all_or_is_excluded(tmp_path, folder, workers):
    spoil(folder)
    with pytest.raises(Unfinished, match=r"2defB01\.h5.*on_bad_file: exclude"):
        prepare(config_of(folder, workers=workers, on_bad_file="error"), out_of(tmp_path, "a"))
    out = out_of(tmp_path, "b")
    manifest = prepare(config_of(folder, workers=workers), out)
    assert sorted(manifest["proteins"]) == [FILES[0], FILES[2]]
    (excluded,) = manifest["excluded_files"]
    assert excluded["source"] == "mdcath_dataset_2defB01.h5"
    assert "HDF5 file" in excluded["reason"]
    assert str(tmp_path) not in (out / "manifest.json").read_text() + (out / "quarantine.json").read_text()
    DatasetReader.open(out).load(FILES[2])


def test_too_many_bad_frames_exclude_a_file(tmp_path, folder):
    with h5py.File(folder / f"mdcath_dataset_{FILES[0]}.h5", "a") as file:
        forces = file[f"{FILES[0]}/320/1/forces"]
        values = forces[:]
        values[4:9] = np.nan
        forces[:] = values
    manifest = prepare(config_of(folder), out_of(tmp_path))
    assert "5 of 20 frames are bad" in manifest["excluded_files"][0]["reason"]
    assert sorted(manifest["proteins"]) == list(FILES[1:])


def test_nothing_but_bad_files_is_an_error(tmp_path, folder):
    for name in FILES:
        spoil(folder, name)
    with pytest.raises(UserError, match=r"3 of 3 files cannot be used: .*1abcA00.*HDF5.*2defB01.*3ghiC02") as caught:
        prepare(config_of(folder), out_of(tmp_path))
    assert not isinstance(caught.value, Unfinished)
    assert "\n" not in str(caught.value)


def counted(monkeypatch):
    """Names of the proteins that are prepared from now on."""
    prepared, original = [], jobs.prepare_protein

    def count(reference, *rest):
        prepared.append(reference.name)
        return original(reference, *rest)

    monkeypatch.setattr(jobs, "prepare_protein", count)
    return prepared


@pytest.mark.parametrize("remedy", ["mend", "leave out", "exclude"])
def test_an_error_keeps_what_is_finished_for_the_next_call(tmp_path, folder, monkeypatch, remedy):
    """Through the stage, as the command does it: the inputs of the second call are others."""
    names = [*FILES, "4jklD03"]
    write_sources(folder, names)
    whole = (folder / f"mdcath_dataset_{FILES[1]}.h5").read_bytes()
    paths = [spoil(folder, FILES[1]), spoil(folder, FILES[0])]
    prepared = counted(monkeypatch)

    def stage(config):
        inputs = {"data": config.model_dump(mode="json"), "files": describe_sources(config)}
        return run_stage(
            tmp_path / "prep", inputs, lambda out: prepare(config, out), seed=0, resumable=True, lasting=[".jobs"]
        )

    with pytest.raises(UserError, match=r"2 of 4 files cannot be used: .*1abcA00.*2defB01"):
        stage(config_of(folder, workers=1, on_bad_file="error"))
    assert prepared == [FILES[2], "4jklD03"]
    assert not (tmp_path / "prep").exists(), "nothing that counts as a result"
    (tmp_path / ".prep.partial" / "half.h5").write_text("of another attempt")
    if remedy == "mend":
        paths[0].write_bytes(whole)
        paths[1].unlink()
    elif remedy == "leave out":
        for path in paths:
            path.unlink()
    policy = "exclude" if remedy == "exclude" else "error"
    result = stage(config_of(folder, workers=1, on_bad_file=policy))
    assert prepared == [FILES[2], "4jklD03"] + [FILES[1]] * (remedy == "mend")
    assert len(DatasetReader.open(result.folder).names) == (3 if remedy == "mend" else 2)
    assert not {".jobs", "half.h5"} & {path.name for path in result.folder.iterdir()}


def by_protein(**lists):
    return {"by": "protein", "min_frames": 5, **lists}


def test_whole_proteins_are_divided(tmp_path, folder):
    split = by_protein(validation=[FILES[1]], test=["3*"])
    out = out_of(tmp_path)
    prepare(config_of(folder).model_copy(update={"split": SplitConfig(**split)}), out)
    reader = DatasetReader.open(out)
    counts = {name: reader.manifest["proteins"][name]["frames_per_split"] for name in FILES}
    for name, part in zip(FILES, ("train", "validation", "test"), strict=True):
        assert {key for key, n in counts[name].items() if n} == {part}
        assert reader.load(name, split=part).n_frames == 60


def test_another_division_prepares_only_proteins_that_moved(tmp_path, folder, monkeypatch):
    prepared, out = counted(monkeypatch), out_of(tmp_path)

    def attempt(**lists):
        config = config_of(folder, workers=1).model_copy(update={"split": SplitConfig(**by_protein(**lists))})
        return prepare(config, out)

    with pytest.raises(Unfinished, match=r"data\.split\.test: no protein is called `3ghi` \(did you mean `3ghiC02`"):
        attempt(validation=[FILES[1]], test=["3ghi"])
    assert [path.name for path in out.iterdir()] == [".jobs"]
    manifest = attempt(validation=[FILES[1]], test=["3ghi*"])
    assert prepared == [*FILES, FILES[2]]
    assert manifest["proteins"][FILES[2]]["frames_per_split"]["test"] == 60


def test_a_protein_in_two_files_is_an_error(tmp_path, folder):
    (folder / "copy.h5").write_bytes((folder / f"mdcath_dataset_{FILES[0]}.h5").read_bytes())
    with pytest.raises(UserError, match=r"second source gives protein `1abcA00`: copy\.h5 does, too"):
        prepare(config_of(folder), out_of(tmp_path))


def test_an_interrupted_run_goes_on_with_the_files_that_are_left(tmp_path, folder, monkeypatch):
    whole = out_of(tmp_path, "whole")
    prepare(config_of(folder, workers=1), whole)
    out, prepared = out_of(tmp_path), []
    original = jobs.prepare_protein

    def stops_at_the_second(reference, *arguments):
        prepared.append(reference.name)
        if len(prepared) == 2:
            request_stop("test")
        return original(reference, *arguments)

    monkeypatch.setattr(jobs, "prepare_protein", stops_at_the_second)
    try:
        with pytest.raises(Interrupted):
            prepare(config_of(folder, workers=1), out)
    finally:
        clear_stop()
    assert [path.name for path in out.iterdir()] == [".jobs"]
    prepare(config_of(folder, workers=1), out)
    assert prepared == [FILES[0], FILES[1], FILES[1], FILES[2]]
    assert everything(out) == everything(whole)


@pytest.mark.parametrize("change", ["source", "settings", "result"])
def test_what_changed_meanwhile_is_done_again(tmp_path, folder, monkeypatch, change):
    out, config = out_of(tmp_path), config_of(folder, workers=1)
    done = jobs.make_jobs(expand_sources(config), config, out / ".jobs")[0]
    jobs.run_job(done)
    if change == "source":
        with h5py.File(done.sources[0].path, "a") as file:
            file.attrs["note"] = "changed"
    elif change == "settings":
        config = config_of(folder, workers=1, projection="slice")
    else:
        (done.folder / f"{FILES[0]}.h5").write_bytes(b"damaged")
    prepared = []
    original = jobs.prepare_protein
    monkeypatch.setattr(
        jobs, "prepare_protein", lambda reference, *rest: prepared.append(reference.name) or original(reference, *rest)
    )
    prepare(config, out)
    assert prepared == list(FILES)


def test_workers_and_policy_do_not_make_it_another_job(tmp_path, folder, monkeypatch):
    out = out_of(tmp_path)
    first = jobs.make_jobs(expand_sources(config_of(folder)), config_of(folder, workers=1), out / ".jobs")[0]
    jobs.run_job(first)
    other = config_of(folder, workers=2, on_bad_file="error")
    again = jobs.make_jobs(expand_sources(other), other, out / ".jobs")[0]
    monkeypatch.setattr(jobs, "prepare_protein", None)
    assert list(jobs.run_job(again).files) == [f"{FILES[0]}.h5"]


SCRIPT = """
import sys, pathlib
from cgloop.config.data import DataConfig
from cgloop.prep.pipeline import prepare
from cgloop.interrupt import stop_on_signals
from cgloop.errors import Interrupted

def main():
    folder, out = map(pathlib.Path, sys.argv[1:])
    split = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}
    config = DataConfig(sources=[{"path": folder / "*.h5"}], temperature_K=320, split=split, workers=2)
    with stop_on_signals():
        try:
            prepare(config, out)
        except Interrupted:
            sys.exit(5)

if __name__ == "__main__":
    main()
"""


def started(tmp_path, folder, out):
    """A run in a process of its own that has finished its first file and goes on."""
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), str(folder), str(out)], start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(out.glob(".jobs/*/result.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def gone(pids, timeout=15.0):
    deadline = time.monotonic() + timeout
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals_leave_no_process_behind_and_the_rest_can_be_done(tmp_path, number):
    names = [f"{i}prt{i:03d}" for i in range(1, 9)]
    folder = write_sources(tmp_path / "data", names, n_frames=300)
    out = out_of(tmp_path)
    process = started(tmp_path, folder, out)
    workers = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert workers
    os.kill(process.pid, number)
    code = process.wait(timeout=30)
    assert gone(workers)
    if code == 0:
        pytest.fail("it was done before it could be stopped")
    assert code == (5 if number == signal.SIGTERM else -9)
    finished = {path.parent: path.stat().st_mtime_ns for path in out.glob(".jobs/*/result.json")}
    assert finished
    manifest = prepare(config_of(folder, workers=1), out)
    assert sorted(manifest["proteins"]) == names


def fails(number):
    if number == 3:
        os._exit(9)
    return number


def test_a_worker_that_is_killed_is_an_interruption():
    with pytest.raises(Interrupted, match="worker process was killed"):
        list(run_all(fails, [1, 2, 3, 4], workers=2))


def squares(number):
    return number**2, os.environ["OMP_NUM_THREADS"], os.getpid()


def test_workers_compute_with_one_thread():
    done = dict(run_all(squares, list(range(6)), workers=2))
    assert {number: result[0] for number, result in done.items()} == {i: i * i for i in range(6)}
    assert {result[1] for result in done.values()} == {"1"}
    assert os.getpid() not in {result[2] for result in done.values()}


def test_digests_of_large_files_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "REMEMBERED_BYTES", 10)
    path = tmp_path / "large.h5"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1e9, 1e9))
    expected = digest_source(path)
    assert expected == digest_file(path)
    (entry,) = (tmp_path / "cache").rglob("*.json")
    assert json.loads(entry.read_text())["sha256"] == expected
    computed = []
    monkeypatch.setattr(sources, "digest_file", lambda p: computed.append(p) or digest_file(p))
    assert digest_source(path) == expected
    assert computed == []
    path.write_bytes(b"y" * 100)
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert digest_source(path) == digest_file(path) != expected
    assert computed == [path]
    entry.write_text("{")
    assert digest_source(path) == digest_file(path)


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "REMEMBERED_BYTES", 10)
    path = tmp_path / "fresh.h5"
    path.write_bytes(b"x" * 100)
    digest_source(path)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(sources, "REMEMBERED_BYTES", 10)
    path = tmp_path / "large.h5"
    path.write_bytes(b"x" * 100)
    os.utime(path, (1e9, 1e9))
    assert digest_source(path) == digest_file(path)


MEMORY = """
import pathlib, sys
from cgloop.config.data import DataConfig
from cgloop.prep.pipeline import prepare

folder, out = map(pathlib.Path, sys.argv[1:])
split = {"by": "replica", "train": [0], "validation": [1], "test": [2], "min_frames": 5}
config = DataConfig(sources=[{"path": folder}], temperature_K=320, projection="optimal", split=split, workers=1)
prepare(config, out)
# Not getrusage: its maximum begins with that of the process that started this one.
status = pathlib.Path("/proc/self/status").read_text().splitlines()
print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_stays_below_a_gigabyte_for_a_file_that_is_larger(tmp_path):
    """3 × 6,000 frames of 2,400 atoms in a file of 1.04 GB, all of them read."""
    n_frames, residues = 6000, 600
    molecule = build(chain_of(residues))
    n_atoms = len(molecule.names)
    path = tmp_path / "large.h5"
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        group = file.create_group("large")
        group["pdbProteinAtoms"] = molecule.text[: molecule.text.index("ENDMDL")].encode()
        group["z"] = np.array([{"H": 1, "C": 6, "N": 7, "O": 8}[element] for element in molecule.elements])
        for replica in range(3):
            place = group.create_group(f"320/{replica}")
            for name in ("coords", "forces"):
                place.create_dataset(name, (n_frames, n_atoms, 3), np.float32, chunks=(20, n_atoms, 3))
            for start in range(0, n_frames, 200):
                noise = random.normal(0, 0.05, (200, n_atoms, 3)).astype(np.float32)
                noise[:, 2::4] = noise[:, 1::4]  # rigid CA–HA
                place["coords"][start : start + 200] = molecule.positions.astype(np.float32) + noise
                place["forces"][start : start + 200] = 300 * random.permutation(noise, axis=1)
    assert path.stat().st_size > 1.0e9
    out = out_of(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(out)], capture_output=True, text=True, check=True
    )
    peak = int(done.stdout.split()[-1])
    assert peak < 1.0e9, f"{peak / 1e9:.2f} GB"
    assert json.loads(Path(out / "manifest.json").read_text())["proteins"]["large"]["frames"] == 3 * n_frames
