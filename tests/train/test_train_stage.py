"""The stage as the loop calls it: files, determinism, kill and continue, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest

from cgloop import interrupt
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader, write_manifest, write_protein
from cgloop.errors import Interrupted, UserError
from cgloop.export.bundle import read_trained
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.networks import name_of
from cgloop.model.terms import zero_prior
from cgloop.priors.tables import Origin, write_priors
from cgloop.stages import NOT_RESULTS, digest_files
from cgloop.train.stage import train_stage

MODEL = dict(
    cutoff_A=9.0, max_ell=1, n_layers=1, n_radial=4, embedding=[6], species_embedding=3, mlp=[6], hidden="3x0e+3x1o"
)
TRAIN = dict(epochs=3, batch_size=8, learning_rate=0.01, checkpoint_every_s=60, eval_batch_size=16)


def configure(model=None, train=None, seed=1, temperature_K=300.0) -> Config:
    split = dict(by="replica", train=[0, 1], validation=[2], test=[3])
    return Config.model_validate(
        dict(
            run=dict(name="test", seed=seed),
            data=dict(sources=[dict(path="none.h5")], temperature_K=temperature_K, split=split),
            model={**MODEL, **(model or {})},
            train={**TRAIN, **(train or {})},
        )
    )


@pytest.fixture(scope="module")
def inputs(make_protein, tmp_path_factory) -> tuple[Path, Path]:
    """A data set of two proteins, and priors."""
    folder = tmp_path_factory.mktemp("dataset")
    proteins = [
        make_protein("toy", "0 7 4 7 0 9", frames=40, noise=0.5),
        make_protein("tiny", "1 2 3", frames=24, seed=5, noise=0.5),
    ]
    for protein in proteins:
        write_protein(folder / f"{protein.name}.h5", protein, {"mapping": "ca", "projection": "basic"})
    names = [p.name for p in proteins]
    write_manifest(folder, names, temperature_K=300.0, mapping="ca", projection="basic")
    prior = zero_prior()._replace(
        bond_k=np.float64(18.0),
        bond_r0=np.float64(3.8),
        repulsion_epsilon=np.full(3, 1.0),
        repulsion_r_min=np.full(3, 4.0),
    )
    counts = {"bonds": 1, "cis": 0, "angles": 1, "dihedrals": 1}
    write_priors(folder / "priors.yaml", prior, Origin(300.0, dict.fromkeys(names, 1), counts, ("default",) * 3))
    return folder, folder / "priors.yaml"


def results(folder: Path) -> dict[str, str]:
    """Digests of what must be reproducible."""
    files = digest_files(folder).items()
    return {name: digest for name, digest in files if not any(Path(name).match(one) for one in NOT_RESULTS)}


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):
    """A finished stage."""
    out = tmp_path_factory.mktemp("train")
    return out, train_stage(configure(), *inputs, out)


def test_files(done):
    out, summary = done
    files = {p.name for p in out.iterdir()}
    assert files == {
        "params.safetensors", "model.json", "history.json", "forces.json", "force_errors.npz", "summary.json",
        "timing.json", "metrics.jsonl", "tensorboard",
    }  # fmt: skip
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["frames"] == {"train": 32, "validation": 16, "test": 16}
    assert summary["trained_types"] == ["ALA", "ARG", "ASN", "ASP", "CYS", "GLY", "ILE"]
    history = json.loads((out / "history.json").read_text())
    assert history["columns"]["epoch"] == [1, 2, 3]
    assert set(history["columns"]) == set(history["units"])
    timing = json.loads((out / "timing.json").read_text())
    assert timing["compile_s"] > 0
    assert timing["frames_per_s"] > 0
    forces = json.loads((out / "forces.json").read_text())
    assert forces["split"] == "test"
    assert forces["n_frames"] == 16
    assert forces["rmse_prior"] < forces["rmse_zero"]


def test_the_figures_are_those_of_the_model_that_is_kept(done, inputs):
    """forces.json, computed by delta learning in batches, against the whole model on single frames."""
    out, _ = done
    model, params = read_trained(out)
    reader = DatasetReader.open(inputs[0])
    function = jax.jit(lambda positions, graph: energy_and_forces(model, params, positions, graph)[1])
    squares = []
    for name in reader.names:
        protein = reader.load(name, "test")
        for positions, reference in zip(protein.positions, protein.forces, strict=True):
            graph = build_graph(protein.residue_type, protein.linked, positions, model.cutoff_A, edge_capacity=30)
            squares.append(((np.asarray(function(positions, graph)) - reference) ** 2).ravel())
    expected = np.sqrt(np.concatenate(squares).mean())
    forces = json.loads((out / "forces.json").read_text())
    assert forces["rmse_full"] == pytest.approx(expected, rel=1e-5)
    with np.load(out / "force_errors.npz", allow_pickle=False) as errors:
        assert errors["names"].tolist() == reader.names
        assert np.bincount(errors["protein"]).tolist() == list(forces["frames_per_protein"].values())
        assert errors["model"] == pytest.approx([one.sum() for one in squares], rel=1e-4), "frame by frame, in order"
        for mode, total in (("model", "rmse_full"), ("prior", "rmse_prior")):
            rmse = np.sqrt(errors[mode].sum() / errors["components"].sum())
            assert rmse == pytest.approx(forces[total], rel=1e-6)


def test_same_inputs_same_bytes_and_another_seed_others(done, inputs, tmp_path):
    train_stage(configure(), *inputs, tmp_path)
    assert results(tmp_path) == results(done[0])
    (tmp_path / "other").mkdir()
    train_stage(configure(seed=2), *inputs, tmp_path / "other")
    assert results(tmp_path / "other")["params.safetensors"] != results(done[0])["params.safetensors"]


def test_an_interrupted_stage_goes_on_to_the_same_end(done, inputs, tmp_path):
    interrupt.request_stop("test")
    with pytest.raises(Interrupted):
        train_stage(configure(), *inputs, tmp_path)
    interrupt.clear_stop()
    train_stage(configure(), *inputs, tmp_path)
    assert results(tmp_path) == results(done[0])


SCRIPT = """
import sys
from pathlib import Path
from cgloop.config import Config
from cgloop.train.stage import train_stage
config = Config.model_validate_json(sys.argv[1])
train_stage(config, Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
"""


@pytest.mark.slow
def test_killed_anywhere_it_goes_on_to_the_same_end(inputs, tmp_path, repository):
    config = configure(train=dict(epochs=40, patience_epochs=40, checkpoint_every_s=0))
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    killed.mkdir()
    train_stage(config, *inputs, straight)
    command = [sys.executable, "-c", SCRIPT, config.model_dump_json(by_alias=True), *map(str, inputs), str(killed)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    for wanted in (1, 30, 101):
        process = subprocess.Popen(command, env=environment)
        deadline = time.monotonic() + 120
        while not _newest(killed) >= wanted:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "params.safetensors").exists()
    subprocess.run(command, env=environment, check=True)
    assert results(killed) == results(straight)


def test_settings_of_jax_in_the_environment_change_no_number(inputs, done, repository, tmp_path):
    """They are no part of the digests: without the pins, the parameters of this training come out as others."""
    out = tmp_path / "train"
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    environment |= {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    command = [sys.executable, "-c", SCRIPT, configure().model_dump_json(by_alias=True), *map(str, inputs), str(out)]
    subprocess.run(command, env=environment, check=True)
    assert results(out) == results(done[0])


def _newest(folder: Path) -> int:
    return max(
        (int(p.stem.split("_")[1]) for p in (folder / "checkpoints").glob("checkpoint_*.safetensors")), default=0
    )


def test_prior_only_trains_nothing_and_writes_everything(inputs, done, tmp_path):
    summary = train_stage(configure(dict(energy="prior-only")), *inputs, tmp_path)
    assert summary["epochs"] == 0
    assert summary["stopped"] == "nothing to train"
    assert summary["rmse_full"] == summary["rmse_prior"]
    assert summary["rmse_prior"] == pytest.approx(done[1]["rmse_prior"])
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in done[0].iterdir()} - {
        "metrics.jsonl",
        "tensorboard",
    }
    model, params = read_trained(tmp_path)
    assert model.spec is None
    assert params["ml"] == {}


def test_ml_only_learns_the_whole_force(inputs, done, tmp_path):
    summary = train_stage(configure(dict(energy="ml-only"), dict(epochs=30)), *inputs, tmp_path)
    assert summary["rmse_prior"] == pytest.approx(done[1]["rmse_prior"])
    assert summary["rmse_full"] < 0.8 * summary["rmse_zero"]


@pytest.mark.slow
def test_trains_another_network(inputs, done, tmp_path):
    """PaiNN, of which nothing in the trainer knows."""
    painn = dict(network="painn", cutoff_A=9.0, n_layers=1, features=4, n_radial=4)
    config = configure(train=dict(epochs=12, learning_rate=0.03)).model_dump(by_alias=True) | {"model": painn}
    summary = train_stage(Config.model_validate(config), *inputs, tmp_path)
    assert summary["rmse_full"] < 0.95 * summary["rmse_prior"]
    assert summary["trained_types"] == done[1]["trained_types"]
    model, params = read_trained(tmp_path)
    assert model.spec is not None
    assert name_of(model.spec) == "painn"
    assert params["ml"]["species"].shape == (20, 4)
    with pytest.raises(UserError, match="another model"):
        train_stage(configure(), *inputs, tmp_path, init_params=tmp_path / "params.safetensors")


def test_starts_from_earlier_parameters(inputs, done, tmp_path):
    earlier = json.loads((done[0] / "history.json").read_text())
    summary = train_stage(
        configure(train=dict(learning_rate=1e-9)), *inputs, tmp_path, init_params=done[0] / "params.safetensors"
    )
    history = json.loads((tmp_path / "history.json").read_text())
    best = min(earlier["columns"]["validation_loss"])
    assert history["initial_validation_loss"] == pytest.approx(best, rel=1e-6)
    assert summary["rmse_full"] == pytest.approx(done[1]["rmse_full"], rel=1e-4)


def test_parameters_of_another_model_are_refused(inputs, done, tmp_path):
    other = configure(dict(mlp=[7]))
    with pytest.raises(UserError, match="another model"):
        train_stage(other, *inputs, tmp_path, init_params=done[0] / "params.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        train_stage(other, *inputs, tmp_path, init_params=inputs[1])


def test_a_temperature_without_frames_is_refused(inputs, tmp_path):
    with pytest.raises(UserError, match="no training frames with forces at 350 K"):
        train_stage(configure(temperature_K=350.0), *inputs, tmp_path)


def test_without_test_frames_validation_is_judged_and_it_says_so(inputs, make_protein, tmp_path):
    protein = make_protein("toy", "0 7 4 7 0 9", frames=40).select()
    protein.split[protein.split == 2] = 3
    write_protein(tmp_path / "toy.h5", protein, {})
    write_manifest(tmp_path, ["toy"], temperature_K=300.0, mapping="ca", projection="basic")
    (tmp_path / "out").mkdir()
    summary = train_stage(configure(dict(energy="prior-only")), tmp_path, inputs[1], tmp_path / "out")
    assert summary["split"] == "validation"
    assert summary["frames"]["test"] == 0


def test_frames_that_are_not_finite_are_named(inputs, make_protein, tmp_path):
    write_protein(tmp_path / "toy.h5", make_protein("toy", frames=40), {})
    with h5py.File(tmp_path / "toy.h5", "a") as file:
        file["forces"][13, 2, 1] = np.nan
    write_manifest(tmp_path, ["toy"], temperature_K=300.0, mapping="ca", projection="basic")
    with pytest.raises(UserError, match=r"toy\.h5: frame 13 of replica 1 is not finite"):
        train_stage(configure(), tmp_path, inputs[1], tmp_path)
