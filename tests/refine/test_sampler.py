"""Langevin chains against the ensemble of a harmonic bond."""

import numpy as np
import pytest

from cgloop.refine import lanes
from cgloop.refine.sampler import LIMITS, ChainLimits, Chains, Dynamics, Sampler
from tests.refine.dimers import KT, LENGTH, LOOSE, dimer_energy, frames_of, lengths_at, point

K = 20.0
MASSES = np.array([71.0, 57.0])


def sampler(limits=LOOSE, lanes=None, seed=1, timestep_fs=10.0):
    dynamics = Dynamics(KT, timestep_fs, 10.0)
    return Sampler(dimer_energy(), MASSES, np.array([LENGTH]), dynamics, limits, seed, lanes)


def chains(one, n):
    return Chains(frames_of(np.full(n, LENGTH)).astype(np.float32), one.velocities(range(n), 0))


def test_ensemble_of_a_bond():
    """Potential energy and bond length against quadrature, kinetic energy against equipartition, within 4 errors."""
    one = sampler()
    start, _ = one.run(point(K), chains(one, 256), 0, 1, 100)
    _, block = one.run(point(K), start, 1, 40, 25)
    assert block.sound.all()
    length = np.linalg.norm(block.positions[:, :, 1] - block.positions[:, :, 0], axis=-1)
    r, p = lengths_at(K)
    for found, expected in (
        (length, (p * r).sum()),
        (0.5 * K * (length - LENGTH) ** 2, (p * 0.5 * K * (r - LENGTH) ** 2).sum()),
        (block.kinetic_kT, 3.0),
    ):
        means = found.mean(axis=1)
        error = means.std(ddof=1) / np.sqrt(len(means))
        assert abs(means.mean() - expected) < 4 * error + 0.01 * abs(expected)


def test_chains_do_not_depend_on_how_they_are_divided(monkeypatch):
    found = []
    for number in (1, 4):
        one = sampler(lanes=number)
        found.append(one.run(point(K), chains(one, 8), 3, 2, 20))
    for _, block in found[1:]:
        np.testing.assert_array_equal(block.positions, found[0][1].positions)
    monkeypatch.setattr(lanes, "cores", lambda: 3)
    one = sampler()
    np.testing.assert_array_equal(one.run(point(K), chains(one, 8), 3, 2, 20)[1].positions, found[0][1].positions)


def test_blocks_and_chains_have_random_numbers_of_their_own():
    one = sampler()
    start = Chains(np.repeat(frames_of(np.array([LENGTH])).astype(np.float32), 4, axis=0), np.zeros((4, 2, 3), "f4"))
    first, second = (one.run(point(K), start, number, 1, 5)[1].positions for number in (0, 1))
    assert not np.isclose(first, second).any()
    assert len({chain.tobytes() for chain in first}) == 4


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (ChainLimits(0.1, 0.02, 1e4, 50.0), "bond"),
        (ChainLimits(0.1, 0.9, 1.0, 50.0), "max_force"),
        (ChainLimits(0.1, 0.9, 1e4, 0.3), "temperature"),
    ],
)
def test_a_chain_that_breaks_a_limit_stays_there_and_says_which(limits, name):
    one = sampler(limits)
    end, block = one.run(point(K), chains(one, 16), 0, 40, 2)
    assert {LIMITS[code] for code in block.broke if code} == {name}
    for row in np.flatnonzero(block.broke):
        frozen = np.flatnonzero(~block.sound[row])
        assert (np.diff(block.sound[row].astype(int)) <= 0).all()
        np.testing.assert_allclose(np.diff(block.positions[row, frozen], axis=0), 0.0, atol=1e-5)
        np.testing.assert_allclose(end.positions[row], block.positions[row, -1], atol=1e-5)


def test_what_is_no_number_breaks_its_chain_alone():
    one = sampler()
    start = chains(one, 4)
    start.positions[2] = np.nan
    _, block = one.run(point(K), start, 0, 2, 5)
    assert [LIMITS[code] for code in block.broke] == ["", "", "non-finite", ""]
    assert block.sound.tolist() == [[True] * 2, [True] * 2, [False] * 2, [True] * 2]
