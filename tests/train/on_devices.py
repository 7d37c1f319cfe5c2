"""A program for several virtual devices; prints what it found as JSON.

XLA_FLAGS=--xla_force_host_platform_device_count=4 python on_devices.py FOLDER
"""

import json
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from toy_forces import CUTOFF_A, pair_forces, start
from toy_proteins import toy_protein

from cgloop import interrupt
from cgloop.config.train import GammasConfig, TrainConfig
from cgloop.errors import Interrupted, UserError
from cgloop.model.allegro import AllegroSpec
from cgloop.model.hybrid import Model, init_params, ml_forces
from cgloop.train.chemtrain_engine import require_chemtrain
from cgloop.train.devices import Devices
from cgloop.train.lanes import run_in_lanes
from cgloop.train.loader import FrameSet
from cgloop.train.optimizers import make_optimizer
from cgloop.train.step import Objective, initial_state, make_train_step
from cgloop.train.trainer import Trainer

SPEC = AllegroSpec(
    cutoff_A=CUTOFF_A, max_ell=1, n_layers=1, n_radial=4, embedding=(6,), species_embedding=3, mlp=(6,),
    hidden="2x0e+2x1o", energy_scale=5.0,
)  # fmt: skip
CONFIG = TrainConfig(
    epochs=3, batch_size=7, learning_rate=0.03, warmup_epochs=0.5, ema_decay=0.9, checkpoint_every_s=0.0,
    weight_decay=0, length_buckets=2, keep_best=2, position_noise_A=0.02, normalize="protein",
)  # fmt: skip


def proteins():
    return [toy_protein("toy", "0 7 4 7 0 9", 40, 0.5), toy_protein("tiny", "1 2 3", 24, 0.5, 5)]


def forces(params, positions, graph):
    return ml_forces(Model(SPEC, "ml-only", CUTOFF_A), {"prior": None, "ml": params}, positions, graph)


def gradient_on(n: int, chosen: list[int], parts: int = 1) -> np.ndarray:
    """Gradient of the loss of a batch as n devices find it in so many parts each, in float64.

    A plain step of length 1 moves by it.
    """
    frames = FrameSet(proteins(), CUTOFF_A)
    frames.set_weights({"tiny": 3.0}, {})
    devices = Devices(jax.devices()[:n])
    config = TrainConfig(optimizer="sgd", momentum=0, learning_rate=1.0, weight_decay=0, clip_norm=1e9)
    optimizer = make_optimizer(config, lambda step: 1.0)
    objective = Objective(forces, 2.0, huber_delta=2.0, gammas=GammasConfig(network=0.3))
    step = make_train_step(objective, optimizer, 0.9, axis=devices.axis)
    found = init_params(Model(SPEC, "ml-only", CUTOFF_A), None, jax.random.key(0))["ml"]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), {**found, "readout": 20 * found["readout"]})
    state = devices.place(initial_state(params, optimizer))
    shape = frames.shape(-(-len(chosen) // (n * parts)))
    batch = devices.batch(frames, np.array(chosen), shape, parts=parts)
    batch = jax.tree.map(lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, batch)
    new, result = devices.compile(step, state, batch)(state, batch)
    moved = jax.tree.map(lambda a, b: a - np.asarray(b), params, new.params)
    sums = [float(result.sums.mean), float(result.sums.squares), float(result.sums.components)]
    return np.concatenate([*(leaf.ravel() for leaf in jax.tree.leaves(moved)), sums])


def train_on(n: int | None, folder: Path, stop_after: int | None = None):
    """A training on n devices, of all processes if n is None."""
    sets = [FrameSet([p.select(split=s) for p in proteins()], CUTOFF_A, 0.02) for s in ("train", "validation")]
    devices = Devices() if n is None else Devices(jax.devices()[:n])
    done = [0]

    def count(step):
        done[0] += 1
        if done[0] == stop_after:
            interrupt.request_stop("test")

    make = partial(Trainer, jax.jit(pair_forces), start(), *sets, CONFIG, seed=3, folder=folder, fingerprint="test")
    result = make(evaluation_shape=sets[1].shape(8), devices=devices, on_step=count).run()
    return {
        "losses": result.position.history["validation_loss"],
        "train": result.position.history["train_loss"],
        "params": np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(result.params)]).tolist(),
        "kept": sorted(result.kept),
    }


def other_engine() -> dict:
    """What chemtrain says of several devices, and what of it is loaded without having been asked for."""
    try:
        require_chemtrain()
    except UserError as error:
        said = str(error)
    loaded = [name for name in ("chemtrain", "jax_md", "haiku") if name in sys.modules]
    return {"said": said, "loaded": loaded, "lent": hasattr(jax, "tree_map")}


def members_on(n: int, folder: Path) -> list[dict]:
    """Three members of an ensemble, spread over n devices."""
    sets = [FrameSet([p.select(split=s) for p in proteins()], CUTOFF_A, 0.02) for s in ("train", "validation")]
    config = CONFIG.model_copy(update={"length_buckets": 1})
    make = partial(Trainer, jax.jit(pair_forces), start(), *sets, config, fingerprint="test")
    alone, shape = Devices(jax.devices()[:1]), sets[1].shape(8)
    trainers = [make(seed=seed, folder=folder / str(seed), evaluation_shape=shape, devices=alone) for seed in (3, 4, 5)]
    return [one.position.history for one in run_in_lanes(trainers, jax.devices()[:n])]


def main(folder: Path) -> dict:
    found = {"chemtrain": other_engine()}
    with jax.enable_x64(True):
        # Parts of different length, and in the last case an empty one.
        for name, chosen in {"seven": [0, 41, 5, 60, 22, 50, 9], "three": [44, 1, 59]}.items():
            one, *others = (gradient_on(n, chosen, parts) for n, parts in ((1, 1), (2, 1), (4, 1), (2, 2)))
            found[name] = [float(np.abs(other - one).max() / np.abs(one).max()) for other in others]
    found["members"] = {n: members_on(n, folder / f"members_{n}") for n in (1, 2)}
    found["training"] = {n: train_on(n, folder / str(n)) for n in (1, 2, 4)}
    try:
        train_on(4, folder / "stopped", stop_after=8)
    except Interrupted:
        interrupt.clear_stop()
        found["stopped"] = train_on(4, folder / "stopped")
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
