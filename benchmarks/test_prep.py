"""Preparation: the whole stage on the shipped file; the optimal force map of 60 residues, and its application."""

import shutil

import numpy as np
import pytest

from benchmarks.conftest import REPOSITORY
from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.prep.constraints import guess_rigid_groups
from cgloop.prep.fitting import CONSTRAINT_FRAMES, FOLDS
from cgloop.prep.optimal import fit_optimal, force_products
from cgloop.prep.pipeline import prepare
from cgloop.prep.projection import MatrixMap

N_ATOMS, N_RESIDUES = 900, 60
FRAMES = {"small": 200, "full": 500}


@pytest.mark.parametrize("projection", ["basic", "optimal"])
def test_whole_stage(benchmark, keep, tmp_path, size, projection):
    """From the shipped mdCATH file, one process."""
    source = REPOSITORY / "examples" / "chignolin" / "mdcath_dataset_cln025.h5"
    config = DataConfig.model_validate(
        {
            "sources": [{"path": str(source)}],
            "temperature_K": 320,
            "projection": projection,
            "workers": 1,
            "split": {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]},
        }
    )

    def stage():
        shutil.rmtree(tmp_path / "dataset", ignore_errors=True)
        (tmp_path / "dataset").mkdir()
        prepare(config, tmp_path / "dataset")

    times = np.array(keep.times("whole stage", stage, rounds=3 if size == "small" else 7, projection=projection))
    reader = DatasetReader.open(tmp_path / "dataset")
    frames = sum(reader.load(name).positions.shape[0] for name in reader.names)
    keep("read and projected", "frames/s", frames / times, "higher", projection=projection)
    keep("read and projected", "MB/s", source.stat().st_size / 1e6 / times, "higher", projection=projection)


@pytest.fixture(scope="module")
def trajectory(size):
    """Positions and forces, float32 [frames, 900, 3]; every second atom rigidly bonded to the one before it."""
    random, n_frames = np.random.default_rng(0), FRAMES[size]
    heavy = np.cumsum(random.normal(0, 1.0, (N_ATOMS // 2, 3)), axis=0) + random.normal(
        0, 0.1, (n_frames, N_ATOMS // 2, 3)
    )
    direction = random.normal(size=heavy.shape)
    hydrogen = heavy + 1.09 * direction / np.linalg.norm(direction, axis=2, keepdims=True)
    positions = np.stack([heavy, hydrogen], axis=2).reshape(n_frames, N_ATOMS, 3)
    springs = random.normal(0, 15, (n_frames, N_ATOMS, 3))
    forces = springs - np.roll(springs, 1, axis=1) + random.normal(0, 5, (n_frames, N_ATOMS, 3))
    return positions.astype(np.float32), forces.astype(np.float32)


def test_fit_of_the_optimal_map(benchmark, keep, trajectory):
    positions, forces = trajectory
    atoms = np.arange(4, N_ATOMS, N_ATOMS // N_RESIDUES)
    found = []

    def fit():
        groups = guess_rigid_groups(positions[:: max(1, len(positions) // CONSTRAINT_FRAMES)])
        folds = [force_products(part, groups) for part in np.array_split(forces, FOLDS)]
        found.append(fit_optimal(folds, groups, atoms))

    keep.times("fit of the optimal map", fit, atoms=N_ATOMS, residues=N_RESIDUES, frames=len(forces))
    assert found[-1].weights.shape == (N_RESIDUES, N_ATOMS)


def test_application_of_a_dense_map(benchmark, keep, trajectory):
    _, forces = trajectory
    mapping = MatrixMap(np.random.default_rng(0).normal(size=(N_RESIDUES, N_ATOMS)))
    times = keep.times(
        "application of a dense map", lambda: mapping.project(forces), atoms=N_ATOMS, residues=N_RESIDUES,
        frames=len(forces),
    )  # fmt: skip
    rates = [forces.nbytes / 1e6 / one for one in times]
    keep("application of a dense map", "MB/s", rates, "higher", atoms=N_ATOMS, residues=N_RESIDUES)
