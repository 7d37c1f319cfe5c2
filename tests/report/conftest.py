"""A protein for crash files, and runs that are read only."""

import numpy as np
import pytest

from cgloop.data.dataset import ProteinData
from cgloop.residues import RESIDUES
from tests.feedback import crash_files
from tests.report.builders import SEQUENCE, write_run


@pytest.fixture(scope="session")
def hairpin() -> ProteinData:
    """Ten beads on two antiparallel strands, one frame."""
    letters = [residue.letter for residue in RESIDUES]
    strand = np.arange(5) * 3.4
    upper = np.stack([strand, 0.9 * (-1.0) ** np.arange(5), np.zeros(5)], axis=1)
    lower = np.stack([strand[::-1], 0.9 * (-1.0) ** np.arange(5), np.full(5, 3.6)], axis=1)
    native = np.concatenate([upper, lower]).astype(np.float32)
    return ProteinData(
        name="cln025",
        residue_type=np.array([letters.index(letter) for letter in SEQUENCE], np.int8),
        chain=np.zeros(10, np.int16),
        resid=np.arange(1, 11, dtype=np.int32),
        native=native,
        linked=np.ones(9, bool),
        positions=native[None],
        forces=np.zeros((1, 10, 3), np.float32),
        temperature_K=np.full(1, 320, np.float32),
        replica=np.zeros(1, np.int32),
        source_frame=np.zeros(1, np.int32),
        split=np.zeros(1, np.int8),
    )


@pytest.fixture(scope="session")
def crash_paths(tmp_path_factory, hairpin):
    """Two crash files: a clash in replica 0, and forces that are not numbers in replica 2."""
    folder = tmp_path_factory.mktemp("crashes")
    return [
        crash_files.clash(hairpin, folder / "crash_000.h5", replica=0),
        crash_files.non_finite(hairpin, folder / "crash_002.h5", replica=2),
    ]


@pytest.fixture(scope="session")
def passing_run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "passing", "pass")


@pytest.fixture(scope="session")
def crashed_run(tmp_path_factory, crash_paths):
    """Two cycles: the first fails without a crash, the second with two."""
    return write_run(tmp_path_factory.mktemp("runs") / "crashed", "fail", "fail", crashes=crash_paths)
