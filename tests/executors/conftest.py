"""A free port, and a real SLURM."""

import socket

import pytest

from tests.executors.real_slurm import Slurm, missing_programs, running_slurm


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Slurm:
    """A running SLURM of two nodes, n1 and n2, on this machine."""
    missing = missing_programs()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (packages slurm-wlm and munge)")
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running
