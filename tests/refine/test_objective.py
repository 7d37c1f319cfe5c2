"""Gradients and weights against closed forms and finite differences."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_terms
from cgloop.refine.energy import MOVING_TERMS, FrameEnergy, energies, forces, room_for
from cgloop.refine.objective import force_gradient, pool_weights, weighted_gradient
from tests.md.model_worlds import protein, small_model
from tests.refine.dimers import KT, LENGTH, dimer_energy, drawn, frames_of, lengths_at, point

K = 20.0


def test_gradient_of_weighted_energies_is_the_closed_form():
    lengths = drawn(K, 70)
    coefficients = np.random.default_rng(1).standard_normal(70).astype(np.float32)
    found = weighted_gradient(dimer_energy())(point(K), frames_of(lengths).astype(np.float32), coefficients)
    # U = ½ k (r − r0)²: ∂U/∂ln k = U, ∂U/∂r0 = −k (r − r0)
    stretch = lengths - LENGTH
    assert found["prior"]["log_k"] == pytest.approx((coefficients * 0.5 * K * stretch**2).sum(), rel=1e-3)
    assert found["prior"]["r0"] == pytest.approx((-coefficients * K * stretch).sum(), rel=1e-3)


def test_gradient_of_the_force_term_is_the_closed_form():
    lengths = drawn(K, 40)
    positions = frames_of(lengths).astype(np.float32)
    value, slope = force_gradient(dimer_energy())(
        point(K), positions, np.zeros_like(positions), np.ones(40, np.float32)
    )
    # Both beads feel k (r − r0) along the bond: the mean square of six components is a third of its square.
    square = (K * (lengths - LENGTH)) ** 2 / 3
    assert value == pytest.approx(square.sum(), rel=1e-3)
    assert slope["prior"]["log_k"] == pytest.approx(2 * square.sum(), rel=1e-3)
    assert slope["prior"]["r0"] == pytest.approx((-2 * K**2 * (lengths - LENGTH) / 3).sum(), rel=1e-3)


def test_the_gradient_of_the_relative_entropy_is_that_of_its_definition():
    """S(θ) = ⟨βU_θ⟩_reference + ln Z_θ + constant, of which the derivative is taken numerically."""
    lengths = drawn(2 * K, 4000)

    def entropy(log_k: float, r0: float) -> float:
        r, _ = lengths_at(K)
        k = np.exp(log_k)
        partition = np.log((r**2 * np.exp(-0.5 * k * (r - r0) ** 2 / KT)).sum())
        return float((0.5 * k * (lengths - r0) ** 2 / KT).mean() + partition)

    step, at = 1e-4, (np.log(K), LENGTH)
    numeric = [
        (entropy(at[0] + step, at[1]) - entropy(at[0] - step, at[1])) / (2 * step),
        (entropy(at[0], at[1] + step) - entropy(at[0], at[1] - step)) / (2 * step),
    ]
    # The model's average with exact samples: a fine grid of lengths with their probabilities.
    r, p = lengths_at(K)
    model, weight = frames_of(r[::20]), p[::20] / p[::20].sum()
    frames = np.concatenate([frames_of(lengths), model]).astype(np.float32)
    coefficients = (np.concatenate([np.full(4000, 1 / 4000), -weight]) / KT).astype(np.float32)
    found = weighted_gradient(dimer_energy())(point(K), frames, coefficients)["prior"]
    np.testing.assert_allclose([found["log_k"], found["r0"]], numeric, rtol=2e-3, atol=2e-3)


def test_a_network_s_gradient_agrees_with_finite_differences():
    model, params = small_model("hybrid")
    one = protein()
    energy = FrameEnergy.of(
        model, lambda trained: {"prior": params["prior"], "ml": trained["ml"]}, one.residue_type, one.linked, 10**6,
        "network",
    )  # fmt: skip
    with jax.enable_x64(True):
        trained = {"ml": jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params["ml"])}
        frame = jnp.asarray(one.positions[0], jnp.float64)
        part = jax.jit(energy.part)
        slope = jax.jit(jax.grad(energy.part))(trained, frame)
        direction = jax.tree.map(
            lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).standard_normal(leaf.shape)), trained
        )
        moved = [jax.tree.map(lambda p, d, s=sign: p + s * 1e-5 * d, trained, direction) for sign in (1, -1)]
        numeric = (part(moved[0], frame) - part(moved[1], frame)) / 2e-5
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), slope, direction)))
        assert float(along) == pytest.approx(float(numeric), rel=1e-6)


@pytest.mark.parametrize("moving", ["network", "prior"])
def test_parts_are_those_of_the_energy_and_pairs_are_found(moving):
    """With room for the pairs within the cutoff as with all pairs, and as on a graph that NumPy made."""
    model, params = small_model("hybrid")
    one = protein(20)
    positions = one.positions[:3].astype(np.float32)
    trained = jax.tree.map(jnp.asarray, params)
    graphs = [build_graph(one.residue_type, one.linked, frame, model.cutoff_A) for frame in positions]
    terms = [energy_terms(model, trained, *pair) for pair in zip(positions, graphs, strict=True)]
    rest = {"network": "prior", "prior": "network"}[moving]
    expected = np.array(
        [[sum(float(one[name][0]) for name in MOVING_TERMS[kind]) for kind in (moving, rest)] for one in terms]
    )
    for room in (room_for(positions, model.cutoff_A), 380):
        energy = FrameEnergy.of(model, lambda trained: trained, one.residue_type, one.linked, room, moving)
        assert energy.all_pairs == (room == 380)
        found = jax.jit(
            lambda x, e=energy: jax.lax.map(lambda y: (e.part(trained, y), e.rest(trained, y), e.pairs(y)), x)
        )
        part, others, pairs = found(positions)
        np.testing.assert_allclose(np.stack([part, others], axis=1), expected, rtol=1e-4, atol=1e-4)
        assert pairs.tolist() == [int(graph.edge_mask.sum()) for graph in graphs]


def test_pieces_give_row_for_row_what_the_function_gives():
    lengths = drawn(K, 45)
    positions = frames_of(lengths).astype(np.float32)
    energy = dimer_energy()
    np.testing.assert_allclose(energies(energy)(point(K), positions), 0.5 * K * (lengths - LENGTH) ** 2, atol=1e-4)
    pull = K * (lengths - LENGTH)
    found = np.linalg.norm(forces(energy.part)(point(K), positions), axis=-1)
    np.testing.assert_allclose(found, np.abs(np.stack([pull, pull], axis=1)), atol=1e-3)
    assert not forces(energy.rest)(point(K), positions).any()


def test_weights_are_normalized_block_by_block():
    random = np.random.default_rng(3)
    changes = [random.normal(0, 0.3, 50), random.normal(0, 0.5, 50)]
    sound = [np.ones(50, bool), random.random(50) < 0.7]
    found = pool_weights(changes, sound, 0.3)
    for change, good, ess, weight in zip(changes, sound, found.ess, found.frames, strict=True):
        expected = np.where(good, np.exp(-change), 0.0)
        expected /= expected.sum()
        assert ess == pytest.approx(1 / (good.sum() * (expected**2).sum()))
        np.testing.assert_allclose(weight / weight.sum(), expected, atol=1e-12)
        assert not weight[~good].any()
    shares = np.array([50 * found.ess[0], sound[1].sum() * found.ess[1]])
    np.testing.assert_allclose([part.sum() for part in found.frames], shares / shares.sum())


def test_a_block_that_says_little_counts_nothing_and_the_newest_is_left():
    far, near = np.array([0.0, 30.0, 30.0, 30.0]), np.zeros(4)
    good = [np.ones(4, bool)] * 2
    found = pool_weights([far, near], good, 0.3)
    assert found.frames[0].sum() == 0.0
    assert found.frames[1].sum() == pytest.approx(1.0)
    assert found.ess == [pytest.approx(0.25), pytest.approx(1.0)]
    alone = pool_weights([far, far], good, 0.3)
    assert [part.sum() for part in alone.frames] == [0.0, pytest.approx(1.0)]


@pytest.mark.slow
def test_the_gradient_from_reweighted_samples_is_chemtrain_s():
    """P. Fuchs et al., Comput. Phys. Commun. 310, 109512 (2025): perturbation of the free energy, differentiated."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.refine.chemtrain_entropy"], capture_output=True, text=True, check=True
    )
    for theirs, ours in json.loads(done.stdout.splitlines()[-1]).values():
        assert ours == pytest.approx(theirs, rel=1e-4)
