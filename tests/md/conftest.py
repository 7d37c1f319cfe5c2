"""The exported model is made once for all tests."""

from pathlib import Path

import pytest

from tests.md.model_worlds import write_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> dict[str, Path]:
    """Folders `prep`, `train` and `export` of a small protein and a small model; not to be changed."""
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def prior_world(tmp_path_factory) -> dict[str, Path]:
    """The same with the prior terms alone, which compile in a moment."""
    return write_world(tmp_path_factory.mktemp("prior-world"), "prior-only")
