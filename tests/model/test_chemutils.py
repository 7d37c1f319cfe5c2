"""The network of a package that is not here: what can be said without it. What it computes was tried by hand."""

import json
import sys

import jax
import numpy as np
import pytest
from pydantic import ValidationError

from cgloop.config.root import Config
from cgloop.errors import UserError
from cgloop.model.chemutils import ChemutilsMaceSpec, _own_names, _plain_names
from cgloop.model.hybrid import (
    build_model,
    flatten_params,
    init_params,
    model_from_json,
    model_to_json,
    unflatten_params,
)
from cgloop.model.terms import zero_prior

DATA = {"sources": [{"path": "a.h5"}], "temperature_K": 320.0, "split": {"by": "protein"}}


def configured(**section):
    section = {"network": "chemutils-mace", **section}
    return Config.model_validate({"run": {"name": "x"}, "data": DATA, "model": section}).model


def test_is_chosen_by_the_config_and_survives_writing():
    model = build_model(configured(n_layers=3, hidden="8x0e+8x1o"), avg_num_neighbors=7.5, energy_scale=2.0)
    spec = model.spec
    assert isinstance(spec, ChemutilsMaceSpec)
    assert (spec.hops, spec.hidden, spec.avg_num_neighbors, spec.energy_scale) == (3, "8x0e+8x1o", 7.5, 2.0)
    assert model == model_from_json(json.loads(json.dumps(model_to_json(model))))


def test_it_cannot_tell_mirror_images_apart_and_the_config_says_so():
    with pytest.raises(ValidationError, match="O3"):
        configured(symmetry="SO3")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "chemutils", None)
    with pytest.raises(UserError, match=r"`model\.network: chemutils-mace` cannot be imported.*requirements/chemtrain"):
        init_params(build_model(configured()), None, jax.random.key(0))


def test_names_of_its_parameters_survive_a_file_of_parameters():
    """Haiku names modules by paths, and so do our files their parameters."""
    own = {"mace": {"varepsilon": np.ones(())}, "mace/layer_0/~/linear": {"w[0,0] 2x0e,2x0e": np.ones((2, 2))}}
    flat = flatten_params({"prior": zero_prior(), "ml": _plain_names(own)})
    again = _own_names(unflatten_params(flat)["ml"])
    assert {module: set(values) for module, values in again.items()} == {
        module: set(values) for module, values in own.items()
    }
