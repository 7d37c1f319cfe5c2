"""`verify` passes for a sound bundle, and each check fails for the fault that it is there for."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save
from scipy.spatial.distance import pdist, squareform

from cgloop.export import verify as module
from cgloop.export.bundle import load_bundle, write_bundle
from cgloop.export.verify import CHECKS, COPIES, Chains, agreement, as_text, random_conformations, slopes, verify
from cgloop.stages import digest_file
from tests.md.model_worlds import small_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """With a network, which costs a compilation or two."""
    out = tmp_path_factory.mktemp("bundle")
    write_bundle(out, *small_model(), temperature_K=320.0)
    return out


@pytest.fixture(scope="module")
def prior_bundle(tmp_path_factory):
    out = tmp_path_factory.mktemp("prior-bundle")
    write_bundle(out, *small_model("prior-only"), temperature_K=320.0)
    return out


@pytest.fixture
def copy(prior_bundle, tmp_path):
    return shutil.copytree(prior_bundle, tmp_path / "copy")


def verdicts(results):
    return {one.check: one.verdict for one in results}


def refresh(folder):
    """Digests of the files as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {name: digest_file(folder / name) for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_sound_bundle_passes_everything(bundle):
    results = verify(bundle)
    assert [one.check for one in results] == [check.name for check in CHECKS]
    assert set(verdicts(results).values()) == {"pass"}
    found = {one.check: one for one in results}
    assert 0 < found["bundle.gradient"].value < 2e-3
    assert found["bundle.forces"].value < 1e-5
    assert "all checks pass" in as_text(results)


def test_conformations_are_chains_of_every_type():
    frames, chains = random_conformations(COPIES), Chains()
    np.testing.assert_array_equal(frames, random_conformations(COPIES))
    assert sorted(chains.types) == list(range(20))
    assert (~chains.linked).sum() == 1
    for frame in frames:
        apart = squareform(pdist(frame.astype(float)))
        np.testing.assert_allclose(np.diag(apart, 1), 3.8, atol=1e-5)
        assert apart[np.triu_indices(20, 2)].min() > 4.99
        np.testing.assert_allclose(frame.mean(axis=0), 0.0, atol=1e-5)


def test_slopes_of_an_energy_that_is_known():
    """Springs from every bead to the origin: F = −k x, whatever the rest."""
    frame = random_conformations(1)[0]

    def springs(positions, graph):
        energies = jax.ops.segment_sum(3.0 * (positions**2).sum(axis=1), graph.replica, len(graph.replica_mask))
        return energies, -6.0 * positions, energies[:, None]

    found, rounding = slopes(jax.jit(springs), frame)
    np.testing.assert_allclose(found, -6.0 * frame.astype(float), atol=rounding)
    assert rounding < 1.0


def test_files_that_are_changed_missing_or_foreign(copy):
    with open(copy / "model.mlir", "a") as file:
        file.write("// a note\n")
    (copy / "model.cuda.stablehlo").unlink()
    (copy / "notes.txt").write_text("x")
    results = verify(copy)
    assert verdicts(results) == {"bundle.files": "fail", "bundle.loads": "fail"}
    assert results[0].value == 3
    for text in (
        "model.mlir: does not match",
        "model.cuda.stablehlo: file of the bundle is missing",
        "notes.txt: is not",
    ):
        assert text in results[0].reason
    assert as_text(results).count("NOT MADE") == 4
    assert "2 of 2 checks failed" in as_text(results)


def test_a_foreign_file_alone_is_told_and_the_rest_is_checked(copy):
    (copy / "notes.txt").write_text("x")
    found = verdicts(verify(copy))
    assert found.pop("bundle.files") == "fail"
    assert set(found.values()) == {"pass"}


def test_a_jax_that_is_too_old(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["module"]["jax"] = "99.0.0"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    results = verify(copy)
    assert verdicts(results) == {"bundle.files": "pass", "bundle.loads": "fail"}
    assert "exported by jax 99.0.0" in results[1].reason


def test_parameters_of_another_model(copy):
    """One percent on the springs of the bonds, and digests that agree with it."""
    params = load_file(copy / "params.safetensors")
    params["prior/bond_r0"] = np.asarray(1.01 * params["prior/bond_r0"], np.float32)
    (copy / "params.safetensors").write_bytes(save(params))
    refresh(copy)
    found = verdicts(verify(copy))
    assert found["bundle.forces"] == found["bundle.energy"] == "fail"
    assert found["bundle.files"] == found["bundle.gradient"] == "pass"


def broken(bundle, change):
    """The checks of a module whose results are changed: (energies, forces, terms) to the same."""

    class Broken(type(bundle)):
        def function(self, positions, graph):
            return change(*super().function(positions, graph))

    return module._run(Broken(**{one.name: getattr(bundle, one.name) for one in dataclasses.fields(bundle)}))


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        # Three percent less force on one bead.
        (lambda e, f, t: (e, f.at[3].multiply(0.97), t), {"bundle.forces", "bundle.gradient"}),
        (lambda e, f, t: (e, f.at[3, 0].set(np.nan), t), {"bundle.finite", "bundle.forces", "bundle.gradient"}),
        (lambda e, f, t: (e.at[5].set(np.inf), f, t), {"bundle.finite", "bundle.energy"}),
        (lambda e, f, t: (e + 0.01, f, t), {"bundle.energy"}),
        (lambda e, f, t: (e, f, 1.05 * t), {"bundle.gradient"}),
    ],
)
def test_each_check_finds_its_fault(prior_bundle, change, failed):
    found = verdicts(broken(load_bundle(prior_bundle), change))
    assert {name for name, verdict in found.items() if verdict != "pass"} == failed


def test_agreement_is_none_for_numbers_that_are_none(prior_bundle):
    bundle = load_bundle(prior_bundle)

    def nothing(positions, graph):
        return tuple(np.nan * part for part in bundle.function(positions, graph))

    found = agreement(nothing, bundle.model, bundle.params, 320.0)
    assert not found.forces <= 1.0
    assert not found.energy <= 1.0
