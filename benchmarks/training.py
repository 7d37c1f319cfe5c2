"""Frames of a synthetic chain to train on, and the training of a network alone on them."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from benchmarks.conftest import compact_chain
from cgloop.config.model import AllegroConfig
from cgloop.config.train import TrainConfig
from cgloop.data.dataset import SPLITS, DatasetReader, ProteinData, write_manifest, write_protein
from cgloop.executors.world import World
from cgloop.model.hybrid import build_model, init_params, ml_forces
from cgloop.train.files import Place
from cgloop.train.sets import load_frames
from cgloop.train.shards import Part
from cgloop.train.trainer import Trainer

CUTOFF_A, BATCH = 12.0, 16
FRAMES = {10: 640, 20: 640, 100: 320}


def chain_sets(folder: Path, n_beads: int, where: str):
    """Training and validation frames of a chain, in "memory" or in "files"."""
    random = np.random.default_rng(0)
    n_frames = FRAMES[n_beads] + 64
    chain = compact_chain(n_beads).astype(np.float32)
    shape = (n_frames, n_beads, 3)
    protein = ProteinData(
        name="chain",
        residue_type=(np.arange(n_beads) % 20).astype(np.int8),
        chain=np.zeros(n_beads, np.int16),
        resid=np.arange(n_beads, dtype=np.int32),
        native=chain,
        linked=np.ones(n_beads - 1, bool),
        positions=chain + random.normal(scale=0.2, size=shape).astype(np.float32),
        forces=random.normal(scale=5.0, size=shape).astype(np.float32),
        temperature_K=np.full(n_frames, 300.0, np.float32),
        replica=np.zeros(n_frames, np.int32),
        source_frame=np.arange(n_frames, dtype=np.int32),
        split=np.where(np.arange(n_frames) < 64, SPLITS["validation"], SPLITS["train"]).astype(np.int8),
    )
    write_protein(folder / "chain.h5", protein, {})
    write_manifest(folder, ["chain"], temperature_K=300.0, mapping="ca", projection="basic")
    reader, place = DatasetReader.open(folder), Place(folder / "files", 0.0, World(0, 1, ()))
    return [
        load_frames(reader, Part(split, 300.0, CUTOFF_A), place if where == "files" else None)
        for split in ("train", "validation")
    ]


def learner(preset, training):
    """Forces of a network without a prior, and its random parameters by seed."""
    model = build_model(
        AllegroConfig.model_validate({"preset": preset, "energy": "ml-only"}), avg_num_neighbors=training.mean_neighbors
    )
    forces = jax.jit(lambda params, x, graph: ml_forces(model, {"prior": None, "ml": params["ml"]}, x, graph))
    return SimpleNamespace(
        forces=forces, start=lambda seed: {"ml": init_params(model, None, jax.random.key(seed))["ml"]}
    )


def trainer(made, sets, folder, seed, epochs, batch_size=BATCH, **more):
    config = TrainConfig(epochs=epochs, batch_size=batch_size, patience_epochs=epochs, checkpoint_every_s=1e9)
    return Trainer(
        made.forces, made.start(seed), *sets, config, evaluation_shape=sets[1].shape(64), seed=seed, folder=folder,
        fingerprint="benchmark", **more,
    )  # fmt: skip
