"""BAOAB inside LAMMPS's velocity Verlet: step by step against the textbook, and the ensembles that it samples."""

import numpy as np
import pytest

from cgloop.md.noise import Noise
from cgloop.md.thermostat import kinetic_energy, remove_net_momentum, thermal_speed
from cgloop.units import ACCELERATION, KB, MVV_TO_KCAL_PER_MOL, thermal_energy
from tests.md.worlds import (
    TEMPERATURE_K,
    chain_frames,
    masses_of,
    run_in_lammps,
    springs,
    thermal_velocities,
    thermostat,
    wells,
)

KT = thermal_energy(TEMPERATURE_K)


def textbook_baoab(x, v, force, mass, noise, steps, dt, friction_per_ps):
    """Leimkuhler & Matthews, written down as in the paper."""
    c = np.exp(-friction_per_ps * dt / 1000)
    width = np.sqrt((1 - c**2) * KT / (mass * MVV_TO_KCAL_PER_MOL))
    for step in range(1, steps + 1):
        v = v + 0.5 * dt * force(x) / mass * ACCELERATION
        x = x + 0.5 * dt * v
        v = c * v + width * noise.at(step)
        x = x + 0.5 * dt * v
        v = v + 0.5 * dt * force(x) / mass * ACCELERATION
    return x, v


def test_same_trajectory_as_the_textbook(tmp_path):
    n_beads, replicas, dt, steps = 6, [0, 3], 3.0, 200
    x, v = chain_frames(2, n_beads), thermal_velocities(n_beads, replicas)
    evaluate = springs(120.0, 3.8)
    coupling = run_in_lammps(
        tmp_path, evaluate, x, v, steps, dt, thermostat=thermostat(n_beads, replicas, dt, friction_per_ps=5.0)
    )
    noise = Noise(5, replicas, n_beads, "thermostat")
    expected = textbook_baoab(
        x, v, lambda x: evaluate(x).forces, masses_of(n_beads)[:, None], noise, steps, dt, friction_per_ps=5.0
    )
    np.testing.assert_allclose(coupling.final.positions, expected[0], atol=1e-10)
    np.testing.assert_allclose(coupling.final.velocities, expected[1], atol=1e-12)


@pytest.mark.parametrize("omega_dt", [0.2, 1.0])
def test_configurations_of_a_harmonic_well_have_no_error_in_the_time_step(tmp_path, omega_dt):
    """⟨x²⟩ = kT/k whatever the step; an integrator of other order of splitting is off by (ω dt)²/4 = 25 % at 1.0."""
    n_beads, n_replicas, dt, steps = 20, 6, 10.0, 8000
    mass = masses_of(n_beads)
    stiffness = (omega_dt / dt) ** 2 * mass.mean() * MVV_TO_KCAL_PER_MOL
    replicas = list(range(n_replicas))
    x = np.random.default_rng(1).standard_normal((n_replicas, n_beads, 3)) * np.sqrt(KT / stiffness)
    squares = []
    run_in_lammps(
        tmp_path,
        wells(stiffness),
        x,
        thermal_velocities(n_beads, replicas),
        steps,
        dt,
        thermostat=thermostat(n_beads, replicas, dt, friction_per_ps=20.0),
        observers=[lambda snapshot: squares.append((snapshot.positions**2).mean(axis=(1, 2)))],
    )
    by_replica = np.array(squares).mean(axis=0) * stiffness / KT
    error = by_replica.std(ddof=1) / np.sqrt(n_replicas)
    assert abs(by_replica.mean() - 1.0) < 4 * error
    assert error < 0.01


def test_kinetic_temperature_of_free_particles(tmp_path):
    n_beads, replicas, dt, steps = 20, list(range(6)), 20.0, 8000
    temperatures = []
    run_in_lammps(
        tmp_path,
        wells(0.0),
        chain_frames(6, n_beads),
        np.zeros((6, n_beads, 3)),
        steps,
        dt,
        thermostat=thermostat(n_beads, replicas, dt, friction_per_ps=5.0),
        observers=[lambda snapshot: temperatures.append(snapshot.temperature_K)],
    )
    kept = np.array(temperatures)[500:]
    # 3N degrees of freedom, each an Ornstein–Uhlenbeck process: correlation of v² over one step is c².
    c2 = np.exp(-2 * 5.0 * dt / 1000)
    n_effective = kept.size * 3 * n_beads * (1 - c2) / (1 + c2)
    assert abs(kept.mean() / TEMPERATURE_K - 1.0) < 4 * np.sqrt(2 / n_effective)


def test_kinetic_temperature_of_a_chain(tmp_path):
    """At the default time step the kinetic temperature of a stiff chain is right within its error."""
    n_beads, replicas, dt, steps = 10, list(range(8)), 2.0, 8000
    temperatures = []
    run_in_lammps(
        tmp_path,
        springs(100.0, 3.8),
        chain_frames(8, n_beads),
        thermal_velocities(n_beads, replicas),
        steps,
        dt,
        thermostat=thermostat(n_beads, replicas, dt, friction_per_ps=10.0),
        observers=[lambda snapshot: temperatures.append(snapshot.temperature_K)],
    )
    by_replica = np.array(temperatures)[500:].mean(axis=0) / TEMPERATURE_K
    assert abs(by_replica.mean() - 1.0) < 4 * by_replica.std(ddof=1) / np.sqrt(8)


def test_units_of_thermal_speed_and_kinetic_energy():
    """Equipartition: ½ m ⟨v²⟩ = ½ kT for each component."""
    mass = masses_of(5)
    speed = thermal_speed(mass, TEMPERATURE_K)
    velocities = np.broadcast_to(speed[:, None], (1, 5, 3))
    assert kinetic_energy(velocities, mass)[0] == pytest.approx(0.5 * 15 * KB * TEMPERATURE_K, rel=1e-12)


def test_net_momentum_is_removed():
    velocities = thermal_velocities(7, [0, 1])
    momentum = np.einsum("rni,n->ri", remove_net_momentum(velocities, masses_of(7)), masses_of(7))
    np.testing.assert_allclose(momentum, 0.0, atol=1e-12)
