"""Gathering distributions: moments against NumPy, block by block as in one go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_chains import protein_of, random_chain

from cgloop.priors import samples as samples_module
from cgloop.priors.samples import Samples


@settings(max_examples=20, deadline=None)
@given(n_beads=st.integers(2, 12), n_frames=st.integers(1, 50), seed=st.integers(0, 10_000), data=st.data())
def test_any_block_size_and_any_division_into_proteins(n_beads, n_frames, seed, data):
    positions = random_chain(n_beads, n_frames, seed)
    linked = np.random.default_rng(seed).random(n_beads - 1) < 0.8
    whole = Samples()
    whole.add(protein_of(positions, linked))
    cut = data.draw(st.integers(0, n_frames))
    parts = Samples()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples_module, "BLOCK_VALUES", data.draw(st.integers(1, 2000)))
        for block in (positions[:cut], positions[cut:]):
            if len(block):
                parts.add(protein_of(block, linked))
    assert parts.n_frames == whole.n_frames == n_frames
    for name in ("bonds", "angles", "dihedrals"):
        np.testing.assert_array_equal(getattr(parts, name).counts, getattr(whole, name).counts)
    np.testing.assert_array_equal(parts.smallest, whole.smallest)
    assert parts.n_bonds == whole.n_bonds == n_frames * linked.sum()
    if whole.n_bonds:
        steps = np.linalg.norm(np.diff(positions.astype(np.float32).astype(float), axis=1), axis=2)[:, linked]
        np.testing.assert_allclose([parts.bond_mean, parts.bond_variance], [steps.mean(), steps.var()], rtol=1e-9)


def test_smallest_distances_by_separation_class():
    """A hand-made zigzag: two pieces of chain, so that beads 3 and 4 are not bonded and far along the chain."""
    x = np.zeros((1, 6, 3))
    x[0, :, 0] = [0.0, 3.8, 7.6, 11.4, 15.9, 19.7]
    counted = Samples()
    counted.add(protein_of(x, [True, True, True, False, True]))
    np.testing.assert_allclose(counted.smallest, [7.6, 11.4, 4.5], rtol=1e-6)
    assert [histogram.total for histogram in counted.distances] == [2, 1, 8]


def test_cis_bonds_are_counted_apart():
    x = np.zeros((2, 3, 3))
    x[:, 1, 0], x[:, 2, 0] = 3.8, 6.7
    counted = Samples()
    counted.add(protein_of(x))
    assert (counted.n_bonds, counted.n_cis) == (2, 2)
    assert counted.bond_mean == pytest.approx(3.8)
