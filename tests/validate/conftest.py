"""Fixtures of the validation tests."""

import pytest

from cgloop.config.validate import ValidateConfig
from tests.validate import builders


@pytest.fixture(scope="session")
def settings() -> ValidateConfig:
    return ValidateConfig(noise_blocks=40)


@pytest.fixture(scope="session")
def chain(example_h5):
    """Residue names, native CA positions and real CA trajectories of CLN025 at 320 K."""
    return builders.real_chain(example_h5)
