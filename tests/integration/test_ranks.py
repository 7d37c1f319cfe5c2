"""`mpiexec -n K cgloop md`, or `control`: replicas are spread over ranks, and nothing about them changes."""

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from cgloop.errors import ExitCode


def mpiexec(ranks, *arguments):
    """The mpiexec that belongs to LAMMPS's MPI library."""
    (program,) = (file for file in importlib.metadata.files("mpich") or () if file.name == "mpiexec")
    path = str(Path(str(program.locate())).resolve())
    command = [path, "-n", str(ranks), sys.executable, "-m", "cgloop.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=os.environ
    )


def without_md(finished_run, folder):
    """A copy of a finished run in which the dynamics are still to be done."""
    run = folder / "run"
    shutil.copytree(finished_run, run, symlinks=True)
    for stage in ("md", "control", "validate", "feedback"):
        shutil.rmtree(run / "cycle_000" / stage)
    return run


@pytest.mark.slow
@pytest.mark.machine
@pytest.mark.parametrize("ranks", [2, 4])
def test_same_trajectories_on_one_rank_and_on_several(tmp_path, finished_run, ranks):
    """Three replicas on two ranks, and on four, one of which gets none; of the dynamics and of their controls."""
    run = without_md(finished_run, tmp_path)
    process = mpiexec(ranks, "control", run)
    out, err = process.communicate(timeout=500)
    assert process.returncode == ExitCode.PASS, out + err
    for stage, runs in {
        "md": ("minimize", "nvt", "nve"),
        "control": ("prior_only/minimize", "prior_only/nvt", "order/dt_1", "order/dt_2", "order/dt_4"),
    }.items():
        one, several = finished_run / "cycle_000" / stage, run / "cycle_000" / stage
        record = f"{stage}.json"
        assert json.loads((several / record).read_text()) == json.loads((one / record).read_text())
        (protein,) = (path.name for path in one.iterdir() if path.is_dir())
        for name in runs:
            same_trajectories(one / protein / name, several / protein / name)


def same_trajectories(here, there):
    """Of all replicas of a stage, to the bit, with their series."""
    names = sorted(path.name for path in here.glob("replica_*.dcd"))
    assert len(names) >= 2
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes(), there / name
    with h5py.File(here / "observables.h5") as alone, h5py.File(there / "observables.h5") as spread:
        assert sorted(spread) == sorted(alone)
        for group in alone:
            assert sorted(spread[group]) == sorted(alone[group])
            for series in alone[group]:
                np.testing.assert_array_equal(spread[group][series][:], alone[group][series][:])


@pytest.mark.slow
@pytest.mark.machine
def test_a_stop_reaches_all_ranks_and_the_same_command_goes_on(tmp_path, finished_run):
    run = without_md(finished_run, tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["md"] |= {"restart_every_ps": 0.2, "nvt": {**config["md"]["nvt"], "length_ps": 20.0}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    process = mpiexec(2, "md", run)
    deadline = time.monotonic() + 200
    while len(list(run.glob("cycle_000/.md.partial/.jobs/*/nvt/restart.npz"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert "Traceback" not in err
    assert not (run / "lock.json").exists(), out + err
    process = mpiexec(2, "md", run)
    out, err = process.communicate(timeout=500)
    assert process.returncode == ExitCode.PASS, out + err
    assert "goes on at" in (run / "cgloop.log").read_text()
    md = json.loads((run / "cycle_000" / "md" / "md.json").read_text())
    (protein,) = md["proteins"].values()
    assert len(protein["stages"]["nvt"]["replicas"]) == 3
