"""Every form of every prior term: gradients, degenerate geometry, extrapolation, and closed forms from SciPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from cgloop.model import potentials, terms
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, bead_energies, energy, energy_and_forces, model_from_json, model_to_json
from cgloop.model.terms import KEY_NAMES, PriorForms, PriorParams, key_of_type
from cgloop.residues import TYPE_ID
from tests.model.systems import PRIOR, chain, compiled

CUTOFF_A = 14.0
ANGLES = {"fourier": PRIOR.angle_coeffs, "harmonic": np.array([12.0, 1.9]), "spline": np.array([9, 6, 4, 2, 1, 0, 2.0])}
FORMS = [
    PriorForms(angle="harmonic", dihedral="spline", repulsion="power4", electrostatics=True, contacts=True),
    PriorForms(angle="spline", repulsion="lj", keyed="class"),
    PriorForms(angle="harmonic", repulsion="power12", keyed="residue", electrostatics=True),
    PriorForms(angle="spline", dihedral="spline", repulsion="power6", keyed="residue", contacts=True),
]
"""Every form is in one of them; WCA and the series are tested in test_terms."""

BY_NAME = {"-".join(str(v) for v in vars(forms).values()): forms for forms in FORMS}
TYPES = np.array([TYPE_ID[name] for name in ["ASP", "GLY", "PRO", "LYS", "ALA", "GLU", "ARG", "PRO", "GLY", "ASP"]])


def params_of(forms: PriorForms, seed: int = 0) -> dict:
    """Parameters of the right shapes; with keys, each row is scaled differently."""
    random = np.random.default_rng(seed)
    contact = random.normal(size=(20, 20)) if forms.contacts else np.zeros((1, 1))
    prior = PRIOR._replace(
        angle_coeffs=ANGLES[forms.angle],
        dihedral_spline=random.normal(size=8) if forms.dihedral == "spline" else np.zeros(1),
        repulsion_r_min=np.array([5.6, 4.8, 6.5]),
        electrostatics=np.array([12.0, 8.0]),
        contact_energy=contact,
        weights=np.ones(6),
    )
    if forms.keyed != "global":
        n = len(KEY_NAMES[forms.keyed])
        rows = dict.fromkeys((*terms.BOND_FIELDS, *terms.ANGLE_FIELDS), n) | dict.fromkeys(terms.DIHEDRAL_FIELDS, n * n)
        unused = ("dihedral_cos", "dihedral_sin") if forms.dihedral == "spline" else ("dihedral_spline",)
        prior = prior._replace(
            **{
                name: np.multiply.outer(1.0 + 0.02 * random.normal(size=rows[name]), getattr(prior, name))
                for name in rows
                if name not in unused
            }
        )
    return {"prior": prior, "ml": {}}


def world(forms: PriorForms, positions: np.ndarray):
    model = Model(None, "prior-only", CUTOFF_A, forms)
    linked = np.ones(len(positions) - 1, bool)
    return model, params_of(forms), build_graph(TYPES[: len(positions)], linked, positions, 1e4)


@pytest.mark.parametrize("name", BY_NAME)
def test_forces_are_the_gradient(name):
    """Along random directions, so that each form needs a few energies only."""
    x = chain(10, seed=2, noise=0.9)
    model, params, graph = world(BY_NAME[name], x)
    forces = np.asarray(compiled(model)(params, x, graph)[1])
    value = compiled(model, energy)
    for seed in range(6):
        step = np.random.default_rng(seed).normal(size=x.shape)
        up, down = (float(value(params, x + sign * 1e-5 * step, graph)) for sign in (1, -1))
        assert -(up - down) / 2e-5 == pytest.approx(np.sum(forces * step), rel=1e-6, abs=1e-5)
    by_bead = compiled(model, bead_energies)(params, x, graph)
    assert float(np.sum(by_bead)) == pytest.approx(float(value(params, x, graph)), rel=1e-12)


@pytest.mark.parametrize("name", BY_NAME)
def test_parameters_have_the_gradient_of_differences(name):
    x = chain(10, seed=3, noise=0.9)
    model, params, graph = world(BY_NAME[name], x)
    gradient = jax.jit(jax.grad(lambda p: energy(model, p, x, graph)))(params)["prior"]
    random = np.random.default_rng(0)
    step = PriorParams(*(random.normal(size=np.shape(value)) for value in params["prior"]))

    def moved(sign):
        prior = PriorParams(*(p + sign * 1e-6 * s for p, s in zip(params["prior"], step, strict=True)))
        return float(compiled(model, energy)({"prior": prior, "ml": {}}, x, graph))

    expected = sum(float(np.sum(g * s)) for g, s in zip(gradient, step, strict=True))
    assert (moved(1) - moved(-1)) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-4)


def degenerate(kind: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = chain(10, seed)
    match kind:
        case "coincident":
            x[random.integers(10, size=5)] = x[0]
        case "all in one point":
            x[:] = x[0]
        case "line":
            x = np.arange(10.0)[:, None] * random.normal(size=3)
        case "back and forth":
            x = (np.arange(10.0) % 2)[:, None] * random.normal(size=3)
        case "partly straight":
            x[2:6] = x[2] + np.arange(4.0)[:, None] * 3.8 * np.eye(3)[seed % 3]
        case "nearly straight":
            x = np.arange(10.0)[:, None] * np.array([3.8, 0, 0]) + 10.0 ** -random.uniform(2, 9) * random.normal(
                size=(10, 3)
            )
    return x


@pytest.mark.slow
@pytest.mark.parametrize("single", [False, True])
@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(
        ["coincident", "all in one point", "line", "back and forth", "partly straight", "nearly straight"]
    ),
    name=st.sampled_from(list(BY_NAME)),
    seed=st.integers(0, 1000),
)
def test_degenerate_geometry_is_finite(single, kind, name, seed):
    """Energies, forces and gradients by parameters, in both precisions."""
    x = degenerate(kind, seed).astype(np.float32 if single else np.float64)
    model, params, graph = world(BY_NAME[name], x)
    energies, forces, _ = compiled(model)(params, x, graph)
    assert np.isfinite(energies).all()
    assert np.isfinite(forces).all()
    gradient = by_parameters(model)(params, x, graph)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def by_parameters(model):
    return compiled(model, force_loss_gradient)


def force_loss_gradient(model, params, positions, graph):
    """What training a prior needs: the derivative of squared forces by the parameters."""
    return jax.grad(lambda p: jnp.mean(energy_and_forces(model, p, positions, graph)[1] ** 2))(params)


def test_default_forms_are_the_series_and_the_wca():
    x = chain(10, seed=4)
    model, params, graph = world(PriorForms(), x)
    plain = Model(None, "prior-only", CUTOFF_A)
    assert plain == model
    np.testing.assert_array_equal(compiled(model)(params, x, graph)[2], compiled(plain)(params, x, graph)[2])


@pytest.mark.parametrize("n", [4, 9, 24])
def test_splines_are_those_of_scipy(n):
    coefficients = np.random.default_rng(n).normal(size=n)
    step = 2.0 / (n - 3)
    knots = -1.0 + step * (np.arange(n + 4) - 3)
    cosine = np.linspace(-1.0, 1.0, 501)
    ours = potentials.angle_spline(jnp.asarray(cosine), jnp.asarray(coefficients))
    np.testing.assert_allclose(ours, BSpline(knots, coefficients, 3)(cosine), atol=1e-12)
    phi = np.linspace(-np.pi, np.pi, 501)
    wrapped = np.concatenate([coefficients, coefficients[:3]])
    knots = -np.pi + 2.0 * np.pi / n * (np.arange(n + 7) - 3)
    ours = potentials.periodic_spline(jnp.cos(phi), jnp.sin(phi), jnp.asarray(coefficients))
    np.testing.assert_allclose(ours, BSpline(knots, wrapped, 3)(phi), atol=1e-9)


@pytest.mark.parametrize("name", list(potentials.REPULSION_FORMS))
def test_repulsions_rise_to_overlap_and_their_line_is_smooth(name):
    function = jax.vmap(jax.value_and_grad(partial(potentials.REPULSION_FORMS[name], epsilon=2.0, r_min=5.0)))
    value, slope = map(np.asarray, function(jnp.linspace(0.0, 4.9, 400)))
    assert (slope < 0).all()
    assert (np.diff(value) < 0).all()
    value, slope = map(np.asarray, function(2.5 + jnp.array([-1e-9, 1e-9])))
    np.testing.assert_allclose(value[0], value[1], rtol=1e-7)
    np.testing.assert_allclose(slope[0], slope[1], rtol=1e-6)
    # LJ is the only one that attracts, by ε at r_min.
    minimum = float(np.min(function(jnp.linspace(3.0, 12.0, 2001))[0]))
    assert minimum == pytest.approx(-2.0 if name == "lj" else minimum, abs=1e-4)
    assert minimum >= 0.0 or name == "lj"


@pytest.mark.parametrize("forms", [PriorForms(repulsion="power4"), PriorForms(electrostatics=True)])
def test_long_ranged_terms_end_smoothly_at_the_cutoff(forms):
    def pair(r):
        x = jnp.array([[0.0, 0, 0], [1.0, 0, 0]]) * r
        types = np.array([TYPE_ID["LYS"], TYPE_ID["ARG"]])
        graph = build_graph(types, np.array([False]), np.array([[0.0, 0, 0], [1.0, 0, 0]]), 1e4)
        return energy(Model(None, "prior-only", CUTOFF_A, forms), params_of(forms), x, graph)

    value = jax.jit(jax.vmap(jax.value_and_grad(pair)))
    near, end = jnp.linspace(3.0, CUTOFF_A - 1e-3, 200), jnp.array([CUTOFF_A - 1e-6, CUTOFF_A + 1e-6, 50.0])
    energies, slopes = map(np.asarray, value(near))
    assert (energies > 0).all()
    assert (slopes < 0).all()
    np.testing.assert_allclose(value(end), 0.0, atol=1e-9)


def test_harmonic_angle_is_harmonic_up_to_a_degree_of_straight():
    theta = np.radians(np.linspace(1.0, 179.0, 300))
    coefficients = jnp.array([12.0, 1.9])
    np.testing.assert_allclose(
        potentials.harmonic_angle(jnp.cos(theta), coefficients), 6.0 * (theta - 1.9) ** 2, rtol=1e-9
    )
    straight = potentials.harmonic_angle(jnp.array([-1.0, 1.0]), coefficients)
    np.testing.assert_allclose(straight, 6.0 * (np.array([np.pi, 0.0]) - 1.9) ** 2, rtol=0.02)


def test_keys():
    assert key_of_type("global").tolist() == [0] * 20
    classes = key_of_type("class")
    assert [KEY_NAMES["class"][classes[TYPE_ID[name]]] for name in ("GLY", "PRO", "TRP")] == ["GLY", "PRO", "other"]
    items = np.array([[0, 1, 2, 3]])
    types = np.array([TYPE_ID[name] for name in ("ALA", "GLY", "PRO", "ALA")])
    assert terms.row_of_items("class", types, items).tolist() == [3 * 1 + 2]
    assert terms.row_of_items("class", types, items[:, 1:]).tolist() == [2]
    assert terms.row_of_items("class", types, items[:, :2]).tolist() == [1]


def test_only_opposite_charges_attract_and_only_residues_far_apart_touch():
    x = chain(10, seed=1)
    forms = PriorForms(electrostatics=True, contacts=True)
    model, params, graph = world(forms, x)
    found = np.asarray(compiled(model)(params, x, graph)[2][0])
    charge = {"ASP": -1, "GLU": -1, "LYS": 1, "ARG": 1}
    names = ["ASP", "GLY", "PRO", "LYS", "ALA", "GLU", "ARG", "PRO", "GLY", "ASP"]
    table = params["prior"].contact_energy
    electric = touching = 0.0
    for i in range(10):
        for j in range(i + 4, 10):
            r = np.linalg.norm(x[i] - x[j])
            off = np.interp(r, [0.75 * CUTOFF_A, CUTOFF_A], [0.0, 1.0])
            product = charge.get(names[i], 0) * charge.get(names[j], 0)
            electric += 12.0 * product * np.exp(-r / 8.0) / r * (1 - 10 * off**3 + 15 * off**4 - 6 * off**5)
            t = np.interp(r, [5.0, 9.0], [0.0, 1.0])
            mean = 0.5 * (table[TYPES[i], TYPES[j]] + table[TYPES[j], TYPES[i]])
            touching += (j - i >= 6) * mean * (1 - 10 * t**3 + 15 * t**4 - 6 * t**5)
    np.testing.assert_allclose(found[4:6], [electric, touching], rtol=1e-9)


def test_models_are_written_with_their_forms_and_older_ones_read():
    model = Model(None, "prior-only", 9.0, FORMS[-1])
    assert model_from_json(model_to_json(model)) == model
    older = model_to_json(Model(None, "prior-only", 9.0))
    del older["forms"]
    assert model_from_json(older) == Model(None, "prior-only", 9.0)


def test_a_prior_of_four_weights_is_one_with_all_others_one():
    x = chain(10, seed=4)
    model, params, graph = world(PriorForms(electrostatics=True), x)
    older = {"prior": params["prior"]._replace(weights=np.ones(4)), "ml": {}}
    np.testing.assert_array_equal(compiled(model)(older, x, graph)[2], compiled(model)(params, x, graph)[2])
