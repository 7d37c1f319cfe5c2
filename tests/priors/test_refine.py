"""Force matching of prior parameters on forces that a known prior made."""

from functools import partial

import jax
import numpy as np
import pytest
from synthetic_chains import KT, protein_of

from cgloop.config.priors import PriorsConfig
from cgloop.model.hybrid import Model, prior_forces
from cgloop.priors.bonded import angle_limits, dihedral_limits
from cgloop.priors.forms import forms_of, repulsion_shape
from cgloop.priors.inversion import fit_samples, mixed_fit, shrunk
from cgloop.priors.refine import gather, project, refine, rms_deviation
from cgloop.priors.samples import Samples

FORMS = [
    dict(),
    dict(angle_form="harmonic", dihedral_form="spline", repulsion_form="power6"),
    dict(angle_form="spline", keyed="class", contacts={"enabled": True}),
]


def thermal_chain(n_frames=150, seed=0):
    """Helices with noise: all angles and dihedrals within a range, as a protein's are."""
    t = np.arange(8)
    helix = np.stack([2.3 * np.cos(1.75 * t), 2.3 * np.sin(1.75 * t), 1.5 * t], axis=-1)
    protein = protein_of(helix + np.random.default_rng(seed).normal(0.0, 0.25, (n_frames, 8, 3)))
    protein.residue_type[:] = [0, 7, 14, 3, 11, 7, 0, 1]
    return protein


def fitted(protein, config):
    samples = Samples(forms=forms_of(config))
    samples.add(protein)
    return fit_samples(samples, config, 320.0, 12.0)


@pytest.mark.slow
@pytest.mark.parametrize("chosen", FORMS)
def test_known_parameters_are_found_again_and_stay_physical(chosen):
    config = PriorsConfig(min_frames=10, refine={"max_steps": 60, "starts": 1, "restraint": 0.0}, **chosen)
    protein = thermal_chain()
    fit = fitted(protein, config)
    true = fit.params._replace(
        bond_k=1.2 * fit.params.bond_k,
        angle_coeffs=0.8 * fit.params.angle_coeffs if config.angle_form != "harmonic" else fit.params.angle_coeffs,
    )
    frames = gather([protein], 12.0)
    with jax.enable_x64(True):
        function = jax.jit(partial(prior_forces, Model(None, "prior-only", 12.0, fit.forms)))
        forces = np.asarray(function({"prior": true, "ml": {}}, frames.positions, frames.graph))
    frames.forces[:] = forces
    found = refine(fit, config, 12.0, frames)
    assert found.after < 0.1 * found.before
    np.testing.assert_allclose(found.params.bond_k, true.bond_k, rtol=0.05)
    assert found.after == pytest.approx(rms_deviation(found.params, fit.forms, 12.0, frames), rel=1e-9)
    check_physical(found.params, fit, config)


def check_physical(params, fit, config):
    assert (params.bond_k > 0).all()
    kinds = ("wca", "wca", fit.forms.repulsion)
    for kind, epsilon, r_min in zip(kinds, params.repulsion_epsilon, params.repulsion_r_min, strict=True):
        assert epsilon * repulsion_shape(kind, np.asarray(3.0 / r_min)) >= 2.999 * KT
    size = config.angle_intervals if config.angle_form == "spline" else config.angle_order
    if config.angle_form != "harmonic":
        for key, row in enumerate(np.atleast_2d(params.angle_coeffs)):
            counts = fit.samples.key_angles[key] if config.keyed != "global" else np.zeros(1)
            own = shrunk(fit.samples.angles, counts, config.shrinkage)
            rows, bounds = angle_limits(own, config.angle_form, size, KT, ceiling=False)
            assert (rows @ row - bounds).min() > -1e-3 * KT


@pytest.mark.parametrize("chosen", FORMS)
def test_projection_confines_what_does_not_and_leaves_the_rest_alone(chosen):
    config = PriorsConfig(min_frames=10, **chosen)
    fit = fitted(thermal_chain(), config)
    same = project(fit.params, fit, config, KT)
    for one, other in zip(same, fit.params, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)
    random = np.random.default_rng(0)
    wild = fit.params._replace(
        **{
            name: value + KT * random.normal(size=value.shape)
            for name in ("angle_coeffs", "dihedral_cos", "dihedral_sin", "dihedral_spline")
            if (value := np.asarray(getattr(fit.params, name))).any()
        }
    )
    tamed = project(wild, fit, config, KT)
    check_physical(tamed, fit, config)
    if config.keyed == "global" and config.dihedral_form == "fourier":
        rows, _ = dihedral_limits(fit.samples.dihedrals, "fourier", config.dihedral_order, KT)
        assert (rows @ np.concatenate([tamed.dihedral_cos, tamed.dihedral_sin[1:]])).min() > -1e-3 * KT


def test_temperatures_are_averaged_by_their_frames():
    config = PriorsConfig(min_frames=10)
    cold, warm = fitted(thermal_chain(100), config), fitted(thermal_chain(300, seed=1), config)
    object.__setattr__(warm, "temperature_K", 450.0)
    mixed = mixed_fit([cold, warm], 320.0)
    assert mixed.temperature_K == 320.0
    np.testing.assert_allclose(mixed.params.bond_k, 0.25 * cold.params.bond_k + 0.75 * warm.params.bond_k, atol=1e-5)
    np.testing.assert_array_equal(
        mixed.params.repulsion_r_min, np.minimum(cold.params.repulsion_r_min, warm.params.repulsion_r_min)
    )
    assert mixed_fit([cold], 320.0) is cold
