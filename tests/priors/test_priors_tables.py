"""`priors.yaml`: readable, exact, and refused when damaged."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.errors import UserError
from cgloop.model.terms import PriorParams
from cgloop.priors.tables import Origin, read_priors, write_priors

numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
positive = st.floats(1e-6, 1e6)
COUNTS = {"bonds": 9, "cis": 0, "angles": 8, "dihedrals": 7}
ORIGIN = Origin(320.0, {"b": 3, "a": 4}, COUNTS, ("from here", "from there", "default"))


def arrays(values, n):
    return st.lists(values, min_size=n, max_size=n).map(np.array)


@st.composite
def priors(draw):
    n_angle, n_dihedral = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    return PriorParams(
        np.asarray(draw(positive)), np.asarray(draw(positive)), draw(arrays(numbers, n_angle)),
        draw(arrays(numbers, n_dihedral)), draw(arrays(numbers, n_dihedral)),
        draw(arrays(positive, 3)), draw(arrays(positive, 3)), draw(arrays(positive, 6)),
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(params=priors())
def test_round_trip_is_exact(tmp_path_factory, params):
    path = tmp_path_factory.mktemp("priors") / "priors.yaml"
    write_priors(path, params, ORIGIN)
    for one, other in zip(params, read_priors(path), strict=True):
        assert other.dtype == np.float64
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def written(tmp_path):
    params = PriorParams(
        np.asarray(190.0), np.asarray(3.87), np.arange(7.0), np.arange(5.0), np.arange(5.0), np.ones(3), np.ones(3) * 4,
        np.ones(4),
    )  # fmt: skip
    path = tmp_path / "priors.yaml"
    write_priors(path, params, ORIGIN)
    return path


def test_any_yaml_reader_understands_it(written):
    data = yaml.safe_load(written.read_text())
    assert data["bond"] == {"k": 190.0, "r0": 3.87}
    assert data["repulsion"]["3-5"] == {"epsilon": 1.0, "r_min": 4.0}
    assert data["frames"] == {"a": 4, "b": 3}
    assert data["temperature_K"] == 320
    assert "kcal/mol/Å²" in written.read_text()


def test_files_with_four_weights_have_one_for_the_others(written):
    text = written.read_text()
    assert "electrostatics" not in text
    np.testing.assert_array_equal(read_priors(written).weights, np.ones(6))


def test_terms_without_data_say_so(tmp_path):
    zero = PriorParams(
        np.asarray(0.0), np.asarray(3.8), np.zeros(7), np.zeros(5), np.zeros(5), np.ones(3), np.ones(3), np.ones(4)
    )
    counts = dict.fromkeys(COUNTS, 0)
    write_priors(tmp_path / "p.yaml", zero, Origin(320.0, {"a": 3}, counts, ORIGIN.r_min_from))
    text = (tmp_path / "p.yaml").read_text()
    assert all(f"no {term} in the reference" in text for term in ("bonds", "angles", "dihedrals"))
    assert not read_priors(tmp_path / "p.yaml").angle_coeffs.any()


@pytest.mark.parametrize(("old", "new", "message"), [
    ("  k: 190.0", "  kk: 190.0", "missing key 'k'"),
    ("  k: 190.0", "  k: .nan", "`bond_k` is not finite"),
    ("  k: 190.0", "  k: stiff", "not a table of priors"),
    ('  "6+":', '  "7+":', r"missing key '6\+'"),
    ("schema_version: 1", "schema_version: 2", "schema version 2"),
    ("r_min: 4.0", "r_min: -4.0", "r_min must be positive"),
    ("  sin: [0.0, ", "  sin: [", "differ in length"),
    ("bond:", "bond: [", "cannot be read"),
])  # fmt: skip
def test_damage_is_a_user_error(written, old, new, message):
    assert old in written.read_text()
    written.write_text(written.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        read_priors(written)
    assert str(written) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_priors(tmp_path / "priors.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="not a table of priors"):
        read_priors(tmp_path / "list.yaml")
