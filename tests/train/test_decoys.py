"""Decoys among training frames: what the loss sees of them, how many there are, and which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from MDAnalysis.analysis.rms import rmsd

from cgloop.config.feedback import DecoysConfig
from cgloop.data.decoys import Decoys, read_decoys, write_decoys
from cgloop.data.protein import ProteinData
from cgloop.errors import UserError
from cgloop.train.decoys import distinct, gather, with_decoys
from cgloop.train.loader import FrameSet
from cgloop.train.step import Objective

N_BEADS = 5
CONFIG = DecoysConfig(weight=0.25, min_rmsd_A=0.0)


def chain(random, n_frames):
    return (3.8 * np.arange(N_BEADS)[:, None] * [1.0, 0.0, 0.0] + random.normal(size=(n_frames, N_BEADS, 3))).astype(
        "f4"
    )


def data_of(random, n_frames=4):
    return ProteinData(
        name="one", residue_type=np.arange(N_BEADS, dtype=np.int8), chain=np.zeros(N_BEADS, np.int16),
        resid=np.arange(N_BEADS, dtype=np.int32), native=chain(random, 1)[0], linked=np.ones(N_BEADS - 1, bool),
        positions=chain(random, n_frames), forces=random.normal(size=(n_frames, N_BEADS, 3)).astype("f4"),
        temperature_K=np.full(n_frames, 300, np.float32), replica=np.zeros(n_frames, np.int32),
        source_frame=np.arange(n_frames, dtype=np.int32), split=np.zeros(n_frames, np.int8),
    )  # fmt: skip


def decoys_of(positions, mask, cycle=0):
    d = len(positions)
    origin = {
        "cycle": np.full(d, cycle, np.int32), "stage": np.array(["nvt"] * d, object), "replica": np.arange(d),
        "step": np.arange(d), "reason": np.array(["crash: clash"] * d, object),
    }  # fmt: skip
    types, linked = np.arange(N_BEADS, dtype=np.int8), np.ones(N_BEADS - 1, bool)
    return Decoys("one", types, linked, np.asarray(positions, np.float32), np.asarray(mask, bool), origin)


@pytest.fixture
def random():
    return np.random.default_rng(3)


def forces(params, positions, graph):
    """Any function of positions and parameters whose force on a bead depends on that bead alone."""
    return params["scale"] * jnp.sin(positions) + params["shift"]


def test_the_loss_sees_masked_beads_only(random):
    """Value and gradient over a batch of data and decoys against sums written out in NumPy."""
    data = FrameSet([data_of(random)], 10.0)
    positions, mask = chain(random, 2), random.random((2, N_BEADS)) < 0.5
    mask[0, :2] = True, False
    both = with_decoys(data, [decoys_of(positions, mask)], CONFIG, 10.0, 300.0)
    assert both.n_frames == 6
    chosen = np.array([5, 0, 4, 2])
    batch = both.batch(chosen, both.shape(4))
    params = {"scale": jnp.float32(0.7), "shift": jnp.asarray([0.3, -0.2, 0.1])}
    value, gradient, _ = Objective(forces).gradient(params, batch)

    total, weight, slope = 0.0, 0.0, np.zeros(3)
    for frame in chosen:
        own = frame < 4
        x = (data.store.geometry(np.array([frame])).positions if own else positions[frame - 4]).astype(float)
        target = data.store.target(np.array([frame])).astype(float) if own else np.zeros((N_BEADS, 3))
        counts = np.ones(N_BEADS) if own else 0.25 * mask[frame - 4]
        deviation = 0.7 * np.sin(x) + [0.3, -0.2, 0.1] - target
        total += float((counts[:, None] * deviation**2).sum())
        slope += 2 * (counts[:, None] * deviation).sum(axis=0)
        weight += 3 * counts.sum()
    assert float(value) == pytest.approx(total / weight, rel=1e-5)
    np.testing.assert_allclose(gradient["shift"], slope / weight, rtol=1e-4)


def test_forces_on_other_beads_of_a_decoy_do_not_count(random):
    data = FrameSet([data_of(random)], 10.0)
    mask = np.zeros((1, N_BEADS), bool)
    mask[0, 2] = True
    both = with_decoys(data, [decoys_of(chain(random, 1), mask)], CONFIG, 10.0, 300.0)
    batch = both.batch(np.array([4]), both.shape(1))
    slope = jax.grad(lambda f: Objective(lambda p, x, g: p).gradient(f, batch)[0])(jnp.ones((N_BEADS, 3)))
    assert (np.asarray(slope)[mask[0]] > 0).all()
    assert not np.asarray(slope)[~mask[0]].any()


def test_data_come_first_and_are_unchanged(random):
    data = FrameSet([data_of(random)], 10.0)
    both = with_decoys(data, [decoys_of(chain(random, 3), np.ones((3, N_BEADS)))], CONFIG, 10.0, 300.0)
    every = np.arange(4)
    for one, other in zip(data.store.geometry(every), both.store.geometry(every), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(both.store.target(every), data.store.target(every))
    np.testing.assert_array_equal(both.bead_weight(every), 1.0)
    assert both.mean_square("target") > 0
    assert with_decoys(data, [], CONFIG, 10.0, 300.0) is data


def test_distinct_agrees_with_mdanalysis(random):
    frames = chain(random, 12).astype(float)
    frames[5] = frames[1] @ np.linalg.qr(random.normal(size=(3, 3)))[0] + 4.0  # a rotation or a mirror image
    chosen = distinct(frames, 0.9, 100)
    expected: list[int] = []
    for k in range(12):
        if all(rmsd(frames[k], frames[j], superposition=True) >= 0.9 for j in expected):
            expected.append(k)
    assert chosen.tolist() == expected
    assert 0 < len(expected) < 12
    assert distinct(frames, 0.9, 2).tolist() == expected[:2]


@settings(max_examples=20, deadline=None)
@given(
    cycles=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    share=st.floats(0.01, 0.5),
    n_frames=st.integers(1, 60),
)
def test_decoys_never_exceed_their_share(tmp_path_factory, cycles, share, n_frames):
    random, folder = np.random.default_rng(1), tmp_path_factory.mktemp("decoys")
    paths = []
    for cycle, count in enumerate(cycles):
        paths.append(folder / f"{cycle}.h5")
        write_decoys(paths[-1], [decoys_of(chain(random, count), np.ones((count, N_BEADS)), cycle)])
    kept = gather(paths, ["one"], n_frames, DecoysConfig(max_share=share, min_rmsd_A=0.0))
    found = sum(map(len, kept))
    assert found == min(int(share * n_frames), sum(cycles))
    # The newest come first.
    newest = [int(c) for one in kept for c in one.origin["cycle"]]
    assert newest == sorted(newest, reverse=True)
    assert gather(paths, ["another"], n_frames, DecoysConfig()) == []


def test_files_come_back_and_damage_is_told(tmp_path, random):
    one = decoys_of(chain(random, 3), random.random((3, N_BEADS)) < 0.5)
    write_decoys(tmp_path / "decoys.h5", [one])
    (back,) = read_decoys(tmp_path / "decoys.h5")
    np.testing.assert_array_equal(back.positions, one.positions)
    np.testing.assert_array_equal(back.mask, one.mask)
    assert back.describe() == one.describe()
    assert back.describe()[0]["reason"] == "crash: clash"
    (tmp_path / "decoys.h5").write_bytes(b"x")
    with pytest.raises(UserError, match="decoys cannot be read"):
        read_decoys(tmp_path / "decoys.h5")
