"""Where a compiled sum is wrong, nothing is computed."""

from types import SimpleNamespace

import numpy as np
import pytest

from cgloop import doctor
from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle, read_trained
from cgloop.feedback.prior_rerun import PriorAlone
from cgloop.model import compiler_check
from cgloop.model.compiler_check import N_ROWS, require_right_sums
from cgloop.priors.stage import fit_stage
from cgloop.train.stage import train_stage
from tests.md.model_worlds import config, write_world


def drops_a_block(rows):
    """Squared norms as jaxlib 0.10.2 returned them: from 1071645696 on."""
    return np.minimum((rows.astype(float) ** 2).sum(axis=1), 1071645696.0)


def test_sums_of_the_pinned_version_are_right():
    require_right_sums()


def test_a_wrong_sum_is_refused_with_a_remedy():
    with pytest.raises(UserError, match=f"1071645696, and must be {(N_ROWS - 1) ** 2}") as caught:
        require_right_sums(drops_a_block)
    assert "pip install 'jax==0.10.1'" in caught.value.remedy


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), "prior-only")


ENTRIES = {
    "load_bundle": lambda paths, out: load_bundle(paths["export"]),
    "read_trained": lambda paths, out: read_trained(paths["train"]),
    "train_stage": lambda paths, out: train_stage(config(), paths["prep"], out / "none.yaml", out),
    "fit_stage": lambda paths, out: fit_stage(paths["prep"], config(), out),
    "PriorAlone.read": lambda paths, out: PriorAlone.read(out / "none.yaml", 10.0),
    "doctor": lambda paths, out: doctor._jax(),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_way_to_the_forces_is_guarded(entry, folders, tmp_path, monkeypatch):
    """Whatever reads a model, fits or trains one; what comes later would have failed with another message here."""
    compiler_check._wrong_sum_here.cache_clear()
    monkeypatch.setattr(compiler_check, "jax", SimpleNamespace(**_with_a_faulty_compiler(compiler_check.jax)))
    try:
        with pytest.raises(UserError, match="computes wrong numbers on this CPU"):
            ENTRIES[entry](folders, tmp_path)
    finally:
        compiler_check._wrong_sum_here.cache_clear()


def _with_a_faulty_compiler(jax):
    return {"jit": lambda _function: drops_a_block, "default_backend": jax.default_backend, "__version__": "0.0.0"}
