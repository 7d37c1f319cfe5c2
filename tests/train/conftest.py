"""A small protein of which the forces are known in closed form."""

from collections.abc import Callable

import numpy as np
import pytest
from toy_proteins import known_forces, toy_protein

from cgloop.data.dataset import ProteinData


@pytest.fixture(scope="session")
def forces_of() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return known_forces


@pytest.fixture(scope="session")
def make_protein() -> Callable[..., ProteinData]:
    """Makes a bent chain whose beads shake around their places, four trajectories, with noise on the forces."""
    return toy_protein
