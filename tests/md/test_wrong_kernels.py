"""Forces that are 1 to 4 % off their energy, as kernels of published packages had: which check catches them.

A chain of springs with a pair energy in the place of the network runs in LAMMPS at constant energy. The force of the
pairs is scaled, for all beads or for every second one; the energy stays what it is. All kernels run at once, as
replicas of one instance.
"""

import numpy as np
import pytest

from cgloop.config.validate import ValidateConfig
from cgloop.md.static import gradient_error
from cgloop.validate.nve import judge_drift
from cgloop.validate.order import judge_order
from cgloop.validate.static import gradient_check
from tests.md.worlds import TEMPERATURE_K, chain_frames, evaluation, run_in_lammps, thermal_velocities

SETTINGS = ValidateConfig()
N_BEADS, N_REPLICAS, TIMESTEP_FS = 10, 4, 2.0
DRIFT_PS, ORDER_PS = 12.0, 1.0
STIFFNESS, LENGTH_A = 150.0, 3.8
REPULSION, RANGE_A = 40.0, 2.2
DEPTH, WELL_A, WIDTH_A = 1.5, 6.0, 1.0

KERNELS = {
    "sound": (0.0, 0.0),
    **{f"all beads, {100 * error:.0f} %": (error, error) for error in (0.01, 0.02, 0.04)},
    **{f"half of the beads, {100 * error:.0f} %": (error, 0.0) for error in (0.01, 0.02, 0.04)},
}
"""By what the force of the pairs is too large, relative, on beads with an even and with an odd number."""


def parts(x):
    """Energies [R] and forces [R, N, 3] of frames [R, N, 3]: of the springs, and of the pairs that share no bond."""
    apart = np.abs(np.arange(x.shape[1])[:, None] - np.arange(x.shape[1]))
    vector = x[:, None] - x[:, :, None]
    r = np.linalg.norm(vector, axis=3) + (apart == 0)
    core = REPULSION * np.exp(-(r**2) / (2 * RANGE_A**2))
    well = -DEPTH * np.exp(-((r - WELL_A) ** 2) / (2 * WIDTH_A**2))
    found = []
    for chosen, energy, slope in (
        (apart == 1, 0.5 * STIFFNESS * (r - LENGTH_A) ** 2, STIFFNESS * (r - LENGTH_A)),
        (apart > 1, core + well, -core * r / RANGE_A**2 - well * (r - WELL_A) / WIDTH_A**2),
    ):
        pull = np.where(chosen, slope / r, 0.0)
        found.append((0.5 * np.where(chosen, energy, 0.0).sum(axis=(1, 2)), np.einsum("rij,rijx->rix", pull, vector)))
    return found


def kernel(factors):
    """An evaluator of replicas whose pair forces are multiplied by factors [R, N]."""

    def evaluate(x):
        (bonds, bond_forces), (pairs, pair_forces) = parts(x)
        return evaluation(bond_forces + factors[..., None] * pair_forces, bonds + pairs)

    return evaluate


def factors_of(even, odd, replicas):
    """[R, N]."""
    return np.tile(1.0 + np.where(np.arange(N_BEADS) % 2 == 0, even, odd), (replicas, 1))


def run(folder, factors, timestep_fs, length_ps, every):
    """Times and energies of all replicas at constant energy: total and kinetic [T, R]."""
    n = len(factors)
    starts = chain_frames(N_REPLICAS, N_BEADS)
    velocities = thermal_velocities(N_BEADS, list(range(N_REPLICAS)))
    repeats = n // N_REPLICAS
    seen = []

    def observe(snapshot):
        if snapshot.step % every == 0:
            seen.append((snapshot.step, snapshot.kinetic + snapshot.evaluation.energies, snapshot.kinetic))

    given = np.tile(starts, (repeats, 1, 1)), np.tile(velocities, (repeats, 1, 1))
    steps = round(1000 * length_ps / timestep_fs)
    run_in_lammps(folder, kernel(factors), *given, steps, timestep_fs, observers=[observe])
    step, total, kinetic = zip(*seen, strict=True)
    return 1e-3 * timestep_fs * np.array(step), np.array(total), np.array(kinetic)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """By kernel, the results of the three checks."""
    folder = tmp_path_factory.mktemp("kernels")
    factors = np.concatenate([factors_of(*errors, N_REPLICAS) for errors in KERNELS.values()])
    time, total, kinetic = run(folder / "drift", factors, TIMESTEP_FS, DRIFT_PS, 10)
    orders = [run(folder / f"order{k}", factors, TIMESTEP_FS / k, ORDER_PS, k)[1] for k in (1, 2, 4)]
    frame = chain_frames(1, N_BEADS)[0]
    found = {}
    for number, (name, errors) in enumerate(KERNELS.items()):
        rows = range(number * N_REPLICAS, (number + 1) * N_REPLICAS)
        drift = judge_drift(
            [time] * N_REPLICAS, [total[:, r] for r in rows], [kinetic[:, r] for r in rows], TEMPERATURE_K,
            3 * N_BEADS - 3, SETTINGS, "chain",
        )  # fmt: skip
        steps = [TIMESTEP_FS / k for k in (1, 2, 4)]
        order = judge_order(steps, [[one[:, r] for one in orders] for r in rows], SETTINGS, "chain")
        found[name] = (_gradient(frame, factors_of(*errors, 1)), drift, order)
    return found


def _gradient(frame, factors):
    def energy(x):
        one = kernel(factors)(x[None])
        return float(one.energies[0]), one.forces[0]

    error = gradient_error(lambda _near: energy, np.array([frame]), np.random.default_rng(0))
    return gradient_check({"gradient": error}, SETTINGS)


def test_the_sound_kernel_fails_nowhere(verdicts):
    gradient, drift, order = verdicts["sound"]
    assert (gradient.verdict, order.verdict) == ("pass", "pass"), order.reason
    assert drift.verdict != "fail", drift.reason


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "sound"])
def test_a_force_that_is_off_its_energy_is_caught(name, verdicts):
    """By the differences of the energy at any size, and by the order: the energy that is kept is another one."""
    gradient, _drift, order = verdicts[name]
    assert gradient.verdict == "fail"
    # In proportion to the error, and far beyond the limit.
    assert gradient.value > 50 * gradient.threshold * float(name.split(", ")[1].removesuffix(" %"))
    assert order.verdict == "fail", order.reason


@pytest.mark.parametrize("name", ["half of the beads, 1 %", "half of the beads, 2 %", "half of the beads, 4 %"])
def test_a_force_that_is_the_gradient_of_no_energy_drifts(name, verdicts):
    """One that is scaled as a whole is the gradient of another energy, and may not drift at all."""
    assert verdicts[name][1].verdict == "fail", verdicts[name][1].reason
