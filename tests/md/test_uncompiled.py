"""A function evaluated by NumPy is the function, and a program that is compiled wrongly is found by it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core
from jax.interpreters import ad, mlir

from cgloop.md.evaluate import compile_model
from cgloop.md.parity import Frames, Row, judge
from cgloop.md.parity_cases import compare, make_setup
from cgloop.md.parity_uncompiled import UNCOMPILED_CASES, compare_uncompiled
from cgloop.md.uncompiled import RULES, Uncompiled
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces
from tests.md.model_worlds import protein, small_model, small_painn, system
from tests.md.toy import CUTOFF_A, toy_exact, toy_model

SYSTEM = system(10)
FRAMES = protein(10).positions[:2].astype(float)
FRAMES -= FRAMES.mean(axis=1, keepdims=True)
FRAME = FRAMES[0]


@pytest.mark.parametrize("made", [small_model, small_painn])
def test_models_are_the_same_without_compilation(made):
    model, params = made()
    graph = build_graph(SYSTEM.residue_type, SYSTEM.linked, FRAME, model.cutoff_A)
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        function = partial(energy_and_forces, model)
        compiled = jax.jit(function)(double, FRAME, graph)
        uncompiled = Uncompiled(function)(double, FRAME, graph)
    for one, other in zip(jax.tree.leaves(compiled), jax.tree.leaves(uncompiled), strict=True):
        assert other.dtype == np.float64
        np.testing.assert_allclose(other, one, atol=1e-10, rtol=1e-10)


def test_forces_are_those_by_hand():
    """All pairs of springs and a soft repulsion, as loops in NumPy."""
    graph = build_graph(SYSTEM.residue_type, SYSTEM.linked, FRAME, 9.0)
    with jax.enable_x64(True):
        energies, forces, _ = Uncompiled(toy_model)(FRAME, graph)
    exact_forces, exact_energy = toy_exact(SYSTEM, FRAME)
    np.testing.assert_allclose(forces, exact_forces, atol=1e-9)
    assert energies[0] == pytest.approx(exact_energy, rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.at[jnp.array([0, 9, 2])].get(mode="fill", fill_value=7.0),
        lambda x: jnp.zeros((4, 3)).at[jnp.array([0, 0, 9, 3, 1])].add(x),
        lambda x: jnp.einsum("ij,kj->ki", x, x) + jnp.pad(x @ x.T, 0),
        lambda x: jnp.where(x > 0, x**3, 1 / x) - jnp.cumsum(x, axis=0),
        lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y * 1.1, x),
        lambda x: jnp.stack(jnp.split(jnp.tile(x, (2, 1)), 2)).max(axis=0),
    ],
)
def test_every_kind_of_operation_is_right(function):
    """Also those without a rule, which JAX executes one by one."""
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(Uncompiled(function)(x), jax.jit(function)(x), rtol=2e-5, atol=1e-6)


def test_sums_of_the_models_are_not_left_to_jax():
    assert {"reduce_sum", "dot_general", "scatter-add", "add", "mul", "gather"} <= RULES.keys()


def miscompiled_by(factor):
    """A sum that is right operation by operation, and comes out wrong where XLA compiles it, as in jaxlib 0.10.2."""
    primitive = core.Primitive(f"miscompiled_{factor}")
    primitive.def_impl(lambda x: x)
    primitive.def_abstract_eval(lambda x: x)
    mlir.register_lowering(primitive, mlir.lower_fun(lambda x: factor * x, multiple_results=False))
    ad.deflinear2(primitive, lambda cotangent, _x: [primitive.bind(cotangent)])
    return primitive.bind


def test_a_miscompiled_sum_that_is_the_same_on_both_sides_fails():
    """Compiled against compiled passes: the artifact and the reference are wrong alike."""
    wrong = miscompiled_by(1.002)

    def model(positions, graph):
        energies, forces, terms = toy_model(positions, graph)
        return wrong(energies), wrong(forces), wrong(terms)

    setup = make_setup("held-out", compile_model(model, CUTOFF_A), SYSTEM, FRAMES, 2.0, seed=0)

    def evaluate(run, frame, dtype):
        graph = build_graph(SYSTEM.residue_type, SYSTEM.linked, frame, CUTOFF_A)
        with jax.enable_x64(dtype is np.float64):
            _, forces, terms = run(frame.astype(dtype), graph)
        return np.asarray(forces, float), np.asarray(terms, float)[0]

    def compiled(frame, dtype=np.float32):
        return evaluate(jax.jit(model), frame, dtype)

    def verdicts(rows):
        frames = Frames(SYSTEM, FRAMES, ["0", "1"])
        found = judge([Row(case, frames, one) for case, one in rows], 1e-4, 1e-5, True, dict(UNCOMPILED_CASES))
        return {case["name"]: case["verdict"] for case in found["cases"]}, found["cases"][0]["likely_cause"]

    def uncompiled(frame):
        return evaluate(Uncompiled(model), frame, np.float64)

    both = [("held-out", one) for one in compare(setup, compiled, 0.64)]
    assert judge([Row("held-out", Frames(SYSTEM, FRAMES, ["0", "1"]), one) for _, one in both], 1e-4, 1e-5, True,
                 {"held-out": ""})["verdict"] == "pass"  # fmt: skip
    found, cause = verdicts(compare_uncompiled(setup, compiled, uncompiled, 0.64))
    assert found == {"uncompiled": "fail", "uncompiled, float64": "fail"}
    assert "XLA compiles the artifact wrongly" in cause
