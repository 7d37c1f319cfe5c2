"""The other engine: the same gradient, the same training, and one clear message where it cannot."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pydantic import ValidationError
from test_train_stage import configure, inputs, results  # noqa: F401

from cgloop import interrupt
from cgloop.config.train import TrainConfig
from cgloop.errors import Interrupted, UserError
from cgloop.export.stage import export_stage
from cgloop.model.allegro import AllegroSpec
from cgloop.model.hybrid import Model, energy, init_params, ml_forces
from cgloop.train.chemtrain_engine import ChemtrainStep, stacked_frames
from cgloop.train.loader import FrameSet
from cgloop.train.stage import train_stage
from cgloop.train.step import Objective, global_norm, initial_state

MODEL = Model(
    AllegroSpec(
        cutoff_A=9.0, max_ell=1, n_layers=1, n_radial=4, embedding=(6,), species_embedding=3, mlp=(6,),
        hidden="3x0e+3x1o", energy_scale=5.0,
    ),
    "ml-only", 9.0,
)  # fmt: skip


def columns(folder):
    return json.loads((folder / "history.json").read_text())["columns"]


def keeps_the_gradient() -> optax.GradientTransformationExtraArgs:
    """An optimiser whose state is the last gradient."""
    nothing = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
    keep = optax.GradientTransformation(nothing, lambda gradient, state, params=None: (nothing(gradient), gradient))
    return optax.with_extra_args_support(keep)


def test_the_gradient_of_a_batch_is_the_same(make_protein, tmp_path):
    """Frames of different length and weight, and fewer than fill the batch."""
    frames = FrameSet([make_protein("toy", "0 7 4 7 0 9"), make_protein("tiny", "1 2 3", seed=5)], MODEL.cutoff_A)
    frames.set_weights({"tiny": 3.0}, {})
    chosen, scale = np.array([3, 50, 17, 61]), 2.0
    params = init_params(MODEL, None, jax.random.key(0))["ml"]
    params = {**params, "readout": 20.0 * params["readout"]}

    def whole(function):
        return lambda params, positions, graph: function(MODEL, {"prior": None, "ml": params}, positions, graph)

    objective = Objective(whole(ml_forces), scale)
    batch = frames.batch(chosen, frames.shape(len(chosen)))
    _, ours, sums = jax.jit(objective.gradient)(params, batch)

    (bucket,) = frames.buckets(6)
    step = ChemtrainStep(whole(energy), keeps_the_gradient(), TrainConfig(), scale, tmp_path)
    state, result = step(initial_state(params, keeps_the_gradient()), stacked_frames(frames, chosen, bucket))
    theirs = state.opt_state
    size = global_norm(ours)
    assert size > 0.1
    assert global_norm(jax.tree.map(np.subtract, theirs, ours)) < 1e-5 * size
    for own, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(other, own, atol=1e-5 * float(np.abs(own).max()))
    assert result.gradient_norm == pytest.approx(float(size), rel=1e-5)
    np.testing.assert_allclose(np.array(result.sums), np.array(sums), rtol=1e-5)


def test_what_it_met_and_only_printed_is_raised(make_protein, tmp_path):
    def broken(params, positions, graph):
        raise RuntimeError("out of memory, say")

    frames = FrameSet([make_protein()], MODEL.cutoff_A)
    (bucket,) = frames.buckets(2)
    step = ChemtrainStep(broken, optax.with_extra_args_support(optax.sgd(1.0)), TrainConfig(), 1.0, tmp_path)
    state = initial_state({"a": np.ones(2)}, optax.sgd(1.0))
    with pytest.raises(RuntimeError, match="chemtrain: .*out of memory, say"):
        step(state, stacked_frames(frames, np.arange(2), bucket))


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):  # noqa: F811
    out = tmp_path_factory.mktemp("chemtrain")
    return out, train_stage(configure(train=dict(engine="chemtrain")), *inputs, out)


def test_a_stage_with_it_learns_and_exports(done, inputs, tmp_path):  # noqa: F811
    out, summary = done
    assert {path.name for path in out.iterdir()} == {
        "params.safetensors", "model.json", "history.json", "forces.json", "force_errors.npz", "summary.json",
        "timing.json", "metrics.jsonl", "tensorboard",
    }  # fmt: skip
    history = json.loads((out / "history.json").read_text())
    losses = history["columns"]["validation_loss"]
    assert losses[-1] < losses[0] < history["initial_validation_loss"]
    assert summary["best_epoch"] == 3
    manifest = export_stage(configure(), inputs[0], out, inputs[1], tmp_path)
    assert (tmp_path / "model.cpu.stablehlo").stat().st_size > 1000
    assert manifest["training"]["rmse_full"] == summary["rmse_full"] < summary["rmse_prior"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        {},
        dict(normalize="protein", protein_weights={"toy": 2.0}, position_noise_A=0.05, batch_size=5,
             optimizer="schedule-free", schedule="constant", gammas={"force": 3.0}),
        dict(length_buckets=2, batch_beads=20, keep_best=2, ensemble={"members": 2},
             groups=[{"match": "ml/species", "learning_rate_factor": 0.1}],
             fine_tuning={"optimizer": "lion", "learning_rate": 1e-3, "epochs": 2}),
    ],
    ids=["plain", "weights and noise", "buckets, phases, members"],
)  # fmt: skip
def test_the_whole_training_is_that_of_the_own_engine(inputs, tmp_path, more):  # noqa: F811
    for engine in ("cgloop", "chemtrain"):
        (tmp_path / engine).mkdir()
        train_stage(configure(train=dict(engine=engine, **more)), *inputs, tmp_path / engine)
    ours, theirs = columns(tmp_path / "cgloop"), columns(tmp_path / "chemtrain")
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-4, err_msg=name)
    assert {p.name for p in (tmp_path / "cgloop").rglob("*.safetensors")} == {
        p.name for p in (tmp_path / "chemtrain").rglob("*.safetensors")
    }


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_end(done, inputs, tmp_path, monkeypatch):  # noqa: F811
    """Stopped in the middle of the second epoch."""
    called = []
    original = ChemtrainStep.__call__

    def counted(self, state, batch):
        called.append(1)
        if len(called) == 7:
            interrupt.request_stop("test")
        return original(self, state, batch)

    monkeypatch.setattr(ChemtrainStep, "__call__", counted)
    config = configure(train=dict(engine="chemtrain"))
    with pytest.raises(Interrupted):
        train_stage(config, *inputs, tmp_path)
    interrupt.clear_stop()
    train_stage(config, *inputs, tmp_path)
    assert results(tmp_path) == results(done[0])


@pytest.mark.parametrize(
    ("more", "key"),
    [
        (dict(train_priors=True), "train_priors"),
        (dict(huber_delta=5.0), "huber_delta"),
        (dict(frames_at_once=4), "frames_at_once"),
        (dict(gammas={"network": 0.1}), "gammas.network"),
        (dict(ensemble={"members": 2, "kind": "bootstrap"}), "ensemble.kind: bootstrap"),
        (dict(fine_tuning={"optimizer": "polyak-sgd"}), "optimizer: polyak-sgd"),
    ],
)
def test_what_it_cannot_do_is_refused_by_the_config(more, key):
    with pytest.raises(ValidationError, match=f"`engine: chemtrain` cannot do `{key}`; `engine: cgloop` can"):
        TrainConfig(engine="chemtrain", **more)
    assert TrainConfig(**more).engine == "cgloop"


def test_without_the_package_it_says_how_to_install_it(inputs, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "chemtrain", None)
    monkeypatch.delitem(sys.modules, "chemtrain.trainers", raising=False)
    with pytest.raises(UserError, match=r"cannot be imported.*pip install --no-deps -r requirements/chemtrain\.txt"):
        train_stage(configure(train=dict(engine="chemtrain")), *inputs, tmp_path)
    assert list(tmp_path.iterdir()) == []


PARALLEL = """
import jax, jax.numpy as jnp, optax
from cgloop.train.chemtrain_engine import import_chemtrain
likelihood = import_chemtrain().likelihood
model = lambda params, batch: {"F": params["a"] * batch["R"]}
loss = lambda predicted, batch: (likelihood.mse_loss(predicted["F"], batch["F"]), {})
params, batch = {"a": jnp.array(0.5)}, {"R": jnp.arange(8.0)[:, None], "F": jnp.ones((8, 1))}
rule = optax.sgd(1.0)
found = likelihood.shmap_update_fn(model, loss, rule)(params, rule.init(params), batch)[3]["a"]
right = jax.grad(lambda params: loss(model(params, batch), batch)[0])(params)["a"]
print(found / right)
"""


@pytest.mark.slow
def test_the_reason_to_refuse_several_devices_still_holds(repository):
    """Its own gradient on two devices is twice that of the same batch."""
    environment = {**os.environ, "PYTHONPATH": str(repository), "JAX_PLATFORMS": "cpu"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    done = subprocess.run([sys.executable, "-c", PARALLEL], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(2.0)
