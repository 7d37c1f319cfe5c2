"""Measurements on series and forces, against numbers that were put in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgloop.feedback import evidence
from cgloop.feedback.crash import read_crash
from cgloop.feedback.diagnosis import diagnose
from cgloop.feedback.words import number
from tests.feedback import crash_files


def test_a_fall_starts_after_the_plateau():
    values = np.concatenate([np.full(30, 5.2), np.linspace(5.2, 1.9, 18)])
    found = evidence.development(values, 2.0 * np.arange(48))
    assert (found.first, found.last) == (5.2, 1.9)
    assert found.duration_fs == pytest.approx(34)
    assert not found.whole


def test_small_reversals_do_not_end_a_fall_and_large_ones_do():
    time = np.arange(8.0)
    small = evidence.development(np.array([2.0, 9.0, 8.0, 6.0, 6.3, 4.0, 3.0, 1.0]), time)
    large = evidence.development(np.array([9.0, 8.0, 2.0, 6.0, 5.0, 4.0, 3.0, 1.0]), time)
    assert (small.first, small.duration_fs) == (9.0, 6.0)
    assert (large.first, large.duration_fs) == (6.0, 4.0)


def test_a_series_that_cannot_be_told():
    assert evidence.development(np.array([np.nan, 3.0]), np.arange(2.0)) is None
    assert evidence.development(np.full(5, 3.0), np.arange(5.0)) is None


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=40))
def test_development_is_part_of_the_series(values):
    found = evidence.development(np.array(values), np.arange(len(values)))
    if found is not None:
        start = len(values) - 1 - int(found.duration_fs)
        assert values[start] == found.first
        assert values[-1] == found.last
        assert found.whole == (start == 0)


def test_splits_add_up(protein, tmp_path):
    """Parts along the total add up to its length; closing forces to the projected difference of total forces."""
    crash = read_crash(crash_files.clash(protein, tmp_path / "c.h5"))
    crash.term_forces[:] = np.random.default_rng(1).normal(size=crash.term_forces.shape)
    total = crash.term_forces.sum(axis=0)
    assert sum(evidence.bead_split(crash, 4).values()) == pytest.approx(np.linalg.norm(total[4]))
    line = crash.positions[-1, 6] - crash.positions[-1, 0]
    closing = 0.5 * np.dot(total[0] - total[6], line / np.linalg.norm(line))
    assert sum(evidence.pair_split(crash, 0, 6).values()) == pytest.approx(closing)


def test_kinetic_temperature_is_that_of_the_recorder(protein, tmp_path):
    import h5py

    from cgloop.units import KB

    path = crash_files.heat(protein, tmp_path / "c.h5")
    with h5py.File(path) as file:
        kinetic = file["kinetic"][:]
    np.testing.assert_allclose(read_crash(path).temperature, 2 * kinetic / (30 * KB), rtol=1e-5)


@pytest.mark.parametrize("freedom", [30, 27], ids=["Langevin", "CSVR"])
def test_temperature_is_that_of_the_masses_and_degrees_of_freedom_of_the_run(protein, tmp_path, freedom):
    """Equipartition: beads of 12 g/mol whose kinetic energy is f/2 kT at 318 K are at 318 K, and not at 2,945 K."""
    from cgloop.units import KB, MVV_TO_KCAL_PER_MOL

    crash = crash_files.CrashFile(protein, masses=np.full(10, 12.0), degrees_of_freedom=freedom)
    kinetic = 0.5 * 12.0 * MVV_TO_KCAL_PER_MOL * (crash.velocities**2).sum(axis=(1, 2))
    crash.velocities = crash.velocities * np.sqrt(0.5 * freedom * KB * 318.0 / kinetic)[:, None, None]
    path = crash.write(tmp_path / "c.h5", "max_force", 1200.0, 1000.0, [0])
    found = read_crash(path)
    np.testing.assert_allclose(found.temperature, 318.0, rtol=1e-6)
    np.testing.assert_allclose(found.kinetic_energy, 0.5 * freedom * KB * 318.0, rtol=1e-6)
    assert diagnose(path)["numbers"]["temperature_K"] == pytest.approx(318.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.234, "1.23"), (1200, "1,200"), (0.0123, "0.0123"), (35, "35.0"), (1.5e8, "1.50e+08"), (0.0, "0.00"),
     (float("nan"), "not a number"), (float("inf"), "infinite")],
)  # fmt: skip
def test_numbers_in_words(value, text):
    assert number(value) == text
