"""Scripts are rendered completely, and LAMMPS reads back exactly the numbers that were written."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cgloop.errors import UserError
from cgloop.md.inputs import find_template, render, split_script, write_data_file, write_script
from cgloop.md.session import Session
from tests.md.worlds import types_of

VALUES = {
    "integrator": "fix integrate all nve",
    "data_file": "system.data", "timestep_fs": 2.0, "thermo_every": 10, "steps": 0, "equilibration_steps": 0,
    "temperature_K": 320.0, "friction_per_ps": 1.0, "force_tolerance": 0.05, "max_steps": 10, "max_evaluations": 100,
}  # fmt: skip


def test_all_templates_render():
    for name in ("minimize.in", "nvt.in", "nve.in"):
        text = render(find_template(name).read_text(), VALUES)
        assert "${" not in text
        head, tail = split_script(text)
        assert head.rstrip().endswith("fix             model all external pf/callback 1 1")
        assert "run" in tail or "minimize" in tail


def test_unknown_variable_is_named():
    with pytest.raises(UserError, match=r"unknown variable \$\{nonsense\}"):
        render("timestep ${nonsense}", {"timestep_fs": 2.0})


def test_own_variables_are_left_to_lammps():
    text = "variable half equal 0.5*${timestep_fs}\ntimestep ${half}"
    assert render(text, {"timestep_fs": 2.0}) == "variable half equal 0.5*2\ntimestep ${half}"


def test_script_without_the_model_is_refused():
    with pytest.raises(UserError, match="fix model all external"):
        split_script("units real\nrun 10\n")


def test_missing_template_is_named():
    with pytest.raises(UserError, match=r"nothing\.in"):
        find_template("nothing.in")


finite = st.floats(-4900, 4900, allow_nan=False, width=64)


@settings(max_examples=10, deadline=None)
@given(positions=arrays(float, (2, 3, 3), elements=finite), velocities=arrays(float, (2, 3, 3), elements=finite))
def test_lammps_reads_what_was_written(tmp_path_factory, positions, velocities):
    folder = tmp_path_factory.mktemp("data")
    types = types_of(3)
    write_data_file(folder / "system.data", types, positions, velocities)
    script = write_script("nve.in", VALUES, folder / "nve.in")
    seen = {}

    def force(_step, atoms, forces):
        seen.setdefault("x", atoms.unwrapped())
        seen.setdefault("v", atoms.velocities.copy())
        forces[:] = 0.0
        return 0.0

    with Session() as session:
        session.run_script(script, force)
    np.testing.assert_array_equal(seen["x"], positions.reshape(-1, 3))
    np.testing.assert_array_equal(seen["v"], velocities.reshape(-1, 3))
