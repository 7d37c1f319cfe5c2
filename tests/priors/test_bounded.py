"""Points of a search and the parameters they stand for."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.model.terms import PriorForms, zero_prior
from cgloop.priors.bounded import BOUNDS, free_fields, params_at, point_at

KT = 0.6
CENTRE = zero_prior()._replace(
    bond_k=np.float64(190.0),
    bond_r0=np.float64(3.86),
    angle_coeffs=np.array([3.0, -1.0, 0.5]),
    dihedral_cos=np.array([0.0, 1.0]),
    dihedral_sin=np.array([0.0, -0.3]),
    repulsion_epsilon=np.array([2.5, 2.5, 2.5]),
    repulsion_r_min=np.array([4.8, 3.9, 3.8]),
    electrostatics=np.array([4.2, 8.0]),
)
SHAPES = free_fields(CENTRE, PriorForms(electrostatics=True), {"bonds": 9, "angles": 8, "dihedrals": 7})


def test_fields_without_data_stay_where_they_are():
    assert set(SHAPES) == {
        "bond_k", "bond_r0", "angle_coeffs", "dihedral_cos", "dihedral_sin", "repulsion_epsilon", "repulsion_r_min",
        "electrostatics",
    }  # fmt: skip
    few = free_fields(CENTRE, PriorForms(dihedral="spline"), {"bonds": 0, "angles": 0, "dihedrals": 7})
    assert set(few) == {"dihedral_spline", "repulsion_epsilon", "repulsion_r_min"}


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([0.3, 3.0, 100.0]))
def test_no_point_leaves_the_bounds(seed, size):
    random = np.random.default_rng(seed)
    with jax.enable_x64(True):
        point = {name: size * random.standard_normal(shape) for name, shape in SHAPES.items()}
        found = params_at(point, CENTRE, KT)
        for name, (low, high) in BOUNDS.items():
            factor = np.asarray(getattr(found, name)) / getattr(CENTRE, name)
            assert (factor >= low * (1 - 1e-9)).all()
            assert (factor <= high * (1 + 1e-9)).all()
        np.testing.assert_allclose(found.angle_coeffs, CENTRE.angle_coeffs + KT * point["angle_coeffs"])
        if size < 1:
            back = point_at(found, CENTRE, KT, point)
            for name in point:
                np.testing.assert_allclose(back[name], point[name], atol=1e-9, rtol=1e-9)


def test_what_lies_outside_is_brought_to_the_bound():
    outside = CENTRE._replace(bond_k=5.0 * CENTRE.bond_k, repulsion_r_min=0.5 * CENTRE.repulsion_r_min)
    zero = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    inside = params_at(point_at(outside, CENTRE, KT, zero), CENTRE, KT)
    assert float(inside.bond_k) == pytest.approx(2.0 * CENTRE.bond_k, rel=1e-3)
    np.testing.assert_allclose(inside.repulsion_r_min, 0.9 * CENTRE.repulsion_r_min, rtol=1e-3)
    np.testing.assert_allclose(inside.bond_r0, CENTRE.bond_r0, rtol=1e-6)
