"""Splits: whole replicas or consecutive blocks, disjoint, never too small without a word."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.data import SplitConfig
from cgloop.data.dataset import SPLITS
from cgloop.data.splits import PARTS, assign_splits
from cgloop.errors import UserError

trajectories = st.dictionaries(
    st.tuples(st.integers(0, 5), st.sampled_from([320.0, 450.0])), st.integers(0, 300), min_size=1, max_size=6
)


def rows_of(lengths):
    replica = np.concatenate([np.full(n, key[0]) for key, n in lengths.items()])
    temperature = np.concatenate([np.full(n, key[1]) for key, n in lengths.items()])
    return replica, temperature


def time_blocks(fractions, gap):
    return SplitConfig(by="time_block", fractions=fractions, gap_frames=gap, min_frames=1)


@settings(max_examples=100, deadline=None)
@given(
    lengths=trajectories,
    gap=st.integers(0, 20),
    weights=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
)
def test_time_blocks_are_contiguous_in_order_and_apart(lengths, gap, weights):
    fractions = tuple(w / sum(weights) for w in weights)
    replica, temperature = rows_of(lengths)
    try:
        split = assign_splits(replica, temperature, time_blocks(fractions, gap))
    except UserError:
        assert min(fractions) * max((n - 2 * gap for n in lengths.values()), default=0) < 2
        return
    assert set(split) <= set(SPLITS.values())
    for (one, t), n in lengths.items():
        codes = split[(replica == one) & (temperature == t)]
        blocks = [np.flatnonzero(codes == SPLITS[part]) for part in PARTS]
        if not any(len(block) for block in blocks):
            assert n - 2 * gap < 3
            continue
        for block in blocks:
            assert len(block) == 0 or np.array_equal(block, np.arange(block[0], block[-1] + 1))
        assert (codes == SPLITS["unused"]).sum() == 2 * gap
        for earlier, later in pairwise(blocks):
            if len(earlier) and len(later):
                assert later[0] - earlier[-1] == gap + 1
        for block, fraction in zip(blocks, fractions, strict=True):
            assert abs(len(block) - fraction * (n - 2 * gap)) <= 1


@settings(max_examples=50, deadline=None)
@given(lengths=trajectories, order=st.permutations(range(6)))
def test_replicas_stay_whole(lengths, order):
    config = SplitConfig(by="replica", train=order[:2], validation=order[2:3], test=order[3:5], min_frames=1)
    replica, temperature = rows_of(lengths)
    there = {one for (one, _), n in lengths.items() if n}
    parts = {"train": order[:2], "validation": order[2:3], "test": order[3:5]}
    if all(there & set(ids) for ids in parts.values()):
        split = assign_splits(replica, temperature, config)
        for one in there:
            expected = next((part for part, ids in parts.items() if one in ids), "unused")
            assert set(split[replica == one]) == {SPLITS[expected]}
    else:
        with pytest.raises(UserError):
            assign_splits(replica, temperature, config)


def test_a_part_needs_its_frames():
    replica = np.repeat([0, 1, 2], [50, 30, 10])
    temperature = np.full(90, 320.0)
    wanted = dict(by="replica", train=[0], validation=[1])
    with pytest.raises(UserError, match=r"a\.h5: split `test` has 10 frames, needs 20.*2 \(10 frames\)"):
        assign_splits(replica, temperature, SplitConfig(**wanted, test=[2], min_frames=20), where="a.h5")
    split = assign_splits(replica, temperature, SplitConfig(**wanted, test=[], min_frames=20))
    assert set(split[replica == 2]) == {SPLITS["unused"]}
    config = SplitConfig(by="time_block", gap_frames=2, min_frames=20)
    with pytest.raises(UserError, match=r"split `validation` has 13 frames, needs 20.*fractions"):
        assign_splits(np.zeros(90), temperature, config)


def test_only_frames_at_the_model_temperature_count():
    replica, temperature = np.repeat([0, 1], 40), np.tile(np.repeat([320.0, 450.0], 20), 2)
    config = SplitConfig(by="replica", train=[0], validation=[1], test=[], min_frames=30)
    assign_splits(replica, temperature, config)
    with pytest.raises(UserError, match="20 frames at 320 K"):
        assign_splits(replica, temperature, config, model_temperature_K=320.0)


def test_two_temperatures_of_a_replica_are_two_trajectories():
    temperature = np.repeat([320.0, 450.0], 100)
    split = assign_splits(np.zeros(200), temperature, time_blocks((0.6, 0.2, 0.2), 0))
    assert [(split[temperature == t] == 0).sum() for t in (320.0, 450.0)] == [60, 60]
