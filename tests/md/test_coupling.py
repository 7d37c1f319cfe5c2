"""Dynamics through LAMMPS: conservation laws, independence of replicas, and what happens to a replica that breaks."""

import numpy as np
import pytest

from cgloop.md.monitors import Limits, Monitor
from cgloop.md.recorder import Recorder
from cgloop.units import MVV_TO_KCAL_PER_MOL
from tests.md.worlds import (
    chain_frames,
    evaluation,
    masses_of,
    run_in_lammps,
    springs,
    thermal_velocities,
    thermostat,
    wells,
)

SPRINGS = springs(120.0, 3.8)
WIDE = Limits(min_distance_A=0.0, bond=1e9, max_force=1e9, temperature_instant_K=1e9, temperature_mean_K=1e9)


def total_energies(folder, dt, steps):
    energies = []
    run_in_lammps(
        folder,
        SPRINGS,
        chain_frames(3, 8),
        thermal_velocities(8, [0, 1, 2]),
        steps,
        dt,
        observers=[lambda s: energies.append(s.kinetic + s.evaluation.energies)],
    )
    return np.array(energies)


def test_nve_conserves_energy_to_second_order(tmp_path):
    """The fluctuation of the total energy falls as dt², and there is no drift."""
    fluctuations = []
    for dt in (8.0, 4.0, 2.0):
        energies = total_energies(tmp_path / str(dt), dt, round(8000 / dt))
        fluctuations.append(energies.std(axis=0).mean())
        slope = np.polyfit(np.linspace(0, 1, len(energies)), energies.mean(axis=1), 1)[0]
        assert abs(slope) < 0.5 * fluctuations[-1]
    orders = np.log2(np.array(fluctuations[:-1]) / fluctuations[1:])
    np.testing.assert_allclose(orders, 2.0, atol=0.25)


def test_nve_conserves_momentum(tmp_path):
    coupling = run_in_lammps(tmp_path, SPRINGS, chain_frames(2, 8), thermal_velocities(8, [0, 1]), 300, 2.0)
    before = np.einsum("rni,n->ri", thermal_velocities(8, [0, 1]), masses_of(8))
    np.testing.assert_allclose(np.einsum("rni,n->ri", coupling.final.velocities, masses_of(8)), before, atol=1e-11)


def test_harmonic_oscillation_has_the_right_period(tmp_path):
    """ω = √(k/m), with units: x(t) = x₀ cos ωt."""
    stiffness, dt, steps = 40.0, 0.5, 700
    mass = masses_of(4)
    x = np.random.default_rng(0).standard_normal((1, 4, 3))
    coupling = run_in_lammps(tmp_path, wells(stiffness), x, np.zeros((1, 4, 3)), steps, dt)
    omega = np.sqrt(stiffness / (mass * MVV_TO_KCAL_PER_MOL))[:, None]
    np.testing.assert_allclose(coupling.final.positions[0], x[0] * np.cos(omega * steps * dt), atol=2e-4)


def test_a_replica_does_not_depend_on_others(tmp_path):
    """Bit for bit: alone, or beside others, one of which breaks."""
    n, dt, steps = 6, 2.0, 150
    frames = chain_frames(3, n)

    def run(folder, replicas, evaluate=SPRINGS):
        return run_in_lammps(
            tmp_path / folder,
            evaluate,
            frames[replicas],
            thermal_velocities(n, replicas),
            steps,
            dt,
            thermostat=thermostat(n, replicas, dt),
        )

    def breaking(positions):
        result = SPRINGS(positions)
        breaking.calls += 1
        if breaking.calls > 60:
            result.forces[1] = np.nan
            return result._replace(finite=np.array([True, False, True]))
        return result

    breaking.calls = 0
    alone = run("alone", [2])
    together = run("together", [0, 1, 2])
    beside_a_crash = run("crash", [0, 1, 2], breaking)
    assert beside_a_crash.alive.tolist() == [True, False, True]
    for other in (together, beside_a_crash):
        np.testing.assert_array_equal(other.final.positions[2], alone.final.positions[0])
        np.testing.assert_array_equal(other.final.velocities[2], alone.final.velocities[0])


class Breaking:
    """Springs that go wrong for one replica from a given evaluation on (0 is that of step 0)."""

    def __init__(self, row, step, change):
        self.row, self.step, self.change, self.calls = row, step, change, -1

    def __call__(self, positions):
        self.calls += 1
        result = SPRINGS(positions)
        return self.change(result, self.row) if self.calls >= self.step else result


def with_value(name, value):
    def change(result, row):
        values = np.array(getattr(result, name), copy=True)
        values[row] = value
        return result._replace(**{name: values})

    return change


def nan_forces(result, row):
    forces = result.forces.copy()
    forces[row, 2] = np.nan
    return evaluation(forces, result.energies)


def more_energy(result, row):
    """A step of the energy by 1 kcal/mol that no force announces."""
    terms = result.terms.copy()
    terms[row, 0] += 1.0
    return result._replace(terms=terms)


def run_breaking(folder, change, *, step=20, limits=WIDE, replicas=2, steps=40, **options):
    n = 6
    seen, frozen, recorder = [], [], Recorder(10, replicas, n)
    coupling = run_in_lammps(
        folder,
        Breaking(1, step, change),
        chain_frames(replicas, n),
        thermal_velocities(n, list(range(replicas))),
        steps,
        2.0,
        monitor=Monitor(limits, 2.0, replicas),
        recorder=recorder,
        observers=[lambda s: seen.append((s.step, s.alive, s.positions))],
        on_freeze=lambda violation: frozen.append((violation, recorder.history(violation.row))),
        **options,
    )
    return coupling, seen, frozen


