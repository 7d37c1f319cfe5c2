"""Evaluation and inference of a stored model against the energy function on single frames."""

import json
import shutil
import warnings

import h5py
import jax
import numpy as np
import pytest
from typer.testing import CliRunner

from cgloop.assess import infer as infer_module
from cgloop.assess.evaluate import as_text, evaluate
from cgloop.assess.infer import infer
from cgloop.assess.stored import find_model
from cgloop.cli import app
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader, write_manifest, write_protein
from cgloop.errors import UserError
from cgloop.export.bundle import write_bundle
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces, energy_terms, flatten_params
from cgloop.pipeline import context_of, stage_inputs, up_to
from cgloop.priors.stage import fit_stage
from cgloop.residues import RESIDUES
from cgloop.rundir import RunDirectory, find_params
from cgloop.stages import digest_file
from cgloop.train.stage import train_stage
from tests.export.older import as_schema_1
from tests.report.soundness import embedded
from tests.train.toy_proteins import toy_protein

pytestmark = pytest.mark.slow

MODEL = dict(
    cutoff_A=9.0, max_ell=1, n_layers=1, n_radial=4, embedding=[6], species_embedding=3, mlp=[6], hidden="3x0e+3x1o"
)
NOISE = 0.5


def configure(**train) -> Config:
    return Config.model_validate(
        dict(
            run=dict(name="test", seed=1),
            data=dict(
                sources=[dict(path="none.h5")], temperature_K=300.0,
                split=dict(by="replica", train=[0, 1], validation=[2], test=[3]),
            ),
            priors=dict(min_frames=10, angle_order=3, dihedral_order=2),
            model=MODEL,
            train=dict(epochs=3, batch_size=8, learning_rate=0.02, train_priors=True, **train),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with a data set of two proteins, priors, and a training of both network and prior."""
    cycle = tmp_path_factory.mktemp("run") / "cycle_000"
    for name in ("prep", "priors", "train"):
        (cycle / name).mkdir(parents=True)
    for protein in (toy_protein("toy", "0 7 4 7 0 9", 40, NOISE), toy_protein("tiny", "1 2 3 8", 24, NOISE, 5)):
        write_protein(cycle / "prep" / f"{protein.name}.h5", protein, {"force_noise": NOISE})
    write_manifest(cycle / "prep", ["toy", "tiny"], temperature_K=300.0, mapping="ca", projection="basic")
    manifest = json.loads((cycle / "prep" / "manifest.json").read_text())
    for entry in manifest["proteins"].values():
        entry["force_noise"] = NOISE
    (cycle / "prep" / "manifest.json").write_text(json.dumps(manifest))
    fit_stage(cycle / "prep", configure(), cycle / "priors")
    train_stage(configure(), cycle / "prep", cycle / "priors" / "priors.yaml", cycle / "train")
    return cycle.parent


@pytest.fixture(scope="module")
def single(run):
    """Energies of all terms and forces of every test frame, one at a time."""
    stored = find_model(run)
    function = jax.jit(lambda x, g: (energy_terms(stored.model, stored.params, x, g),
                                     energy_and_forces(stored.model, stored.params, x, g)[1]))  # fmt: skip
    reader, found = DatasetReader.open(run / "cycle_000" / "prep"), {}
    for name in reader.names:
        protein = reader.load(name, "test")
        graphs = [
            build_graph(protein.residue_type, protein.linked, x, 9.0, edge_capacity=60) for x in protein.positions
        ]
        results = [function(x, graph) for x, graph in zip(protein.positions, graphs, strict=True)]
        energies = np.array([sum(float(value[0]) for value in terms.values()) for terms, _ in results])
        found[name] = protein, energies, np.stack([forces for _, forces in results])
    return found


@pytest.fixture(scope="module")
def evaluated(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("forces")
    return out, evaluate(run, out)


def test_the_error_is_that_of_single_frames(single, evaluated):
    _, found = evaluated
    deviations = {name: forces - protein.forces for name, (protein, _, forces) in single.items()}
    for name, one in deviations.items():
        assert found["per_protein"][name]["full"]["rmse"] == pytest.approx(np.sqrt(np.mean(one**2)), rel=1e-5)
    whole = np.concatenate([one.ravel() for one in deviations.values()])
    assert found["modes"]["full"]["rmse"] == pytest.approx(np.sqrt(np.mean(whole**2)), rel=1e-5)


def test_it_says_what_the_training_said(run, evaluated):
    _, found = evaluated
    trained = json.loads((run / "cycle_000" / "train" / "forces.json").read_text())
    assert set(found["modes"]) == {"full", "prior-only", "trained-prior", "ml-only", "zero"} == set(trained["modes"])
    for mode in found["modes"]:
        assert found["modes"][mode]["rmse"] == pytest.approx(trained["modes"][mode]["rmse"], rel=1e-4), mode
    assert found["full_minus_prior"]["value"] == pytest.approx(trained["full_minus_prior"]["value"], rel=1e-3)


def test_the_noise_is_taken_off_what_can_be_explained(evaluated):
    _, found = evaluated
    rmse = {mode: one["rmse"] for mode, one in found["modes"].items()}
    assert found["noise"] == pytest.approx(NOISE)
    expected = (rmse["zero"] ** 2 - rmse["full"] ** 2) / (rmse["zero"] ** 2 - NOISE**2)
    assert found["explained"]["full"] == pytest.approx(expected)
    assert found["explained"]["zero"] == pytest.approx(0.0)


def test_files_and_table(evaluated):
    out, found = evaluated
    assert json.loads((out / "forces.json").read_text())["rmse_full"] == found["rmse_full"]
    page = (out / "forces.html").read_text()
    assert embedded(page).keys() >= {"correlation", "residues", "proteins", "along-toy"}
    assert "Force error along toy" in page
    assert "Force error by protein" in page
    text = as_text(found)
    assert f"{found['rmse_full']:.4f}" in text
    for word in ("tiny", "GLY", "trained-prior", "explained", "noise of the mapped forces: 0.500"):
        assert word in text


def test_a_bundle_needs_to_be_told_the_frames(run, tmp_path):
    stored = find_model(run)
    write_bundle(tmp_path, stored.model, stored.params, temperature_K=300.0)
    with pytest.raises(UserError, match="no data set beside this model.*--dataset"):
        evaluate(tmp_path, tmp_path / "out")
    found = evaluate(tmp_path, tmp_path / "out", dataset=run, split="validation")
    assert found["split"] == "validation"
    # The bundle's prior is its own; what was fitted before is not known.
    assert set(found["modes"]) == {"full", "prior-only", "ml-only", "zero"}


def test_a_bundle_is_assessed_by_its_parameters_whatever_its_module(run, tmp_path):
    stored = find_model(run)
    (tmp_path / "new").mkdir()
    write_bundle(tmp_path / "new", stored.model, stored.params, temperature_K=300.0)
    found = find_model(as_schema_1(tmp_path / "new", tmp_path / "old"))
    assert found.model == stored.model
    flat, expected = flatten_params(found.params), flatten_params(stored.params)
    assert all(np.array_equal(flat[name], np.asarray(array, np.float32)) for name, array in expected.items())
    (tmp_path / "old" / "model.mlir").write_text("x")
    with pytest.raises(UserError, match=r"model\.mlir: does not match its digest"):
        find_model(tmp_path / "old")


@pytest.mark.parametrize(("options", "message"), [
    ({"split": "tset"}, "no such part"), ({"temperature_K": 400.0}, "no frames at 400 K in the part `test`"),
])  # fmt: skip
def test_what_is_not_there(run, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_inferred_energies_and_forces_are_those_of_single_frames(run, single, tmp_path, monkeypatch):
    """In blocks smaller than a protein's frames, hence written piece by piece."""
    monkeypatch.setattr(infer_module, "BLOCK", 4)
    assert infer(run, run, tmp_path / "a.h5", split="test") == {"toy": 10, "tiny": 6}
    with h5py.File(tmp_path / "a.h5") as file:
        for name, (protein, energies, forces) in single.items():
            group = file[name]
            np.testing.assert_allclose(group["energy"], energies, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(group["terms"][:].sum(axis=1), energies, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(group["forces"], forces, atol=2e-4)
            np.testing.assert_array_equal(group["source_frame"], protein.source_frame)
            np.testing.assert_array_equal(group["residue_type"], protein.residue_type)
        assert file.attrs["params_sha256"] == digest_file(find_params(run))


def test_parameters_are_found_in_a_deployed_model(tmp_path):
    (tmp_path / "deploy" / "bundle").mkdir(parents=True)
    file = tmp_path / "deploy" / "bundle" / "params.safetensors"
    file.touch()
    assert find_params(tmp_path / "deploy") == find_params(file.parent) == file


def test_a_trajectory_gives_the_same(run, single, tmp_path):
    import MDAnalysis

    protein, energies, forces = single["toy"]
    n = protein.n_beads
    universe = MDAnalysis.Universe.empty(n, n_residues=n, atom_resindex=np.arange(n), trajectory=True)
    universe.add_TopologyAttr("names", ["CA"] * n)
    universe.add_TopologyAttr("resnames", [RESIDUES[kind].name for kind in protein.residue_type])
    universe.add_TopologyAttr("resids", np.arange(1, n + 1))
    universe.atoms.positions = protein.native
    with warnings.catch_warnings():
        # Of all that a topology of beads alone does not have.
        warnings.simplefilter("ignore")
        universe.atoms.write(str(tmp_path / "toy.pdb"))
        with MDAnalysis.Writer(str(tmp_path / "toy.dcd"), n) as writer:
            for positions in protein.positions:
                universe.atoms.positions = positions
                writer.write(universe.atoms)
    counts = infer(run, tmp_path / "toy.dcd", tmp_path / "a.h5", topology=tmp_path / "toy.pdb")
    assert counts == {"toy": len(energies)}
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file["toy/energy"], energies, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(file["toy/forces"], forces, atol=2e-4)
        assert "temperature" not in file["toy"]
    # Wrapped into a box, bead by bead, the energies are the same.
    box = np.ptp(protein.positions, axis=(0, 1)) + 12.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe.dimensions = [*box, 90.0, 90.0, 90.0]
        with MDAnalysis.Writer(str(tmp_path / "cut.dcd"), n) as writer:
            for positions in protein.positions:
                universe.atoms.positions = (positions + 0.4 * box) % box
                writer.write(universe.atoms)
    infer(run, tmp_path / "cut.dcd", tmp_path / "c.h5", topology=tmp_path / "toy.pdb")
    with h5py.File(tmp_path / "c.h5") as file:
        np.testing.assert_allclose(file["cut/energy"], energies, rtol=1e-4, atol=1e-3)
    with pytest.raises(UserError, match="needs its topology"):
        infer(run, tmp_path / "toy.dcd", tmp_path / "b.h5")
    with pytest.raises(UserError, match="MDAnalysis cannot read it"):
        infer(run, tmp_path / "toy.dcd", tmp_path / "b.h5", topology=tmp_path / "a.h5")
    assert not (tmp_path / "b.h5").exists()


def test_commands(run, tmp_path):
    call = CliRunner().invoke
    done = call(app, ["evaluate", str(run), "--out", str(tmp_path / "forces")])
    assert done.exit_code == 0, done.output
    assert "RMSE by residue" in done.output
    done = call(app, ["infer", str(run), str(run), "--out", str(tmp_path / "a.h5"), "--split", "test"])
    assert "tiny 6 frames, toy 10 frames" in done.output
    for arguments, message in (
        (["resume", str(tmp_path)], "not a run directory"),
        (["finetune", str(run), str(tmp_path)], "no trained parameters here"),
        (["evaluate", str(tmp_path)], "no trained parameters here"),
    ):
        done = call(app, arguments)
        assert isinstance(done.exception, UserError)
        assert message in str(done.exception)


def test_fine_tuning_starts_from_what_was_named(run, tmp_path):
    """The first cycle starts there; the digest of the parameters decides whether the stage is up to date."""
    copied = tmp_path / "cycle_000"
    for name in ("prep", "priors"):
        shutil.copytree(run / "cycle_000" / name, copied / name)
        (copied / name / "stage.json").write_text(
            json.dumps(dict.fromkeys(
                ("stage", "inputs", "inputs_digest", "result_digest", "outputs", "versions", "seed", "started",
                 "finished", "seconds"), ""))
        )  # fmt: skip
    train = up_to("train", configure())[-1]
    plain = stage_inputs(context_of(configure(), RunDirectory(tmp_path), 0), train)
    context = context_of(configure(start=run), RunDirectory(tmp_path), 0)
    params = run / "cycle_000" / "train" / "params.safetensors"
    assert context.previous_params == params
    assert stage_inputs(context, train) == {**plain, "start": {"digest": digest_file(params)}}
