"""The prior alone, against the harmonic oscillator of two bonded beads."""

import jax
import numpy as np
import pytest

from cgloop.feedback.crash import Crash
from cgloop.feedback.prior_rerun import PriorAlone
from cgloop.model.hybrid import Model
from cgloop.model.terms import TERM_NAMES, zero_prior
from cgloop.residues import masses
from cgloop.units import FS_PER_PS, MVV_TO_KCAL_PER_MOL

K, R0, STEP_FS = 120.0, 3.8, 1.0
LIMITS = {"min_distance_A": 2.0, "max_bond_deviation": 0.2, "max_force": 1000.0}
TYPES = np.array([0, 5])
REDUCED = 1.0 / sum(1.0 / masses()[t] for t in TYPES) * MVV_TO_KCAL_PER_MOL
OMEGA = np.sqrt(K / REDUCED)


@pytest.fixture(scope="module")
def alone():
    prior = zero_prior()._replace(bond_k=np.float32(K), bond_r0=np.float32(R0))
    params = {"prior": jax.tree.map(np.float32, prior), "ml": {}}
    return PriorAlone(Model(spec=None, energy="prior-only", cutoff_A=12.0), params)


def crash_of(speed, bead_masses=None):
    """Two beads at rest length that part with a relative speed, Å/fs; default: of residue masses."""
    bead_masses = np.asarray(masses())[TYPES] if bead_masses is None else np.asarray(bead_masses)
    positions = np.tile([[40.0, 0, 0], [40.0 + R0, 0, 0]], (3, 1, 1))
    share = 1.0 / bead_masses
    velocities = np.zeros((3, 2, 3))
    velocities[:, :, 0] = [-1.0, 1.0] * share / share.sum() * speed
    return Crash(
        protein="p", stage="nvt", replica=0, step=102, time_ps=0.1, limit="bond", value=1.0, threshold=0.2,
        beads=np.array([0]), residues=("ALA 1", "GLN 2"), masses=bead_masses, timestep_fs=STEP_FS, temperature_K=300.0,
        steps=np.arange(100, 103), positions=positions, velocities=velocities, forces=np.zeros((3, 2, 3)),
        kinetic_energy=np.zeros(3), temperature=np.zeros(3),
        terms=np.zeros((3, len(TERM_NAMES))), term_forces=None, residue_type=TYPES, native=positions[0],
        linked=np.ones(1, bool), phase="production",
    )  # fmt: skip


def test_amplitude_below_the_limit_survives(alone):
    found = alone.rerun(crash_of(0.95 * 0.2 * R0 * OMEGA), 0, np.array([R0]), LIMITS, 0.73)
    assert not found["crashed"]
    assert found["time_ps"] == pytest.approx(0.73)
    assert found["from_step"] == 100
    assert "stayed inside all limits" in found["words"]


def test_amplitude_above_the_limit_breaks_when_the_sine_reaches_it(alone):
    amplitude = 1.1 * 0.2 * R0
    found = alone.rerun(crash_of(amplitude * OMEGA), 1, np.array([R0]), LIMITS, 5.0)
    expected_fs = np.arcsin(1 / 1.1) / OMEGA
    assert found["crashed"]
    assert found["limit"] == "bond"
    assert found["time_ps"] * FS_PER_PS == pytest.approx(expected_fs, abs=2 * STEP_FS)
    assert "crashed as well" in found["words"]


def test_the_prior_runs_with_the_masses_of_the_run(alone):
    """`md.masses: 12.0` makes two beads swing √(μ₀/μ) times as fast as residue masses do, μ = 6 g/mol."""
    omega = np.sqrt(K / (6.0 * MVV_TO_KCAL_PER_MOL))
    found = alone.rerun(crash_of(1.1 * 0.2 * R0 * omega, [12.0, 12.0]), 0, np.array([R0]), LIMITS, 5.0)
    assert found["limit"] == "bond"
    assert found["time_ps"] * FS_PER_PS == pytest.approx(np.arcsin(1 / 1.1) / omega, abs=2 * STEP_FS)


def test_what_is_not_a_number_is_a_crash(alone):
    crash = crash_of(0.0)
    crash.velocities[0, 0, 1] = np.inf
    found = alone.rerun(crash, 0, np.array([R0]), LIMITS, 1.0)
    assert found["crashed"]
    assert found["limit"] == "non_finite"
