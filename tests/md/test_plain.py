"""The scripts for a plain `lmp`, run by the real program without Python."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from MDAnalysis.lib.formats.libdcd import DCDFile

from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle
from cgloop.md.external_log import read_log
from cgloop.md.noise import Noise
from cgloop.md.plain import PlainSettings, with_defaults, write_plain_inputs
from cgloop.md.plain_deploy import write_deployed_plain
from cgloop.md.thermostat import maxwell_velocities, remove_net_momentum
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import prior_forces
from tests.md.model_worlds import config, protein, system

LMP = str(Path(sys.executable).parent / "lmp")
SYSTEM = system(10)
START = protein(10).positions[25].astype(float)
TEMPERATURE_K = 320.0


def velocities():
    drawn = maxwell_velocities(Noise(3, [0], 10, "velocities"), SYSTEM.masses, TEMPERATURE_K)
    return remove_net_momentum(drawn, SYSTEM.masses)[0]


@pytest.fixture(scope="module")
def bundle(prior_world):
    return load_bundle(prior_world["export"])


@pytest.fixture
def inputs(bundle, tmp_path):
    settings = PlainSettings(TEMPERATURE_K, steps=400, thermo_every=10, dump_every=20, restart_every=100, seed=4)
    write_plain_inputs(tmp_path / "plain", bundle, SYSTEM, START, velocities(), settings)
    return tmp_path / "plain"


def lmp(folder, script, *variables):
    arguments = [LMP, "-in", script, "-log", "log.lammps", "-screen", "none", "-nocite"]
    for name, value in variables:
        arguments += ["-var", name, str(value)]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=120)


def test_constant_energy_is_constant_and_starts_with_our_forces(inputs, bundle):
    done = lmp(inputs, "plain_nve.in", ("dense_every", 200))
    assert done.returncode == 0, done.stdout + done.stderr
    thermo = read_log(inputs / "log.lammps").thermo
    assert thermo["Step"][-1] == 400
    assert len(thermo["Step"]) == 41
    total = thermo["TotEng"]
    # The exchange of kinetic and potential energy is a hundred times larger.
    assert np.ptp(total) < 0.05 * np.std(thermo["KinEng"])
    rows = np.loadtxt(inputs / "dense.dump", skiprows=9, max_rows=10)
    graph = build_graph(SYSTEM.residue_type, SYSTEM.linked, rows[:, 2:5], bundle.cutoff_A)
    function = jax.jit(partial(prior_forces, bundle.model, bundle.params))
    forces = np.asarray(function(rows[:, 2:5].astype(np.float32), graph))
    np.testing.assert_allclose(rows[:, 2:5], START, atol=1e-9)
    assert np.abs(rows[:, 8:] - forces).max() < 1e-4 * np.sqrt(np.mean(forces**2))
    assert {"restart.a", "restart.b", "final.restart"} <= {path.name for path in inputs.iterdir()}


def test_the_thermostat_and_the_restart(inputs):
    done = lmp(inputs, "plain_nvt.in", ("equilibration_steps", 100))
    assert done.returncode == 0, done.stdout + done.stderr
    thermo = read_log(inputs / "log.lammps").thermo
    assert thermo["Step"][-1] == 500
    assert np.ptp(thermo["TotEng"]) > 1.0
    with DCDFile(str(inputs / "trajectory.dcd")) as file:
        frames = file.readframes().xyz
    assert frames.shape == (20, 10, 3)
    # Variables change on the command line, and a restart goes on where it was written.
    done = lmp(inputs, "plain_nvt.in", ("restart_file", "final.restart"), ("steps", 700))
    assert done.returncode == 0, done.stdout + done.stderr
    again = read_log(inputs / "log.lammps").thermo
    assert again["Step"][0] == 500
    assert again["Step"][-1] == 700
    assert again["PotEng"][0] == pytest.approx(thermo["PotEng"][-1], abs=1e-6)


def test_minimisation(inputs):
    done = lmp(inputs, "plain_minimize.in")
    assert done.returncode == 0, done.stdout + done.stderr
    thermo = read_log(inputs / "log.lammps").thermo
    assert thermo["Fmax"][-1] <= 0.05
    assert thermo["PotEng"][-1] < thermo["PotEng"][0]
    assert (inputs / "minimized.data").is_file()


def test_a_network_is_a_pair_style_beside_the_prior(world, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(world["export"], folder)
    bundle = load_bundle(folder)
    settings = PlainSettings(TEMPERATURE_K, device="cuda", memory=0.5)
    write_plain_inputs(tmp_path / "with", bundle, SYSTEM, START, velocities(), settings)
    commands = (tmp_path / "with" / "priors.in").read_text()
    assert (tmp_path / "with" / "model.ptb").read_bytes() == (folder / "model.ptb").read_bytes()
    (folder / "model.ptb").unlink()
    write_plain_inputs(tmp_path / "without", bundle, SYSTEM, START, velocities(), settings)
    assert "WARNING: the prior alone" in (tmp_path / "without" / "priors.in").read_text()
    assert "pair_style      hybrid/overlay chemtrain_deploy cuda 0.5 table spline 20001\n" in commands
    assert "pair_coeff      * * chemtrain_deploy model.ptb 1.2 1.2\n" in commands
    # No pair may be marked in the list of neighbours that the plugin reads.
    assert "lj/coul 1.0 1.0 1.0" in commands


def test_wrong_settings_are_one_line(bundle, tmp_path):
    with pytest.raises(UserError, match="seed 0 is not positive"):
        write_plain_inputs(tmp_path, bundle, SYSTEM, START, velocities(), PlainSettings(TEMPERATURE_K, seed=0))
    with pytest.raises(UserError, match="no default"):
        with_defaults("variable speed index ${speed}", {}, "script")
    assert with_defaults("variable a index ${a} # ${a}", {"a": 0.1}, "script") == "variable a index 0.1 # ${a}"


def test_a_deployed_model_runs_where_there_is_no_python(prior_world, tmp_path):
    """As its README says, and there alone: nothing outside the folder is used."""
    write_deployed_plain(config(replicas=1), prior_world["export"], prior_world["prep"], tmp_path / "plain")
    folder, readme = tmp_path / "moved", (tmp_path / "plain" / "README.md").read_text()
    (tmp_path / "plain" / "helix").rename(folder)
    commands = [line.split("#")[0].split() for line in readme.splitlines() if line.startswith("    lmp ")]
    assert len(commands) == 4
    for _, *arguments in commands:
        done = subprocess.run([LMP, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert str(tmp_path / "plain") not in (folder / "log.lammps").read_text()
