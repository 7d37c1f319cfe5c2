"""What goes wrong inside a run comes out of it: exceptions, stops, refused commands, periodic images."""

import numpy as np
import pytest

from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.md.inputs import HALF_BOX_A, write_data_file, write_script
from cgloop.md.session import Session, StopRun, lammps_version
from tests.md.worlds import chain_frames, run_in_lammps, springs, types_of


@pytest.fixture
def script(tmp_path):
    """Ten steps of three free beads."""
    write_data_file(tmp_path / "system.data", types_of(3), chain_frames(1, 3), np.full((1, 3, 3), 0.01))
    values = {"data_file": "system.data", "timestep_fs": 2.0, "thermo_every": 10, "steps": 10}
    return write_script("nve.in", values, tmp_path / "nve.in")


def no_force(_step, _atoms, forces):
    forces[:] = 0.0
    return 0.0


def test_version():
    assert lammps_version() >= 20250722


def test_exception_in_the_callback_is_raised(script):
    calls = []

    def force(step, _atoms, _forces):
        calls.append(step)
        if step == 4:
            raise ZeroDivisionError("in the middle")
        return 0.0

    with Session() as session, pytest.raises(ZeroDivisionError, match="in the middle"):
        session.run_script(script, force)
    assert calls == [0, 1, 2, 3, 4]


def test_a_stop_ends_the_run_and_all_later_ones(script):
    steps = []

    def force(step, _atoms, forces):
        steps.append(step)
        if step == 3:
            raise StopRun("enough")
        return no_force(step, _atoms, forces)

    with Session() as session:
        session.run_script(script, force)
        session.command("run 5")
        assert session.stopped
    assert steps == [0, 1, 2, 3]


def test_a_request_to_stop_interrupts(tmp_path):
    request_stop("test")
    try:
        with pytest.raises(Interrupted):
            run_in_lammps(tmp_path, springs(100.0, 3.8), chain_frames(1, 3), np.zeros((1, 3, 3)), 500, 2.0)
    finally:
        clear_stop()


def test_a_refused_command_names_the_script(script):
    script.write_text(script.read_text().replace("thermo ", "thermonuclear "))
    with Session() as session, pytest.raises(UserError, match="Unknown command: thermonuclear") as caught:
        session.run_script(script, no_force)
    assert caught.value.where == script


def test_positions_are_unwrapped(script):
    """A bead that leaves the box through its face goes on as if there were no box."""
    start = np.array([[HALF_BOX_A - 0.03, 0, 0], [3.0, -HALF_BOX_A + 0.01, 0], [0, 0, 5.0]])
    seen = []

    def force(step, atoms, forces):
        seen.append(atoms.unwrapped())
        return no_force(step, atoms, forces)

    with Session() as session:
        session.run_script(script, force)
        session.place(start)
        session.atoms().velocities[:] = [[0.01, 0, 0], [0, -0.01, 0], [0, 0, 0]]
        seen.clear()
        session.command("run 10")
        # A second run wraps the positions and counts the images.
        session.command("run 0")
        assert session.atoms().positions[0, 0] < -HALF_BOX_A + 1.0
    expected = start + np.array([[0.2, 0, 0], [0, -0.2, 0], [0, 0, 0]])
    np.testing.assert_allclose(seen[-1], expected, atol=1e-9)
    np.testing.assert_allclose(seen[-2], expected, atol=1e-9)


def test_forces_and_energy_reach_lammps(script):
    def force(_step, atoms, forces):
        forces[:] = -0.5 * atoms.positions
        return 7.25

    with Session() as session:
        session.run_script(script, force)
        session.command("run 0")
        assert session.potential_energy() == 7.25
        np.testing.assert_array_equal(session.total_forces(), -0.5 * session.atoms().positions)
