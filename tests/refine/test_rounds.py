"""Whole refinements of a bond: they find the reference, go on to the bit, and stop when they should."""

import jax
import numpy as np
import pytest

from cgloop.config.refine import RefinementConfig
from cgloop.errors import Interrupted, UserError
from cgloop.interrupt import clear_stop, request_stop
from cgloop.refine.rounds import CANDIDATE_ROUNDS
from cgloop.refine.sampler import ChainLimits
from tests.refine.dimers import KT, LENGTH, dimer, point, refinement

SETTINGS = {
    "rounds": 16, "chains": 32, "frames_per_round": 8, "round_ps": 0.8, "prior_learning_rate": 0.1,
    "reference_frames": 1000, "clip_norm": 100.0, "friction_per_ps": 10.0, "outside_share": 0.0,
}  # fmt: skip


def config(**changes):
    return RefinementConfig.model_validate({**SETTINGS, **changes})


def test_the_reference_s_bond_is_found(tmp_path):
    """ln k within three errors of the estimate from the frames themselves, whose variance is that of Fisher."""
    truth, start = 30.0, 12.0
    subject = dimer(truth, frames=3000)
    done = refinement(subject, start, tmp_path, config()).run()
    assert done.progressed.stopped == "all rounds"
    assert done.progressed.kept_round == 16
    lengths = np.linalg.norm(np.diff(subject.training.positions, axis=1)[:, 0], axis=-1)
    exact = KT / ((lengths - LENGTH) ** 2).mean()
    # [β² Var(∂U/∂ln k)]⁻¹/n with U = ½ k (r − r0)² of n reference frames and of the chains' last blocks.
    error = np.sqrt(2.0 / len(lengths) + 2.0 / (2 * 32 * 8))
    found = float(np.exp(done.params["prior"]["log_k"]))
    assert abs(np.log(found / exact)) < 3 * error
    last = done.progressed.candidates[-1]
    assert last.entropy_change == pytest.approx(-0.5 * (start / truth - 1 - np.log(start / truth)), abs=0.1)
    assert last.proteins["dimer"].training.rmsd_A < 0.03


def test_interrupted_anywhere_it_ends_the_same(tmp_path, monkeypatch):
    subject, settings = dimer(30.0), config(rounds=6)
    whole = refinement(subject, 12.0, tmp_path / "whole", settings).run()
    for stop_after in (1, 4):
        part = refinement(subject, 12.0, tmp_path / "parts", settings)
        told = part._tell
        monkeypatch.setattr(
            part, "_tell", lambda *given, p=part, t=told, n=stop_after: (
                t(*given), p.progressed.round == n and request_stop("test"),
            ),
        )  # fmt: skip
        with pytest.raises(Interrupted):
            part.run()
        clear_stop()
    again = refinement(subject, 12.0, tmp_path / "parts", settings).run()
    jax.tree.map(np.testing.assert_array_equal, again.params, whole.params)
    np.testing.assert_array_equal(again.after["dimer"], whole.after["dimer"])
    assert again.progressed.rounds == whole.progressed.rounds
    assert again.progressed.candidates == whole.progressed.candidates


def test_a_start_that_breaks_its_chains_is_refused(tmp_path):
    with pytest.raises(UserError, match="chains of `dimer` break the limit `bond`"):
        refinement(dimer(30.0), 12.0, tmp_path, config(), ChainLimits(0.1, 0.02, 1e4, 50.0)).run()


def test_chains_that_break_end_it_with_what_was_accepted(tmp_path):
    """Updates that are far too large: the frames after them say nothing, or their chains break."""
    wild = config(prior_learning_rate=3.0, warmup_rounds=0.0, rounds=40)
    done = refinement(dimer(30.0), 12.0, tmp_path, wild).run()
    assert done.progressed.failed
    assert done.progressed.kept_round % CANDIDATE_ROUNDS == 0
    assert done.progressed.kept_round < done.progressed.round
    if done.progressed.kept_round == 0:
        assert float(done.params["prior"]["log_k"]) == float(point(12.0)["prior"]["log_k"])
