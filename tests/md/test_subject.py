"""What is measured is what is simulated: benchmarks and the stage `md` make their replicas the same way."""

import numpy as np

from cgloop.bench.subject import measured_model, measured_subject
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import load_bundle
from cgloop.md.evaluate import compile_model
from cgloop.md.job import Job, make_subject
from tests.md.model_worlds import config


def test_benchmarks_measure_the_replicas_of_the_dynamics(prior_world, tmp_path):
    settings, bundle = config(replicas=3), load_bundle(prior_world["export"])
    measured = measured_model(settings, prior_world["prep"], tmp_path, str(bundle.path))
    one = measured_subject(settings, prior_world["prep"], measured, [1, 2])
    compiled = compile_model(bundle.function, bundle.cutoff_A)
    other = make_subject(settings, bundle, compiled, DatasetReader.open(prior_world["prep"]), Job("helix", (1, 2)))
    assert (one.system.name, one.replicas, other.replicas) == ("helix", [1, 2], [1, 2])
    frames = one.starts.positions[[1, 2]]
    np.testing.assert_array_equal(frames, other.starts.positions[[1, 2]])
    here, there = (subject.new_evaluator()(frames) for subject in (one, other))
    np.testing.assert_array_equal(here.forces, there.forces)
    np.testing.assert_array_equal(here.terms, there.terms)
    np.testing.assert_array_equal(one.term_forces(frames), other.term_forces(frames))
    # A crash can be replayed from a bundle; what is measured need not come from one.
    assert one.source is None
    assert other.source.bundle == bundle.path
