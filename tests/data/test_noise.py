"""The noise of forces, on chains whose noise and mean force are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cgloop.data.noise import MAX_FRAMES, choose_frames, estimate_noise, explained_share, pooled_noise


def bead_chain(n_frames, n_beads, noise, seed=0, k_bond=150.0, k_next=3.0):
    """Frames of a chain with harmonic bonds and 1–3 springs, tumbling; exact mean forces plus Gaussian noise."""
    random = np.random.default_rng(seed)
    lengths = 3.8 + random.normal(0, np.sqrt(0.636 / k_bond), (n_frames, n_beads - 1, 1))
    bend = np.array([[1.0, 0.5 * (-1) ** i, 0.4] for i in range(n_beads - 1)]) + random.normal(
        0, 0.15, (n_frames, n_beads - 1, 3)
    )
    steps = lengths * bend / np.linalg.norm(bend, axis=2, keepdims=True)
    x = np.concatenate([np.zeros((n_frames, 1, 3)), np.cumsum(steps, axis=1)], axis=1)
    forces = np.zeros_like(x)
    for apart, k, rest in ((1, k_bond, 3.8), (2, k_next, 6.5)):
        bond = x[:, apart:] - x[:, :-apart]
        length = np.linalg.norm(bond, axis=2, keepdims=True)
        pull = k * (length - rest) * bond / length
        forces[:, :-apart] += pull
        forces[:, apart:] -= pull
    turn = Rotation.random(n_frames, random_state=seed).as_matrix()
    x, forces = np.einsum("fna,fba->fnb", x, turn), np.einsum("fna,fba->fnb", forces, turn)
    return x, forces + random.normal(0, noise, x.shape)


@pytest.mark.parametrize("noise", [4.0, 10.0, 25.0])
def test_known_noise_is_found_from_above(noise):
    x, forces = bead_chain(1000, 8, noise)
    found = estimate_noise(x, forces, np.ones(7, bool), np.repeat([0, 1], 500))
    assert 0.98 * noise < found.rms < 1.15 * noise
    assert found.rms_force > found.rms
    assert found.error < 0.05 * noise


def test_without_any_noise_little_is_left():
    x, forces = bead_chain(1000, 8, 0.0)
    found = estimate_noise(x, forces, np.ones(7, bool), np.repeat([0, 1], 500))
    assert found.rms < 0.35 * found.rms_force


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), n_trajectories=st.integers(1, 5), broken=st.booleans())
def test_any_number_of_trajectories_and_breaks(seed, n_trajectories, broken):
    x, forces = bead_chain(240, 6, 10.0, seed)
    linked = np.ones(5, bool)
    linked[2] = not broken
    trajectory = np.arange(240) * n_trajectories // 240
    turned = Rotation.random(random_state=seed).as_matrix()
    found = estimate_noise(x, forces, linked, trajectory)
    again = estimate_noise(x @ turned + 7.0, forces @ turned, linked, trajectory + 3)
    assert 8.0 < found.rms < 18.0
    assert again.rms == pytest.approx(found.rms, rel=1e-6)


def test_hidden_states_shared_by_neighbours_in_time_count_as_noise():
    """A slow hidden variable shifts the force: the next frame shares it, and must not be taken as neighbour."""
    x, forces = bead_chain(800, 6, 1.0)
    hidden = np.repeat(np.random.default_rng(1).normal(0, 10, 40), 20)
    direction = x[:, 1] - x[:, 0]
    forces[:, 0] += hidden[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    x = np.repeat(x[::20], 20, axis=0)  # positions stand still while the hidden state lasts
    found = estimate_noise(x[:, :2], forces[:, :2], np.ones(1, bool), np.repeat(np.arange(4), 200))
    assert found.rms > 3.0


def test_too_few_frames():
    x, forces = bead_chain(99, 4, 1.0)
    assert estimate_noise(x, forces, np.ones(3, bool), np.zeros(99)) is None


def test_single_beads():
    x = np.random.default_rng(1).normal(0, 1, (400, 1, 3))
    found = estimate_noise(x, np.random.default_rng(0).normal(0, 5, x.shape), np.zeros(0, bool), np.zeros(400))
    assert found.rms == pytest.approx(5.0, rel=0.15)


@given(st.integers(0, 5000))
def test_chosen_frames_are_spread_and_bounded(n_frames):
    rows = choose_frames(n_frames)
    assert len(rows) == min(n_frames, MAX_FRAMES)
    if n_frames:
        assert rows[0] == 0
        assert rows[-1] == n_frames - 1
        assert np.all(np.diff(rows) >= 1)


def test_share_of_what_can_be_explained():
    # A force of variance 9 is 5 of mean force and 4 of noise; the model misses 1 of the mean force.
    assert explained_share(np.sqrt(5.0), 3.0, 2.0) == pytest.approx(4 / 5)
    assert explained_share(3.0, 3.0, 2.0) == pytest.approx(0.0)
    assert explained_share(2.0, 3.0, 2.0) == pytest.approx(1.0)
    assert explained_share(None, 3.0, 2.0) is None
    assert explained_share(1.0, 2.0, 2.0) is None


def test_noise_of_several_proteins_is_that_of_their_components():
    samples = [np.random.default_rng(n).normal(0, scale, (n, 3)) for n, scale in ((500, 1.0), (2000, 5.0))]
    rms = [float(np.sqrt(np.mean(one**2))) for one in samples]
    assert pooled_noise(rms, [500, 2000]) == pytest.approx(np.sqrt(np.mean(np.concatenate(samples) ** 2)))
    assert pooled_noise([1.0, None], [1, 1]) is None
    assert pooled_noise([], []) is None
