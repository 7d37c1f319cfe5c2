"""The stage `md` with `engine: lmp`: the real program, its files, a crash, a kill, and what it may not be asked for."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import h5py
import MDAnalysis
import numpy as np
import pytest

from cgloop.errors import Interrupted, UserError
from cgloop.feedback.crash import read_crash
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.external_parts import read_parts
from cgloop.md.run import md_stage
from tests.md.model_worlds import config

pytestmark = pytest.mark.slow

LMP = str(Path(sys.executable).parent / "lmp")
SHORT = {"engine": "lmp", "lmp": LMP, "replicas": 2, "restart_every_ps": 0.1}


def run(world, folder, **md):
    folder.mkdir(exist_ok=True)
    return md_stage(config(**{**SHORT, **md}), world["export"], world["prep"], folder)


def test_a_model_survives_with_the_files_of_the_other_engine(prior_world, tmp_path):
    result = run(prior_world, tmp_path / "out")
    assert (result["engine"], result["thermostat"]) == ("lmp", "lammps-langevin")
    assert result["lammps"] > 20200000
    stages = result["proteins"]["helix"]["stages"]
    assert all(
        one["converged"] and one["energy_final"] < one["energy_initial"] for one in stages["minimize"]["replicas"]
    )
    for stage, steps, dof in (("nvt", 200, 30), ("nve", 100, 27)):
        folder, replicas = tmp_path / "out" / "helix" / stage, stages[stage]["replicas"]
        assert [(one["steps_done"], one["survived"]) for one in replicas] == [(steps, True)] * 2
        with h5py.File(folder / "observables.h5") as file:
            assert file.attrs["dof"] == dof
            group = file["replica_001"]
            np.testing.assert_allclose(group["time_ps"][:], 0.02 * np.arange(1, steps // 10 + 1))
            assert (len(file.attrs["kinetic_types"]), file.attrs["dof_by_type"].sum()) == (7, pytest.approx(dof))
            np.testing.assert_allclose(group["kinetic_by_type"][:].sum(axis=1), group["kinetic"][:])
            # The model and LAMMPS's styles are two implementations of the prior.
            np.testing.assert_allclose(group["terms"][:].sum(axis=1), group["potential"][:], atol=5e-3)
            if stage == "nve":
                assert np.ptp(group["total"][:]) < 0.05 * np.ptp(group["kinetic"][:])
        universe = MDAnalysis.Universe(folder / "topology.pdb", folder / "replica_001.dcd")
        assert len(universe.trajectory) == steps // 25
        left = {path.name for path in (folder / "lmp_001").iterdir()}
        assert {f"plain_{stage}.in", "priors.in", "system.data", "log.lammps"} <= left
        assert not any(name.endswith((".table", ".dump", ".dcd")) or "restart" in name for name in left)
    velocities = [read_velocities(tmp_path / "out" / "helix" / "nve" / f"lmp_00{i}" / "system.data") for i in (0, 1)]
    assert not np.allclose(*velocities), "each replica has noise of its own"


def read_velocities(path):
    return np.array([line.split()[1:] for line in path.read_text().split("Velocities\n\n")[1].splitlines()[:10]], float)


def test_a_crash_is_recorded_from_its_repetition(prior_world, tmp_path):
    """Heated to 2000 K the limits for 320 K are broken, whatever random numbers the repetition meets."""
    own = tmp_path / "own"
    own.mkdir()
    text = (Path("lammps_inputs") / "plain_nvt.in").read_text()
    text = text.replace("langevin ${temperature_K} ${temperature_K}", "langevin 2e3 2e3").replace(" ${more}", "")
    (own / "plain_nvt.in").write_text(text)
    result = run(
        prior_world, tmp_path / "out", lammps_inputs=str(own), replicas=1, crash_frames=20, nvt={
            "length_ps": 5.0, "equilibration_ps": 0.1, "friction_per_ps": 2.0,
        },
    )  # fmt: skip
    (outcome,) = result["proteins"]["helix"]["stages"]["nvt"]["replicas"]
    assert not outcome["survived"]
    assert outcome["limit"] in ("bond", "min_distance", "temperature_instant", "max_force")
    assert outcome["crash_step"] == outcome["steps_done"] + 51
    folder = tmp_path / "out" / "helix" / "nvt"
    crash = read_crash(folder / "crash_000.h5")
    assert (crash.limit, crash.step, len(crash.steps)) == (outcome["limit"], outcome["crash_step"], 20)
    assert (np.diff(crash.steps) == 1).all()
    # The terms are those of the model, the forces LAMMPS's.
    np.testing.assert_allclose(crash.term_forces.sum(axis=0), crash.forces[-1], atol=2e-2)
    assert np.isfinite(crash.terms).all()
    with h5py.File(folder / "observables.h5") as file:
        assert len(file["replica_000/time_ps"]) == outcome["steps_done"] // 10
        # The script is one that does not write it.
        assert "kinetic_types" not in file.attrs
        assert "kinetic_by_type" not in file["replica_000"]
    (after,) = result["proteins"]["helix"]["stages"]["nve"]["replicas"]
    assert after["limit"] == "not-started"


LONG = {
    "replicas": 1,
    "nvt": {"length_ps": 100.0, "equilibration_ps": 0.0},
    "observe_every_ps": 1.0,
    "dump_every_ps": 1.0,
}


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_restart_file(prior_world, tmp_path):
    """The program is killed where nobody can write anything any more; then the request to stop comes."""
    out = tmp_path / "out"
    folder = out / ".jobs" / "helix-000-000" / "nvt" / "lmp_000"

    def stop_when_it_has_run():
        while not (folder / "restart.b").is_file():
            time.sleep(0.02)
        request_stop("test")

    watcher = threading.Thread(target=stop_when_it_has_run)
    watcher.start()
    try:
        with pytest.raises(Interrupted):
            run(prior_world, out, **LONG)
    finally:
        watcher.join()
        clear_stop()
    assert not [line for line in os.popen("ps -eo args").readlines() if str(folder) in line]
    before = read_parts(folder).log.thermo["Step"][-1]
    result = run(prior_world, out, **LONG)
    (outcome,) = result["proteins"]["helix"]["stages"]["nvt"]["replicas"]
    assert (outcome["survived"], outcome["steps_done"]) == (True, 50_000)
    kept = out / "helix" / "nvt" / "lmp_000"
    first = read_first_step(kept / "log.lammps")
    assert 0 < first <= before + 500, "it went on, and did not begin anew"
    with h5py.File(out / "helix" / "nvt" / "observables.h5") as file:
        np.testing.assert_allclose(file["replica_000/time_ps"][:], np.arange(1.0, 101.0))
    universe = MDAnalysis.Universe(kept.parent / "topology.pdb", kept.parent / "replica_000.dcd")
    assert len(universe.trajectory) == 100


def read_first_step(log):
    lines = log.read_text().splitlines()
    return int(next(lines[i + 1].split()[0] for i, line in enumerate(lines) if line.split()[:2] == ["Step", "Temp"]))


@pytest.mark.slow
def test_a_dead_worker_takes_its_program_along(prior_world, tmp_path):
    """SIGKILL to the worker: the program ends, and the outcome says that the process was killed."""
    out, killed = tmp_path / "out", []

    def kill_the_worker():
        folder = out / ".jobs" / "helix-000-000" / "nvt" / "lmp_000"
        while not (folder / "restart.a").is_file():
            time.sleep(0.02)
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "cgloop.md.worker" in words and str((out / ".jobs" / "helix-000-000").resolve()) in words:
                os.kill(int(pid), signal.SIGKILL)
                killed.append(folder)

    watcher = threading.Thread(target=kill_the_worker)
    watcher.start()
    result = run(prior_world, out, **LONG)
    watcher.join()
    assert killed
    (outcome,) = result["proteins"]["helix"]["stages"]["nvt"]["replicas"]
    assert (outcome["survived"], outcome["limit"]) == (False, "killed")
    assert outcome["steps_done"] > 0
    until = time.monotonic() + 15.0
    while (alive := programs_in(out)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive


def programs_in(folder):
    """Processes whose working directory lies below a folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            place = os.readlink(f"/proc/{pid}/cwd")
        except OSError:
            continue
        if place.startswith(str(folder.resolve())):
            found.append(pid)
    return found


