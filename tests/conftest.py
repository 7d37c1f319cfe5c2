"""Fixtures that every room shares."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def example_h5() -> Path:
    """The shipped all-atom MD of CLN025 at 320 K, mdCATH layout."""
    return REPOSITORY / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
