"""Lineages: what is independent in a reference, and how many effective samples its scatter leaves."""

from dataclasses import replace

import numpy as np
import pytest

from cgloop.config.validate import ValidateConfig
from cgloop.data.dataset import ProteinData, TrajectoryFacts
from cgloop.errors import UserError
from cgloop.validate.comparison import compare
from cgloop.validate.distances import Wasserstein
from cgloop.validate.equilibration import effective_between, statistical_inefficiency
from cgloop.validate.lineages import lineages_of, require_proteins
from cgloop.validate.measure import Measure
from cgloop.validate.reference import reference_of
from cgloop.validate.sample import equilibrated, sampling_doubts
from tests.validate.builders import elastic_frames, ou_process

FRAMES = 50
wasserstein = Wasserstein(-60.0, 60.0)


def data_of(facts=(), replicas=(0, 1, 4), native=None):
    native = np.cumsum(np.full((6, 3), 2.2), axis=0) if native is None else native
    rng = np.random.default_rng(0)
    n, total = len(native), FRAMES * len(replicas)
    positions = np.concatenate([elastic_frames(rng, native, FRAMES, 0.3) for _ in replicas]).astype(np.float32)
    return ProteinData(
        name="chain", residue_type=np.zeros(n, np.int8), chain=np.zeros(n, np.int16),
        resid=np.arange(n, dtype=np.int32), native=native.astype(np.float32), linked=np.ones(n - 1, bool),
        positions=positions, forces=np.zeros_like(positions), temperature_K=np.full(total, 320.0, np.float32),
        replica=np.repeat(replicas, FRAMES).astype(np.int32),
        source_frame=np.tile(np.arange(FRAMES), len(replicas)).astype(np.int32), split=np.zeros(total, np.int8),
        trajectories=tuple(facts),
    )  # fmt: skip


def replicas_of(data, joined=None, skip=100.0):
    return [one.replicas for one in lineages_of(data, joined or {}, skip)]


def test_every_replica_is_a_lineage_by_default():
    assert replicas_of(data_of()) == [(0,), (1,), (4,)]


def test_the_config_joins_what_continues():
    assert replicas_of(data_of(), {"chain": [[4, 0]]}) == [(4, 0), (1,)]
    assert replicas_of(data_of(), {"*": [[0, 1, 4]]}) == [(0, 1, 4)]
    assert replicas_of(data_of(), {"other": [[0, 1]]}) == [(0,), (1,), (4,)]
    (both, _) = lineages_of(data_of(), {"chain": [[4, 0]]}, 100.0)
    assert both.rows.tolist() == [*range(2 * FRAMES, 3 * FRAMES), *range(FRAMES)]
    with pytest.raises(UserError, match="replica 0 is in two lineages"):
        replicas_of(data_of(), {"chain": [[0, 1], [4, 0]]})


def test_a_trajectory_begun_from_another_counts_after_the_skip():
    """4 ps a frame: 100 ps are 25 frames, and 25 of the 50 remain."""
    data = data_of([TrajectoryFacts(320.0, 4, 4.0, 0)])
    lineages = lineages_of(data, {}, 100.0)
    assert [one.replicas for one in lineages] == [(0,), (1,), (4,)]
    assert lineages[2].skipped == 25
    assert data.source_frame[lineages[2].rows].tolist() == list(range(25, FRAMES))


@pytest.mark.parametrize(
    "facts",
    [
        TrajectoryFacts(320.0, 4, 4.0, 0),  # too short: nothing is left after 1 ns
        TrajectoryFacts(320.0, 4, None, 0),  # the time between frames is not known
    ],
)
def test_a_trajectory_begun_from_another_is_its_continuation_otherwise(facts):
    assert replicas_of(data_of([facts]), skip=1000.0) == [(0, 4), (1,)]


def test_frames_that_relax_from_a_start_of_their_own_are_left_out():
    facts = [TrajectoryFacts(320.0, 0, relaxation_frames=20), TrajectoryFacts(320.0, 1, relaxation_frames=FRAMES)]
    first, second = lineages_of(data_of(facts), {}, 0.0)
    assert (first.replicas, first.skipped, len(first.rows)) == ((0,), 20, FRAMES - 20)
    assert second.replicas == (4,)
    assert data_of(facts).source_frame[first.rows].min() == 20


def test_chains_of_continuations_and_other_temperatures():
    chain = [TrajectoryFacts(320.0, 1, None, 0), TrajectoryFacts(320.0, 4, None, 1)]
    assert replicas_of(data_of(chain)) == [(0, 1, 4)]
    assert replicas_of(data_of([TrajectoryFacts(450.0, 4, None, 0)])) == [(0,), (1,), (4,)]
    # Siblings of a parent whose frames are not there are one lineage.
    siblings = [TrajectoryFacts(320.0, 1, None, 9), TrajectoryFacts(320.0, 4, None, 9)]
    assert replicas_of(data_of(siblings)) == [(0,), (1, 4)]
    # The config decides where it names a replica.
    assert replicas_of(data_of(chain), {"chain": [[1], [4]]}) == [(0,), (1,), (4,)]


def test_reference_is_made_of_lineages(chain):
    settings = ValidateConfig(lineages={"chain": [[0, 4]]}, noise_blocks=20)
    reference = reference_of(data_of(native=chain[1]), 320.0, 320.0, settings, "here")
    assert reference.description["lineages"] == [[0, 4], [1]]
    assert [len(frames.rg) for frames in reference.frames] == [2 * FRAMES, FRAMES]
    assert reference.target.lineages == ("replicas 0, 4", "replica 1")
    assert reference.target.one_start


