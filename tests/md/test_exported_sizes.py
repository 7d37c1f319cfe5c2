"""The exported module behind the evaluator that LAMMPS's callback uses, at its smallest: against the model in JAX."""

import dataclasses

import numpy as np
import pytest

from cgloop.export.bundle import load_bundle
from cgloop.md import neighbours as module
from cgloop.md.evaluate import ModelEvaluator, compile_model, evaluate_graph
from cgloop.md.parity_cases import Reference
from cgloop.model.graph import build_graph, pad_graph
from tests.md.model_worlds import CUTOFF_A, protein, small_model, system

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def compiled(world):
    bundle = load_bundle(world["export"])
    return compile_model(bundle.function, bundle.cutoff_A)


def frames_of(n_beads, n_frames, chains=1):
    return protein(n_beads, chains=chains).positions[:n_frames].astype(float)


def assert_same(found, one, frames):
    reference = Reference(*small_model(), one)
    for row, frame in enumerate(frames):
        forces, terms = reference(frame)
        np.testing.assert_allclose(found.forces[row], forces, atol=3e-4)
        np.testing.assert_allclose(found.terms[row], terms, atol=2e-4, rtol=2e-6)
    assert found.finite.all()


def unlinked(n_beads):
    """Beads without any bond."""
    return dataclasses.replace(system(n_beads), linked=np.zeros(n_beads - 1, bool), bond_mean_A=np.zeros(0))


@pytest.mark.parametrize(("n_beads", "n_replicas"), [(1, 3), (2, 1)])
def test_few_beads(compiled, n_beads, n_replicas):
    one, frames = system(n_beads), frames_of(n_beads, n_replicas)
    found = ModelEvaluator(compiled, one, 2.0)(frames)
    assert_same(found, one, frames)
    if n_beads == 1:
        np.testing.assert_array_equal(found.forces, 0.0)
        np.testing.assert_array_equal(found.bond_deviation, 0.0)


def test_no_bonds(compiled):
    one, frames = unlinked(3), 1.2 * frames_of(3, 2)
    found = ModelEvaluator(compiled, one, 2.0)(frames)
    assert_same(found, one, frames)
    assert np.abs(found.forces).max() > 0.0
    np.testing.assert_array_equal(found.bond_deviation, 0.0)


def test_no_pairs(compiled, monkeypatch):
    """Two beads that lose sight of each other: the list is made anew, and is empty."""
    monkeypatch.setattr(module, "DENSE_BEADS", 1)
    one, near = unlinked(2), frames_of(2, 1)
    far = near + np.array([[0.0, 0.0, 0.0], [3.0 * CUTOFF_A, 0.0, 0.0]])
    evaluator = ModelEvaluator(compiled, one, 2.0)
    for frames in (near, far, near):
        assert_same(evaluator(frames), one, frames)
    assert evaluator.rebuilds == 3
    found = evaluator(far)
    np.testing.assert_array_equal(found.forces, 0.0)
    np.testing.assert_array_equal(found.terms, 0.0)


def test_a_replica_that_is_all_padding(compiled):
    one, frames = system(10), frames_of(10, 2)
    centred = frames - frames.mean(axis=1, keepdims=True)
    graph = build_graph(one.residue_type, one.linked, centred, CUTOFF_A)
    more = pad_graph(graph, beads=30, replicas=3, bonds=27, angles=24, dihedrals=21, edges=len(graph.senders) + 90)
    bond_mean = np.tile(one.bond_mean_A, 3).astype(np.float32)
    assert_same(evaluate_graph(compiled, centred, more, bond_mean), one, frames)
