"""Splits: whole replicas or consecutive blocks, disjoint, never too small without a word."""

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.config.data import SplitConfig
from cgloop.data import splits
from cgloop.data.dataset import SPLITS
from cgloop.data.splits import PARTS, part_of, require_parts
from cgloop.errors import UserError

trajectories = st.dictionaries(
    st.tuples(st.integers(0, 5), st.sampled_from([320.0, 450.0])), st.integers(0, 300), min_size=1, max_size=6
)


def assign_splits(*arguments, protein="1abcA00", **settings):
    return splits.assign_splits(*arguments, protein=protein, **settings)


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


def of_proteins(**settings):
    return SplitConfig(by="protein", min_frames=5, **settings)


NAMES = [f"{i}abc{chain}0{j}" for i in range(1, 10) for chain in "ABCDEF" for j in range(8)]


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    weights=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
    others=st.sets(st.sampled_from(NAMES)),
)
def test_proteins_are_divided_by_their_name_alone(seed, weights, others):
    fractions = tuple(w / sum(weights) for w in weights)
    config = of_proteins(fractions=fractions, seed=seed)
    parts = {name: part_of(name, config) for name in NAMES}
    assert {name: part_of(name, config) for name in others} == {name: parts[name] for name in others}
    for part, fraction in zip(PARTS, fractions, strict=True):
        expected, spread = fraction * len(NAMES), np.sqrt(fraction * (1 - fraction) * len(NAMES))
        assert abs(sum(one == part for one in parts.values()) - expected) < 6 * spread


def test_the_division_of_proteins_is_the_same_everywhere():
    """sha256 of "seed:name", its first eight bytes as a fraction: computed here with other means."""
    for seed in (0, 7):
        config = of_proteins(fractions=(0.5, 0.25, 0.25), seed=seed)
        for name in NAMES[:50]:
            place = int(hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()[:16], 16) / 16**16
            expected = "train" if place < 0.5 else "validation" if place < 0.75 else "test"
            assert part_of(name, config) == expected


def test_proteins_are_listed_by_name_or_pattern():
    config = of_proteins(validation=["2*", "1abcA00"], test=["1abc*"])
    assert [part_of(name, config) for name in ("1abcA00", "1abcB01", "2defC02", "3ghiA00")] == [
        "validation", "test", "validation", "train"
    ]  # fmt: skip
    frames = np.zeros(6), np.full(6, 320.0)
    assert set(assign_splits(*frames, config, protein="2defC02")) == {SPLITS["validation"]}
    with pytest.raises(UserError, match=r"a\.h5: split `test` has 4 frames, needs 5"):
        assign_splits(np.zeros(4), np.full(4, 320.0), config, protein="1abcB01", where="a.h5")
    with pytest.raises(UserError, match=r"split `train` has 0 frames at 300 K"):
        assign_splits(*frames, config, protein="3ghiA00", model_temperature_K=300)


@pytest.mark.parametrize(
    ("lists", "names", "message"),
    [
        (
            {"validation": ["1abcA0O"]},
            ["1abcA00", "2defB01"],
            r"split\.validation: .*`1abcA0O`.*did you mean `1abcA00`",
        ),
        (
            {"validation": ["1*"], "test": ["9*"]},
            ["1abcA00", "2defB01"],
            r"split\.test: .*`9\*`.*known: 1abcA00, 2defB01",
        ),
        ({"validation": ["9xyz"]}, ["1abcA00"], r"mdcath_dataset_9xyz\.h5 was excluded"),
        ({"validation": ["1*"], "test": ["*A00"]}, ["1abcA00", "2defA00"], "`1abcA00` fits .* by its name"),
        ({"validation": ["*"]}, ["1abcA00", "2defB01"], r"`train` has no protein \(0 train, 2 validation, 0 test\)"),
        ({"fractions": (0.98, 0.01, 0.01)}, ["1abcA00"], r"`validation` has no protein .*data\.split\.seed"),
    ],
)
def test_every_part_has_its_proteins(lists, names, message):
    with pytest.raises(UserError, match=message):
        require_parts(names, of_proteins(**lists), excluded=["mdcath_dataset_9xyz.h5"])


def test_sound_divisions_of_proteins_are_accepted():
    require_parts(["1abcA00", "2defB01"], of_proteins(validation=["1*"]))
    require_parts(["1abcA00", "2defB01", "1abcB00"], of_proteins(validation=["1*"], test=["1abcB00"]))
    require_parts([], SplitConfig(by="replica", train=[0], validation=[1], test=[]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "protein", "train": ["1abc"]}, "leave out `train`"),
        ({"by": "protein", "test": ["1abc"]}, "needs proteins for `validation`"),
        ({"by": "protein", "validation": ["1abc"], "test": ["1abc"]}, "more than one part"),
        ({"by": "protein", "validation": ["1abc"], "fractions": (0.8, 0.1, 0.1)}, "not both"),
        ({"by": "protein", "validation": [1234]}, "in quotes"),
        ({"by": "replica", "train": ["1abc"], "validation": [1], "test": [2]}, "`1abc` is no replica id"),
        ({"by": "time_block", "validation": [1]}, "`validation` has no meaning"),
    ],
)
def test_mistakes_in_the_division_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        SplitConfig.model_validate(settings)
