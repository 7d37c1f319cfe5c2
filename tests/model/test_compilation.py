"""Options of the compiler for functions that are called a few times only."""

import jax
import jax.numpy as jnp
import pytest

from cgloop.model import compilation


@pytest.fixture
def options(monkeypatch):
    """Sets the options that are tried; what was found before is forgotten."""

    def set_to(found):
        monkeypatch.setattr(compilation, "OPTIONS", found)
        compilation._known_here.cache_clear()

    yield set_to
    compilation._known_here.cache_clear()


def test_what_is_compiled_quickly_computes_the_same():
    x = jnp.linspace(0.1, 3.0, 50)
    found = jax.jit(lambda x: jnp.sum(jnp.sin(x) / x), compiler_options=compilation.quickly())(x)
    assert float(found) == pytest.approx(float(jnp.sum(jnp.sin(x) / x)), rel=1e-6)


def test_an_option_that_this_xla_does_not_know_is_left_out(options):
    options({"xla_backend_optimization_level": 0, "xla_of_another_version": 1})
    assert compilation.quickly() == {"xla_backend_optimization_level": 0}


def test_nothing_is_chosen_for_an_accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.quickly() == {}
