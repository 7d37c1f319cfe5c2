"""Bad input of a refinement is one clear line."""

from dataclasses import replace

import numpy as np
import pytest

from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import DatasetReader
from cgloop.data.writer import write_manifest, write_protein
from cgloop.errors import UserError
from cgloop.refine.chains import Lengths, require_memory
from cgloop.refine.stage import _require_known
from cgloop.refine.subject import EXTENDED_ANGLE, extended, read_subjects, subject_of
from tests.refine.dimers import TEMPERATURE_K, reference


def dataset(folder, protein):
    write_protein(folder / "dimer.h5", protein, {"mapping": "ca"})
    write_manifest(folder, ["dimer"], temperature_K=TEMPERATURE_K, mapping="ca", projection="basic")
    return DatasetReader.open(folder)


def test_no_training_frames_at_the_temperature(tmp_path):
    reader = dataset(tmp_path, reference(30.0, 400))
    with pytest.raises(UserError, match="no training frames at 450 K to refine on"):
        read_subjects(reader, 450.0, ValidateConfig())
    (found,), others = read_subjects(reader, TEMPERATURE_K, ValidateConfig())
    assert (found.name, others) == ("dimer", [])


def test_too_few_training_frames():
    with pytest.raises(UserError, match=r"`dimer` has \d+ training frames at 300 K.*needs 50"):
        subject_of(reference(30.0, 60), TEMPERATURE_K, ValidateConfig())


def test_more_chains_than_memory():
    lengths = Lengths(chains=10**6, frames=4, stride=10, warm_up=0, pool=2, outside_share=0.0)
    require_memory([("small", 10)], replace(lengths, chains=10), 1e9)
    with pytest.raises(UserError, match="1000000 chains of `large` need about .* GB"):
        require_memory([("small", 10), ("large", 300)], lengths, 64e9)


def test_weights_of_proteins_that_are_not_refined():
    with pytest.raises(UserError, match="`other` has no training frames"):
        _require_known({"other": 2.0}, ["dimer"])


def test_frames_without_forces_are_no_force_frames():
    whole = reference(30.0, 600)
    forces = whole.forces.copy()
    forces[::2] = 1.0
    found = subject_of(replace(whole, forces=forces), TEMPERATURE_K, ValidateConfig())
    assert len(found.training.force_positions) == 150
    assert found.training.n_frames > 200


def test_chains_start_from_training_frames_and_outside():
    subject = subject_of(reference(30.0, 600), TEMPERATURE_K, ValidateConfig())
    positions, outside = subject.start(8, 0.25)
    assert (len(positions), outside, subject.outside_from) == (8, 2, "an extended chain")
    rows = [np.flatnonzero((subject.training.positions == one).all(axis=(1, 2))) for one in positions[:6]]
    assert all(len(found) for found in rows)
    np.testing.assert_allclose(np.linalg.norm(positions[-1, 1] - positions[-1, 0]), subject.bond_mean_A[0], rtol=1e-5)


def test_frames_of_the_highest_temperature_are_outside():
    whole = reference(30.0, 1200)
    temperature = np.where(whole.source_frame % 2, 450.0, TEMPERATURE_K).astype(np.float32)
    subject = subject_of(replace(whole, temperature_K=temperature), TEMPERATURE_K, ValidateConfig())
    assert subject.outside_from == "frames at 450 K"
    assert len(subject.outside) > 100


def test_an_extended_chain_has_the_bonds_and_the_angle():
    linked = np.array([True, True, False, True])
    lengths = np.array([3.8, 3.9, 2.9])
    chain = extended(linked, lengths).astype(float)
    steps = np.diff(chain, axis=0)
    np.testing.assert_allclose(np.linalg.norm(steps[linked], axis=1), lengths, rtol=1e-5)
    cosine = -(steps[0] @ steps[1]) / np.prod(np.linalg.norm(steps[:2], axis=1))
    assert np.degrees(np.arccos(cosine)) == pytest.approx(EXTENDED_ANGLE, abs=0.01)
    np.testing.assert_allclose(chain.mean(axis=0), 0.0, atol=1e-5)
