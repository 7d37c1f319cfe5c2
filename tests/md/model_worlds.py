"""A small protein with a small model: data set, parameters and bundle, made in a moment."""

import json
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save

from cgloop.config import Config
from cgloop.data.dataset import SPLITS, ProteinData, write_manifest, write_protein
from cgloop.export.bundle import write_bundle
from cgloop.md.system import System
from cgloop.model.allegro import AllegroSpec
from cgloop.model.hybrid import Model, Params, flatten_params, init_params, model_to_json
from cgloop.model.painn import PainnSpec
from cgloop.model.terms import PriorParams
from cgloop.residues import TYPE_ID

CUTOFF_A = 10.0
SEQUENCE = ("TYR", "TYR", "ASP", "PRO", "GLU", "THR", "GLY", "THR", "TRP", "TYR")

# Angles near 97° and dihedrals near +50°: a helix is close to the minimum.
PRIOR = PriorParams(
    bond_k=np.float32(150.0),
    bond_r0=np.float32(3.8),
    angle_coeffs=np.array([0.0, 2.0, 8.0], np.float32),
    dihedral_cos=np.array([0.0, -2.0], np.float32),
    dihedral_sin=np.array([0.0, -2.4], np.float32),
    repulsion_epsilon=np.array([2.0, 2.0, 2.0], np.float32),
    repulsion_r_min=np.array([4.6, 4.6, 4.6], np.float32),
    weights=np.ones(4, np.float32),
)


def helix(n_beads: int) -> np.ndarray:
    """CA atoms of an α-helix [N, 3]: 100° and 1.5 Å per residue, radius 2.3 Å."""
    turn = np.deg2rad(100.0) * np.arange(n_beads)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_beads)], axis=1)


def protein(n_beads: int = 10, n_frames: int = 40, name: str = "helix", chains: int = 1) -> ProteinData:
    """Frames that scatter around a helix (or several, side by side); the last half is the test split."""
    each = n_beads // chains
    chain = np.minimum(np.arange(n_beads) // each, chains - 1)
    native = np.concatenate([helix(int((chain == c).sum())) for c in range(chains)]).astype(np.float32)
    native[:, 0] += 12.0 * chain
    noise = np.random.default_rng(3).standard_normal((n_frames, n_beads, 3)).astype(np.float32)
    split = np.where(np.arange(n_frames) < n_frames // 2, SPLITS["train"], SPLITS["test"])
    types = [TYPE_ID[SEQUENCE[i % len(SEQUENCE)]] for i in range(n_beads)]
    return ProteinData(
        name=name,
        residue_type=np.array(types, np.int8),
        chain=chain.astype(np.int16),
        resid=np.arange(1, n_beads + 1, dtype=np.int32),
        native=native,
        linked=chain[1:] == chain[:-1],
        positions=native + 0.08 * noise,
        forces=noise,
        temperature_K=np.full(n_frames, 320.0, np.float32),
        replica=np.repeat([0, 1], n_frames // 2).astype(np.int32),
        source_frame=np.tile(np.arange(n_frames // 2), 2).astype(np.int32),
        split=split.astype(np.int8),
    )


def system(n_beads: int = 10, chains: int = 1) -> System:
    """The same protein as the dynamics see it."""
    return System.of(protein(n_beads, chains=chains))


def small_model(energy: str = "hybrid") -> tuple[Model, Params]:
    """A model with every part, that compiles quickly."""
    spec = AllegroSpec(
        cutoff_A=CUTOFF_A, max_ell=1, n_layers=1, n_radial=4, embedding=(8,), species_embedding=4, mlp=(8,),
        hidden="2x0e+2x1o", energy_scale=20.0,
    )  # fmt: skip
    model = Model(None if energy == "prior-only" else spec, energy, CUTOFF_A)
    return model, init_params(model, PRIOR, jax.random.key(0))


def small_painn() -> tuple[Model, Params]:
    """The same with the other kind of network, whose energies are of beads, and a bound that is felt."""
    spec = PainnSpec(cutoff_A=CUTOFF_A, n_layers=2, features=4, n_radial=4, energy_scale=20.0)
    model = Model(spec, "hybrid", CUTOFF_A, ml_energy_bound_kcal_per_mol=1.0)
    return model, init_params(model, PRIOR, jax.random.key(0))


def config(**md) -> Config:
    """A run config for tests; keywords change section `md`."""
    options = {
        "replicas": 3, "nvt": {"length_ps": 0.4, "equilibration_ps": 0.1}, "nve": {"length_ps": 0.2},
        "dump_every_ps": 0.05, "observe_every_ps": 0.02, "crash_frames": 20, "processes": 1, **md,
    }  # fmt: skip
    split = {"by": "replica", "train": [0], "validation": [2], "test": [1]}
    data = {"sources": [{"path": "none.h5"}], "temperature_K": 320.0, "split": split}
    return Config.model_validate(
        {"run": {"name": "test", "seed": 7}, "data": data, "md": options, "parity": {"frames": 4}}
    )


def write_world(
    folder: Path,
    energy: str = "hybrid",
    proteins: list[ProteinData] | None = None,
    made: tuple[Model, Params] | None = None,
) -> dict[str, Path]:
    """Folders `prep`, `train` and `export` as the stages before `md` leave them, of a model or else a small one."""
    paths = {name: folder / name for name in ("prep", "train", "export")}
    for path in paths.values():
        path.mkdir(parents=True)
    proteins = proteins or [protein()]
    for one in proteins:
        write_protein(paths["prep"] / f"{one.name}.h5", one, {"mapping": "ca"})
    names = [one.name for one in proteins]
    write_manifest(paths["prep"], names, temperature_K=320.0, mapping="ca", projection="basic")
    model, params = made or small_model(energy)
    # As the training writes them: a scalar stays a scalar.
    (paths["train"] / "params.safetensors").write_bytes(
        save({name: np.array(array, order="C") for name, array in flatten_params(params).items()})
    )
    (paths["train"] / "model.json").write_text(json.dumps(model_to_json(model)))
    write_bundle(paths["export"], model, params, temperature_K=320.0)
    return paths
