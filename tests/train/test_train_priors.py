"""A prior that is trained: better on its own, inside its bounds, continued to the bit, and what is exported."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from cgloop import interrupt
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader, write_manifest, write_protein
from cgloop.errors import Interrupted, UserError
from cgloop.export.bundle import read_trained
from cgloop.export.stage import export_stage
from cgloop.priors.bonded import angle_limits
from cgloop.priors.bounded import BOUNDS
from cgloop.priors.stage import fit_stage
from cgloop.priors.tables import read_priors
from cgloop.stages import digest_file
from cgloop.train.prior_space import PriorSpace
from cgloop.train.stage import train_stage
from cgloop.train.task import prepare_task
from cgloop.units import thermal_energy

MODEL = dict(
    cutoff_A=9.0, max_ell=1, n_layers=1, n_radial=4, embedding=[6], species_embedding=3, mlp=[6], hidden="3x0e+3x1o"
)


def configure(energy="prior-only", **train) -> Config:
    settings = dict(epochs=6, batch_size=8, learning_rate=0.03, train_priors=True, checkpoint_every_s=60)
    return Config.model_validate(
        dict(
            run=dict(name="test", seed=1),
            data=dict(
                sources=[dict(path="none.h5")], temperature_K=300.0,
                split=dict(by="replica", train=[0, 1], validation=[2], test=[3]),
            ),
            priors=dict(min_frames=10, angle_order=3, dihedral_order=2),
            model={**MODEL, "energy": energy},
            train={**settings, **train},
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs(make_protein, tmp_path_factory):
    """A data set, and priors that were fitted to it."""
    folder = tmp_path_factory.mktemp("world")
    write_protein(folder / "toy.h5", make_protein("toy", "0 7 4 7 0 9", frames=80, noise=0.5), {})
    write_manifest(folder, ["toy"], temperature_K=300.0, mapping="ca", projection="basic")
    (folder / "priors").mkdir()
    fit_stage(folder, configure(), folder / "priors")
    return folder, folder / "priors" / "priors.yaml"


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("train")
    return out, train_stage(configure(), *inputs, out)


def test_the_trained_prior_explains_more_and_stays_inside(inputs, done):
    out, summary = done
    assert summary["prior"] == "trained"
    # 20 kcal/mol/Å² were put into the bonds; the inversion of positions that are not thermal found something else.
    assert summary["rmse_full"] < 0.9 * summary["rmse_prior"]
    forces = json.loads((out / "forces.json").read_text())
    assert forces["modes"]["trained-prior"] == pytest.approx(forces["modes"]["full"], rel=1e-5)
    fitted, trained = read_priors(inputs[1]), read_priors(out / "priors.yaml")
    for name, (low, high) in BOUNDS.items():
        if name != "electrostatics":
            factor = getattr(trained, name) / getattr(fitted, name)
            assert (factor >= low * (1 - 1e-5)).all()
            assert (factor <= high * (1 + 1e-5)).all()
    assert not np.allclose(trained.bond_k, fitted.bond_k, rtol=1e-3)


def test_angles_still_confine(inputs, done):
    config = configure()
    prior = read_priors(done[0] / "priors.yaml")
    space = PriorSpace.of(DatasetReader.open(inputs[0]), config, read_trained(done[0])[0].forms, read_priors(inputs[1]))
    rows, bounds = angle_limits(space.fit.samples.angles, "fourier", 3, thermal_energy(300.0), ceiling=False)
    assert (rows @ prior.angle_coeffs >= bounds - 1e-3).all()
    # And what does not confine is brought back.
    wild = {**space.start, "angle_coeffs": jnp.asarray([0.0, 0.0, -30.0, 0.0])}
    assert (rows @ np.asarray(space.params(wild).angle_coeffs) < bounds - 1.0).any()
    assert (rows @ np.asarray(space.params(space.finish(wild)).angle_coeffs) >= bounds - 1e-3).all()


def test_it_is_what_is_exported(inputs, done, tmp_path):
    _, params = read_trained(done[0])
    for one, other in zip(params["prior"], read_priors(done[0] / "priors.yaml"), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    export_stage(configure(), inputs[0], done[0], inputs[1], tmp_path)
    assert digest_file(tmp_path / "priors.yaml") == digest_file(done[0] / "priors.yaml") != digest_file(inputs[1])


@pytest.mark.slow
def test_with_the_network_and_in_two_phases_a_stop_is_continued_to_the_bit(inputs, tmp_path, monkeypatch):
    config = configure("hybrid", epochs=2, gammas={"network": 0.1}, fine_tuning={"epochs": 2, "learning_rate": 0.01})
    for name in ("straight", "stopped"):
        (tmp_path / name).mkdir()
    train_stage(config, *inputs, tmp_path / "straight")
    counted = [0]

    class Stopping(type(prepare_task(config, *inputs))):
        def make_trainer(self, **phase):
            def count(step):
                counted[0] += 1
                if counted[0] == 14:
                    interrupt.request_stop("test")

            trainer = super().make_trainer(**phase)
            trainer.on_step = count
            return trainer

    def prepare(*arguments):
        task = prepare_task(*arguments)
        return Stopping(**task.__dict__)

    monkeypatch.setattr("cgloop.train.stage.prepare_task", prepare)
    with pytest.raises(Interrupted):
        train_stage(config, *inputs, tmp_path / "stopped")
    interrupt.clear_stop()
    train_stage(config, *inputs, tmp_path / "stopped")
    for name in ("params.safetensors", "history.json", "forces.json", "priors.yaml"):
        assert digest_file(tmp_path / "straight" / name) == digest_file(tmp_path / "stopped" / name), name
    forces = json.loads((tmp_path / "straight" / "forces.json").read_text())
    assert set(forces["modes"]) == {"full", "prior-only", "zero", "trained-prior", "ml-only"}


def test_an_earlier_prior_is_where_the_next_training_starts(inputs, done):
    task = prepare_task(configure(), *inputs, done[0] / "params.safetensors")
    np.testing.assert_allclose(
        task.space.params(task.trained["prior"]).bond_k, read_priors(done[0] / "priors.yaml").bond_k, rtol=1e-5
    )


@pytest.mark.parametrize(("energy", "train", "message"), [
    ("ml-only", {}, "there is no prior"),
    ("hybrid", {"groups": [{"match": "prior/angles"}]}, "`prior/angles` matches no parameter"),
])  # fmt: skip
def test_what_cannot_be_trained_is_refused(inputs, tmp_path, energy, train, message):
    with pytest.raises(UserError, match=message):
        train_stage(configure(energy, **train), *inputs, tmp_path)


def test_noise_would_soften_the_bonds():
    with pytest.raises(ValueError, match="noise would soften the bonds"):
        configure(position_noise_A=0.1)