def test_lineages_that_name_what_is_not_there_are_refused(chain):
    settings = ValidateConfig(lineages={"chain": [[0, 7]]})
    with pytest.raises(UserError, match="`chain` has no replica 7") as refused:
        reference_of(data_of(native=chain[1]), 320.0, 320.0, settings, "here")
    assert refused.value.remedy == "there are: 0, 1, 4"
    with pytest.raises(UserError, match="no protein `chian`"):
        require_proteins(["chain"], {"chian": [[0, 4]], "*": [[0, 7]]})
    require_proteins(["chain", "other"], {"chain": [[0, 4]], "*": [[0, 7]]})


def test_lineages_begun_in_several_conformations_have_not_one_start(chain):
    data = data_of(native=chain[1])
    elsewhere = np.where((data.replica == 4)[:, None, None], data.positions * [1.0, 2.0, 1.0], data.positions)
    moved = replace(data, positions=elsewhere.astype(np.float32))
    assert not reference_of(moved, 320.0, 320.0, ValidateConfig(), "here").target.one_start


def test_what_continues_a_lineage_says_nothing_about_its_start(chain):
    """Replica 4 begins where replica 0 ended, in another conformation: both lineages were begun in one."""
    data = data_of([TrajectoryFacts(320.0, 4, None, 0)], native=chain[1])
    elsewhere = np.where((data.replica == 4)[:, None, None], data.positions * [1.0, 2.0, 1.0], data.positions)
    moved = replace(data, positions=elsewhere.astype(np.float32))
    assert reference_of(moved, 320.0, 320.0, ValidateConfig(), "here").target.one_start


def test_effective_samples_between_lineages_by_hand():
    """Two states, each lineage in one of them: as many samples as lineages, whatever the number of frames."""
    rng = np.random.default_rng(0)
    state = np.array([0, 1, 1, 0, 1, 0, 0, 1])
    lineages = [10.0 * one + 0.1 * rng.normal(size=1000) for one in state]
    means = np.array([one.mean() for one in lineages])
    expected = 8 * np.concatenate(lineages).var() / means.var(ddof=1)
    assert effective_between(lineages) == pytest.approx([expected])
    assert 6 < expected < 8
    assert effective_between(lineages[:1]) == np.inf
    assert effective_between([np.ones(5), np.ones(7)]) == np.inf


def test_effective_samples_are_the_smaller_of_both_estimates():
    """A fast series about 6 means that differ by one standard deviation: pooling would count transitions."""
    rng = np.random.default_rng(4)
    lineages = [shift + ou_process(rng, 4000, (), 1.0) for shift in (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)]
    sample = equilibrated(lineages, lineages, 0.25)
    assert sample.between < sample.n_pooled
    assert sample.n_effective == sample.between
    assert 30 < sample.n_effective < 60
    same = [ou_process(rng, 400, (), 1.0) for _ in range(6)]
    assert equilibrated(same, same, 0.25).n_effective <= equilibrated(same, same, 0.25).n_pooled


def test_inefficiency_of_series_of_unequal_length():
    """Of a pooled mean over N_k frames the variance is σ²/N · (1 + 2 Σ C(τ) Σ (N_k − τ)/N), here summed exactly."""
    rng = np.random.default_rng(6)
    tau, lengths = 60.0, [20] * 12 + [2000]
    found = []
    for _ in range(40):
        series = [ou_process(rng, n, (), tau) for n in lengths]
        found.append(statistical_inefficiency(series))
    total, lags = sum(lengths), np.arange(1, max(lengths))
    pairs = np.maximum(np.array(lengths) - lags[:, None], 0).sum(axis=1)
    exact = 1 + 2 * (np.exp(-lags / tau) * pairs / total).sum()
    assert np.mean(found) == pytest.approx(exact, rel=0.2)


def test_inefficiency_of_series_of_one_and_two_frames():
    """No lag is short enough for a correlation: every frame counts."""
    assert statistical_inefficiency([np.array([0.0, 1.0]), np.array([3.0])]) == 1.0


def test_one_lineage_that_crosses_is_no_defect(settings):
    """Two of eight replicas cross to a state one standard deviation away, once: both enter the error bar, no doubt."""
    rng = np.random.default_rng(8)

    def ensemble():
        series = [ou_process(rng, 600, (), 2.0) for _ in range(13)]
        for one, at in zip(series, (300, 150, 450), strict=False):
            one[at:] += 2.0
        return equilibrated(series, series, 0.25)

    model, reference = ensemble(), ensemble()
    assert len(model.non_stationary) + len(reference.non_stationary) >= 3
    assert not sampling_doubts("model", model, settings)
    result = compare(model, reference, wasserstein, (Measure("distance", "Å", 1.0),), settings)
    assert result.verdict == "pass", result.reason


def test_a_relaxation_from_a_shared_start_is_met_by_cutting(settings):
    rng = np.random.default_rng(9)
    fading = [4.0 * np.exp(-np.arange(400) / 60.0) + ou_process(rng, 400, (), 2.0) for _ in range(8)]
    sample = equilibrated(fading, fading, 0.25)
    assert sample.drift == 0.0
    assert min(sample.starts) > 0
    lasting = [4.0 * np.exp(-np.arange(400) / 400.0) + ou_process(rng, 400, (), 2.0) for _ in range(8)]
    still = equilibrated(lasting, lasting, 0.25)
    assert still.drift < 0
    assert "drift together" in sampling_doubts("model", still, settings)[0].text
