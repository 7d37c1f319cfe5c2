"""The stage on the shipped reference: parameters, files, and VALIDATION's static sanity."""

import json
import multiprocessing
import tracemalloc
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import pytest
from synthetic_chains import protein_of, random_chain

from cgloop.config import Config
from cgloop.data.dataset import DatasetReader, write_manifest, write_protein
from cgloop.errors import UserError
from cgloop.prep.pipeline import prepare
from cgloop.priors import stage
from cgloop.priors.inversion import fit_priors
from cgloop.priors.stage import fit_stage
from cgloop.priors.tables import read_priors


def config_of(example_h5, **sections):
    data = {
        "sources": [{"path": example_h5}],
        "temperature_K": 320,
        "split": {"by": "replica", "train": [0, 1], "validation": [2], "test": [3]},
    }
    return Config.model_validate({"run": {"name": "test"}, "data": data, **sections})


@pytest.fixture(scope="module")
def dataset(example_h5, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    prepare(config_of(example_h5).data, folder)
    return folder


@pytest.fixture(scope="module")
def fitted(example_h5, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("priors")
    return fit_stage(dataset, config_of(example_h5), out), out


def test_parameters_of_the_example(fitted, dataset):
    prior, out = fitted
    for one, other in zip(prior, read_priors(out / "priors.yaml"), strict=True):
        np.testing.assert_array_equal(one, other)
    train = DatasetReader.open(dataset).load("cln025", "train", 320.0)
    bonds = np.linalg.norm(np.diff(train.positions.astype(float), axis=1), axis=2)
    assert prior.bond_r0 == pytest.approx(bonds.mean(), abs=0.003)
    assert prior.bond_k == pytest.approx(0.0019872067 * 320 / bonds.var(), rel=0.002)
    assert train.n_frames == 1000


def test_only_training_frames_count(fitted, dataset, example_h5):
    prior, _ = fitted
    train = DatasetReader.open(dataset).load("cln025", "train", 320.0)
    config = config_of(example_h5)
    again = fit_priors([train], config.priors, 320.0, config.model.cutoff_A)
    for one, other in zip(prior, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_static_sanity(fitted):
    _, out = fitted
    sanity = json.loads((out / "curves.json").read_text())["sanity"]
    assert sanity["angle_amplitude_kT"] <= sanity["angle_reference_range_kT"] + 3.01
    assert sanity["angle_turns_down_outside"] is False
    assert min(sanity["repulsion_at_3_A_kT"]) >= 3


def test_curves(fitted):
    _, out = fitted
    terms = json.loads((out / "curves.json").read_text())["terms"]
    assert [term["term"] for term in terms] == ["bond", "angle", "dihedral", *["repulsion"] * 3]
    for term in terms:
        grid = np.array(term["grid"])
        step = grid[1] - grid[0]
        assert len(term["fitted"]) == len(term["density"]) == len(grid)
        if term["term"] != "repulsion":
            assert sum(term["density"]) * step == pytest.approx(1, abs=0.01)
            assert sum(term["implied_density"]) * step == pytest.approx(1, abs=0.01)
            # Where there are data the fitted potential follows the reference's.
            reference = np.array([np.nan if value is None else value for value in term["reference"]])
            known = np.isfinite(reference)
            weight = np.array(term["density"])[known]
            apart = (np.array(term["fitted"]) - reference)[known]
            apart -= np.average(apart, weights=weight)
            assert np.sqrt(np.average(apart**2, weights=weight)) < 0.35
    assert (out / "curves.json").stat().st_size < 200_000


def test_same_input_same_bytes(fitted, dataset, example_h5, tmp_path):
    fit_stage(dataset, config_of(example_h5), tmp_path)
    for name in ("priors.yaml", "curves.json", "summary.json"):
        assert (tmp_path / name).read_bytes() == (fitted[1] / name).read_bytes()


def test_summary_tells_what_the_prior_explains(fitted, dataset):
    """Recomputed with the plain mean of squared deviations over all validation frames."""
    _, out = fitted
    summary = json.loads((out / "summary.json").read_text())
    assert summary["temperatures_K"] == {"320": 1000}
    row = summary["splits"]["validation"]
    protein = DatasetReader.open(dataset).load("cln025", "validation", 320.0)
    assert row["frames"] == protein.n_frames
    assert row["rms_force"] == pytest.approx(np.sqrt(np.mean(protein.forces.astype(float) ** 2)))
    share = row["inverted"]
    assert share["explained"] == pytest.approx(1 - (share["rmse"] / row["rms_force"]) ** 2)
    assert 0 < share["explained"] < 1
    if summary["force_noise"] is not None:
        assert share["explained"] < share["explained_of_explainable"] < 1.1


@pytest.mark.slow
def test_refinement_of_the_example_does_not_make_held_out_forces_worse(dataset, example_h5, tmp_path):
    priors = {"refine": {"enabled": True, "starts": 1, "max_steps": 20, "frames": 200}, "temperatures": "mixed"}
    fit_stage(dataset, config_of(example_h5, priors=priors), tmp_path)
    row = json.loads((tmp_path / "summary.json").read_text())["splits"]["validation"]
    assert row["refined"]["rmse"] < 1.01 * row["inverted"]["rmse"]


def test_too_few_frames(dataset, example_h5, tmp_path):
    with pytest.raises(UserError, match="1000 training frames at 320 K, the priors need 5000"):
        fit_stage(dataset, config_of(example_h5, priors={"min_frames": 5000}), tmp_path)


@pytest.mark.parametrize("n_beads", [1, 2, 3, 4])
def test_the_smallest_proteins(example_h5, tmp_path, n_beads):
    """No bonds, no angles, no dihedrals: the files are written and say so."""
    protein = protein_of(random_chain(n_beads, 120))
    write_protein(tmp_path / "prot.h5", protein, {})
    write_manifest(tmp_path, ["prot"], temperature_K=320, mapping="ca", projection="basic")
    prior = fit_stage(tmp_path, config_of(example_h5), tmp_path)
    terms = {term["term"]: term for term in json.loads((tmp_path / "curves.json").read_text())["terms"]}
    text = (tmp_path / "priors.yaml").read_text()
    for name, beads_needed, values in (
        ("bond", 2, prior.bond_k),
        ("angle", 3, prior.angle_coeffs),
        ("dihedral", 4, prior.dihedral_cos),
    ):
        there = n_beads >= beads_needed
        assert bool(np.any(values)) == there
        assert (terms[name]["samples"] > 0) == there
        assert (f"no {name}s in the reference" in text) == (not there)
        assert np.isfinite(terms[name]["fitted"]).all()


def peaks_of_fits(folder, config, counts):
    """For fits to so many proteins: the largest traced memory, and the size of all their frames, bytes.

    Runs in a process of its own, without a cache of compiled programs: what other tests left in theirs, and writing to
    the cache, takes memory, too. What the manifest says of a protein takes 5 kB: frames are to weigh more than that.
    """
    jax.config.update("jax_compilation_cache_dir", None)
    stage.HELD_OUT_FRAMES = 100
    positions = random_chain(40, 200)
    peaks = []
    for n_proteins in counts:
        prepared, out = folder / f"data{n_proteins}", folder / f"out{n_proteins}"
        prepared.mkdir(parents=True)
        out.mkdir()
        names = [f"p{i:03d}" for i in range(n_proteins)]
        for name in names:
            write_protein(prepared / f"{name}.h5", protein_of(positions), {})
        write_manifest(prepared, names, temperature_K=320, mapping="ca", projection="basic")
        tracemalloc.start()
        fit_stage(prepared, config, out)
        peaks.append((tracemalloc.get_traced_memory()[1], n_proteins * 2 * positions.size * 4))
        tracemalloc.stop()
    return peaks


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_proteins(tmp_path, example_h5):
    config = config_of(example_h5, priors={"temperatures": "mixed", "min_frames": 10})
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
        # The first fit compiles.
        _, (few, few_bytes), (many, many_bytes) = other.submit(peaks_of_fits, tmp_path, config, (3, 30, 300)).result()
    assert many - few < 0.05 * (many_bytes - few_bytes), f"{few / 1e6:.1f} MB for 30, {many / 1e6:.1f} MB for 300"