def test_nan_forces_freeze_only_their_replica(tmp_path):
    coupling, seen, frozen = run_breaking(tmp_path, nan_forces)
    assert [v.limit for v, _ in frozen] == ["non-finite"]
    assert coupling.last_step.tolist() == [40, 19]
    assert np.isfinite(coupling.final.positions).all()
    assert [step for step, alive, _ in seen if alive[1]] == list(range(1, 20))
    held = [x[1] for step, _, x in seen if step >= 20]
    assert all(np.array_equal(frame, held[0]) for frame in held)
    _, history = frozen[0]
    assert history["step"].tolist() == list(range(11, 21))
    assert np.isnan(history["forces"][-1]).any()
    assert np.isfinite(history["forces"][:-1]).all()


def test_a_frozen_replica_stays_under_the_thermostat(tmp_path):
    _, seen, _ = run_breaking(tmp_path, nan_forces, thermostat=thermostat(6, [0, 1], 2.0))
    held = [x[1] for step, _, x in seen if step >= 20]
    assert all(np.array_equal(frame, held[0]) for frame in held)
    moving = [x[0] for step, _, x in seen if step >= 20]
    assert not np.array_equal(moving[0], moving[-1])


@pytest.mark.parametrize(
    ("limit", "change", "limits"),
    [
        ("min_distance", with_value("min_distance_A", 1.5), Limits(2.0, 1e9, 1e9, 1e9, 1e9)),
        ("bond", with_value("bond_deviation", 0.3), Limits(0.0, 0.25, 1e9, 1e9, 1e9)),
        ("max_force", with_value("max_force", 1001.0), Limits(0.0, 1e9, 1000.0, 1e9, 1e9)),
        ("non-finite", with_value("finite", False), WIDE),
        ("bond", with_value("bond_deviation", np.nan), WIDE),
        ("energy_jump", more_energy, Limits(0.0, 1e9, 1e9, 1e9, 1e9, energy_jump=0.6)),
    ],
)
def test_every_limit_freezes(tmp_path, limit, change, limits):
    coupling, _, frozen = run_breaking(tmp_path, change, limits=limits)
    assert [(v.row, v.limit) for v, _ in frozen] == [(1, limit)]
    assert coupling.alive.tolist() == [True, False]
    assert coupling.last_step.tolist() == [40, 19]
    _, history = frozen[0]
    assert history["step"].tolist() == list(range(11, 21))


def test_the_run_ends_when_nobody_is_left(tmp_path):
    """At step 20 one replica breaks, at step 30 the other."""

    class Both(Breaking):
        def __call__(self, positions):
            result = super().__call__(positions)
            return nan_forces(result, 0) if self.calls >= 30 else result

    world = Both(1, 20, nan_forces)
    coupling = run_in_lammps(tmp_path, world, chain_frames(2, 6), thermal_velocities(6, [0, 1]), 1000, 2.0)
    assert coupling.last_step.tolist() == [29, 19]
    assert not coupling.alive.any()
    assert world.calls == 30


def test_broken_at_the_start(tmp_path):
    coupling, seen, frozen = run_breaking(tmp_path, nan_forces, step=0)
    assert coupling.last_step.tolist() == [40, -1]
    assert len(frozen[0][1]["step"]) == 1
    assert not any(alive[1] for _, alive, _ in seen)


def test_heating_breaks_the_temperature_limits(tmp_path):
    """A force along the velocity heats one replica; the running mean is judged after a whole picosecond."""
    state = {"last": None}

    def heating(positions):
        result = SPRINGS(positions)
        if state["last"] is not None:
            result.forces[1] += 300.0 * (positions - state["last"])[1] / 2.0
        state["last"] = positions.copy()
        return result

    def run(folder, limits):
        state["last"] = None
        found = []
        run_in_lammps(
            tmp_path / folder,
            heating,
            chain_frames(2, 6),
            thermal_velocities(6, [0, 1]),
            1500,
            2.0,
            monitor=Monitor(limits, 2.0, 2),
            on_freeze=found.append,
        )
        return found

    (mean,) = run("mean", Limits(0.0, 1e9, 1e9, 1e9, 1200.0))
    assert (mean.row, mean.limit) == (1, "temperature_mean")
    (instant,) = run("instant", Limits(0.0, 1e9, 1e9, 3000.0, 1e9))
    assert (instant.row, instant.limit) == (1, "temperature_instant")
    assert instant.value > 3000.0


def test_equilibration_and_production_are_one_trajectory(tmp_path):
    """A second `run` asks for forces again without moving; the thermostat must not act on that."""

    def run(runs):
        x, v, bath = chain_frames(1, 6), thermal_velocities(6, [0]), thermostat(6, [0], 2.0)
        return run_in_lammps(tmp_path / str(len(runs)), SPRINGS, x, v, 60, 2.0, runs=runs, thermostat=bath).final

    whole, parts = run("run 60"), run("run 25\nrun 0\nrun 35")
    np.testing.assert_array_equal(whole.positions, parts.positions)
    np.testing.assert_array_equal(whole.velocities, parts.velocities)
    assert parts.step == 60
