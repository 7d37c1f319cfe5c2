"""The real data set of the example, prepared once."""

import pytest

from cgloop.config.data import DataConfig
from cgloop.data.dataset import DatasetReader
from cgloop.feedback.distribution import load_distribution
from cgloop.prep.pipeline import prepare


@pytest.fixture(scope="session")
def dataset_dir(tmp_path_factory, example_h5):
    folder = tmp_path_factory.mktemp("prep")
    split = {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]}
    source = {"path": example_h5, "stride": 5}
    prepare(DataConfig.model_validate({"sources": [source], "temperature_K": 320, "split": split}), folder)
    return folder


@pytest.fixture(scope="session")
def protein(dataset_dir):
    return DatasetReader.open(dataset_dir).load("cln025")


@pytest.fixture(scope="session")
def coverage(dataset_dir):
    return load_distribution(dataset_dir, "cln025").coverage