def test_what_it_cannot_run_is_said_before_anything_is_run(world, prior_world, tmp_path):
    with pytest.raises(UserError, match=r"missing_plugin.*md\.engine: lammps"):
        run(world, tmp_path / "network")
    with pytest.raises(UserError, match="cannot be run: No such file"):
        run(prior_world, tmp_path / "nowhere", lmp="/nowhere/lmp")
    with pytest.raises(UserError, match="is no LAMMPS"):
        run(prior_world, tmp_path / "true", lmp=["/bin/true"])
    assert not list(tmp_path.glob("*/helix"))
    with pytest.raises(ValueError, match="fix langevin"):
        config(**SHORT, nvt={"thermostat": "csvr"})


@pytest.mark.slow
def test_energies_of_another_model_are_no_success(prior_world, tmp_path):
    """A script that lets near pairs repel each other again: LAMMPS runs well, and its energies give it away."""
    own = tmp_path / "own"
    own.mkdir()
    text = (Path("lammps_inputs") / "plain_nvt.in").read_text()
    changed = text.replace("\ntimestep ", "\nspecial_bonds lj/coul 0.5 0.5 0.5\ntimestep ")
    (own / "plain_nvt.in").write_text(changed)
    result = run(prior_world, tmp_path / "out", lammps_inputs=str(own), replicas=1)
    (outcome,) = result["proteins"]["helix"]["stages"]["nvt"]["replicas"]
    assert (outcome["survived"], outcome["limit"]) == (False, "engine_error")
    assert "energies differ from the model's" in outcome["message"]
    assert json.loads((tmp_path / "out" / "md.json").read_text())["engine"] == "lmp"
