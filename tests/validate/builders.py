"""Small runs with known truth, written in the layout that `md`, `train`, `parity` and `prep` write.

Kinetic energies are analytic: an Ornstein–Uhlenbeck process per velocity component, so that the kinetic energy is
Gamma distributed with the right mean. Trajectories are analytic too (independent OU displacements about a native
structure), or real reference frames.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
from MDAnalysis.lib.formats.libdcd import DCDFile
from scipy.signal import lfilter

from cgloop.config import Config
from cgloop.data.dataset import ProteinData, write_manifest, write_protein
from cgloop.residues import TYPE_ID
from cgloop.units import KB
from tests.validate import beside

TEMPERATURE_K = 320.0
TIMESTEP_FS = 2.0
OBSERVE_PS = 0.2
DUMP_PS = 0.5


def ou_process(rng, steps, shape, correlation_steps):
    """Stationary Gaussian series [steps, *shape] of unit variance with C(t) = exp(−t/correlation_steps)."""
    a = np.exp(-1.0 / correlation_steps)
    noise = rng.normal(size=(steps, *shape)) * np.sqrt(1 - a * a)
    noise[0] = rng.normal(size=shape)
    return lfilter([1.0], [1.0, -a], noise, axis=0)


def kinetic_series(rng, steps, n_beads, stage="nvt", temperature_K=TEMPERATURE_K, correlation_steps=1.5):
    """Kinetic energy of a replica, kcal/mol: ½ kT Σ z² over its degrees of freedom."""
    moving = n_beads - (1 if stage == "nve" else 0)
    return kinetic_by_bead(rng, steps, moving, temperature_K, correlation_steps).sum(axis=1)


def kinetic_by_bead(rng, steps, n_beads, temperature_K=TEMPERATURE_K, correlation_steps=1.5):
    """Kinetic energy [steps, N] of the beads of a replica in Langevin dynamics, kcal/mol: ½ kT Σ z² of three each."""
    z = ou_process(rng, steps, (n_beads, 3), correlation_steps)
    return 0.5 * KB * temperature_K * (z**2).sum(axis=2)


def members(names):
    """Residue names in the order of their types, and which beads [N, K] are of each."""
    kinds = sorted(set(names), key=lambda name: TYPE_ID[name])
    return kinds, np.array([[name == kind for kind in kinds] for name in names], float)


def elastic_frames(rng, native, frames, amplitude_A=0.1, correlation_steps=2.0):
    """Positions [frames, N, 3]: every coordinate an OU process about the native structure."""
    return native + amplitude_A * ou_process(rng, frames, native.shape, correlation_steps)


def real_chain(example_h5):
    """Names, native CA positions and CA trajectories of the shipped all-atom data, read without `prep`."""
    with h5py.File(example_h5) as file:
        group = file[next(iter(file))]
        atoms = [line for line in group["pdbProteinAtoms"][()].decode().splitlines() if line.startswith("ATOM")]
        chosen = [i for i, line in enumerate(atoms) if line[12:16].strip() == "CA"]
        native = np.array([[float(atoms[i][30 + 8 * k : 38 + 8 * k]) for k in range(3)] for i in chosen])
        names = [atoms[i][17:20] for i in chosen]
        trajectories = [group[f"320/{r}/coords"][:, chosen, :].astype(np.float32) for r in range(4)]
    return names, native, trajectories


@dataclass
class FakeReplica:
    """What one replica leaves in one stage; every array may be damaged by a test."""

    positions: np.ndarray
    kinetic: np.ndarray
    total: np.ndarray
    min_distance_A: np.ndarray
    max_force: np.ndarray
    max_bond_deviation: np.ndarray
    steps_done: int
    limit: str = ""
    shares: np.ndarray | None = None
    """[T, N], what part of the kinetic energy is each bead's: of types they follow whatever is done to the sum."""


@dataclass
class FakeRun:
    """A run directory in memory: reference, MD, parity and forces of one protein called `chain`."""

    names: list[str]
    native: np.ndarray
    reference: list[np.ndarray]
    nvt_ps: float
    nve_ps: float
    nvt: list[FakeReplica]
    nve: list[FakeReplica]
    minimized: list[dict]
    parity: dict
    forces: dict
    topology_names: list[str] = field(default_factory=list)
    md_temperature_K: float = TEMPERATURE_K
    untrained: list[str] = field(default_factory=list)
    other_reference: list[np.ndarray] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    static: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    order: list[dict[int, np.ndarray]] = field(default_factory=list)

    def config(self) -> Config:
        return Config.model_validate(
            {
                "run": {"name": "test"},
                "data": {
                    "sources": [{"path": "chain.h5"}],
                    "temperature_K": TEMPERATURE_K,
                    "split": {"by": "replica", "train": [0], "validation": [1], "test": [2]},
                },
                "md": {
                    "replicas": len(self.minimized), "timestep_fs": TIMESTEP_FS,
                    "dump_every_ps": DUMP_PS, "observe_every_ps": OBSERVE_PS, "temperature_K": self.md_temperature_K,
                    "nvt": {"length_ps": self.nvt_ps}, "nve": {"length_ps": self.nve_ps},
                },
                "validate": {"noise_blocks": 20, **self.settings},
            }
        )  # fmt: skip


def healthy_replica(rng, positions, length_ps, stage, n_beads):
    """A replica with nothing wrong."""
    points = round(length_ps / OBSERVE_PS)
    by_bead = kinetic_by_bead(rng, points, n_beads if stage == "nvt" else n_beads - 1)
    kinetic = by_bead.sum(axis=1)
    # In NVE only the integrator's bounded fluctuation remains.
    total = 5.0 + (0.01 * rng.normal(size=points) if stage == "nve" else kinetic + rng.normal(size=points))
    return FakeReplica(
        positions=np.array(positions, np.float32),
        kinetic=kinetic,
        total=total,
        min_distance_A=np.full(points, 3.5) + 0.1 * rng.random(points),
        max_force=20 + 5 * rng.random(points),
        max_bond_deviation=0.05 * rng.random(points),
        steps_done=round(length_ps * 1000 / TIMESTEP_FS),
        shares=by_bead / kinetic[:, None] if stage == "nvt" else None,
    )


def good_run(names, native, reference, model, seed=0, nve_ps=60.0):
    """A run that has no fault but those of its frames.

    Args:
        names: residue names.
        native: [N, 3].
        reference, model: frames [F, N, 3] per replica.
    """
    rng = np.random.default_rng(seed)
    n = len(names)
    frames = min(len(positions) for positions in model)
    nvt_ps = frames * DUMP_PS
    nve_frames = round(nve_ps / DUMP_PS)
    return FakeRun(
        names=names,
        native=native,
        reference=reference,
        nvt_ps=nvt_ps,
        nve_ps=nve_ps,
        nvt=[healthy_replica(rng, positions[:frames], nvt_ps, "nvt", n) for positions in model],
        nve=[
            healthy_replica(rng, np.resize(positions, (nve_frames, n, 3)), nve_ps, "nve", n) for positions in model
        ],
        minimized=[
            {"energy_initial": 5.0, "energy_final": 1.0, "max_force_final": 0.03, "max_move_A": 0.8, "rmsd_A": 0.5}
            for _ in model
        ],
        parity={
            "frames": 20,
            "force": {"value": 2e-6, "limit": 1e-4},
            "energy": {"value": 1e-7, "limit": 1e-5},
            "cases": [
                {"name": "held-out", "max_force_difference_over_rms": 2e-6, "energy_difference_relative": 1e-7}
            ],
            "verdict": "pass",
        },
        forces={
            "split": "test", "n_frames": 500, "rmse_full": 5.0, "rmse_prior": 5.5, "rmse_zero": 6.0,
            "full_minus_prior": {"value": -0.5, "error": 0.1},
        },
        topology_names=list(names),
        static=beside.static_of(native, TEMPERATURE_K),
        history=beside.history_of(seed),
        order=beside.order_totals(rng, TIMESTEP_FS, KB * TEMPERATURE_K),
    )  # fmt: skip


def analytic_run(names, native, seed=0, replicas=8, frames=300):
    """A healthy run whose model is the reference's own process, with other random numbers."""
    rng = np.random.default_rng(seed + 1)
    reference = [elastic_frames(rng, native, 300) for _ in range(4)]
    model = [elastic_frames(rng, native, frames) for _ in range(replicas)]
    return good_run(names, native, reference, model, seed)


def write_run(run: FakeRun, root: Path) -> dict[str, Path]:
    """Write everything below `root`; the keyword arguments of `validate_run` other than `config` and `out`."""
    folders = {name: root / name for name in ("prep", "train", "parity", "md", "control")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    _write_dataset(run, folders["prep"])
    (folders["train"] / "forces.json").write_text(json.dumps(run.forces))
    (folders["train"] / "history.json").write_text(json.dumps(run.history))
    np.savez(folders["train"] / "force_errors.npz", **beside.force_errors_of(run.forces))
    (folders["parity"] / "parity.json").write_text(json.dumps(run.parity))
    (folders["parity"] / "static.json").write_text(json.dumps(run.static))
    stages = {}
    for stage, length_ps, replicas in (("nvt", run.nvt_ps, run.nvt), ("nve", run.nve_ps, run.nve)):
        _write_stage(run, folders["md"] / "chain" / stage, stage, length_ps, replicas, OBSERVE_PS, TIMESTEP_FS)
        stages[stage] = {"replicas": [{"steps_done": r.steps_done} for r in replicas]}
    _write_minimized(run, folders["md"] / "chain" / "minimize")
    md = {
        "temperature_K": run.md_temperature_K,
        "model_temperature_K": TEMPERATURE_K,
        "timestep_fs": TIMESTEP_FS,
        "replicas": len(run.minimized),
        "asked_ps": {"nvt_equilibration": 5.0, "nvt": run.nvt_ps, "nve": run.nve_ps},
        "proteins": {"chain": {"n_beads": len(run.names), "untrained_types": run.untrained, "stages": stages}},
    }
    (folders["md"] / "md.json").write_text(json.dumps(md))
    _write_order(run, folders["control"])
    return {
        "md_dir": folders["md"],
        "dataset_dir": folders["prep"],
        "parity_json": folders["parity"] / "parity.json",
        "train_dir": folders["train"],
        "control_dir": folders["control"],
    }


def _write_dataset(run: FakeRun, folder: Path) -> None:
    groups = [(TEMPERATURE_K, frames) for frames in run.reference] + [(450.0, f) for f in run.other_reference]
    counts = [len(frames) for _, frames in groups]
    positions = np.concatenate([frames for _, frames in groups]).astype(np.float32)
    n = len(run.names)
    replica = np.concatenate([np.full(c, i % len(run.reference)) for i, c in enumerate(counts)])
    protein = ProteinData(
        name="chain",
        residue_type=np.array([TYPE_ID[name] for name in run.names], np.int8),
        chain=np.zeros(n, np.int16),
        resid=np.arange(1, n + 1, dtype=np.int32),
        native=run.native.astype(np.float32),
        linked=np.ones(n - 1, bool),
        positions=positions,
        forces=np.zeros_like(positions),
        temperature_K=np.repeat([t for t, _ in groups], counts).astype(np.float32),
        replica=replica.astype(np.int32),
        source_frame=np.concatenate([np.arange(c) for c in counts]).astype(np.int32),
        split=np.clip(replica, 0, 2).astype(np.int8),
    )
    write_protein(folder / "chain.h5", protein, {"mapping": "ca", "projection": "basic"})
    write_manifest(folder, ["chain"], temperature_K=TEMPERATURE_K, mapping="ca", projection="basic")


def _write_order(run: FakeRun, folder: Path) -> None:
    """`control.json`, and the runs with a whole, a half and a quarter of the time step, without the prior's own."""
    steps, replicas = beside.ORDER_STEPS, len(run.order)
    begun = {f"dt_{k}": {f"replica_{i:03d}": {"survived": True} for i in range(replicas)} for k in beside.STEP_FACTORS}
    about = {
        "engine": "lammps", "temperature_K": run.md_temperature_K, "timestep_fs": TIMESTEP_FS, "replicas": replicas,
        "prior_only": {"run": False, "reason": "the chain has no prior of its own", "steps": steps},
        "order": {"factors": list(beside.STEP_FACTORS), "steps": steps}, "proteins": {"chain": {"order": begun}},
    }  # fmt: skip
    (folder / "control.json").write_text(json.dumps(about))
    length_ps = steps * TIMESTEP_FS / 1000
    for k in beside.STEP_FACTORS:
        found = [
            FakeReplica(
                positions=run.native[None], kinetic=np.full(steps, 5.0), total=totals[k],
                min_distance_A=np.full(steps, 3.5), max_force=np.full(steps, 20.0),
                max_bond_deviation=np.full(steps, 0.02), steps_done=k * steps,
            )
            for totals in run.order
        ]  # fmt: skip
        place = folder / "chain" / "order" / f"dt_{k}"
        _write_stage(run, place, "nve", length_ps, found, TIMESTEP_FS / 1000, TIMESTEP_FS / k)


def _write_stage(
    run: FakeRun,
    folder: Path,
    stage: str,
    length_ps: float,
    replicas: list[FakeReplica],
    observe_ps: float,
    timestep_fs: float,
) -> None:
    folder.mkdir(parents=True)
    n = len(run.names)
    kinds, member = members(run.names)
    lines = [
        f"ATOM  {i + 1:5d}  CA  {name} A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C  "
        for i, (name, (x, y, z)) in enumerate(zip(run.topology_names, run.native, strict=True))
    ]
    (folder / "topology.pdb").write_text("\n".join([*lines, "END"]) + "\n")
    with h5py.File(folder / "observables.h5", "w") as file:
        file.attrs.update({"protein": "chain", "stage": stage, "n_beads": n, "timestep_fs": timestep_fs})
        if stage == "nvt":
            file.attrs.update({"kinetic_types": kinds, "dof_by_type": 3 * member.sum(axis=0)})
        for number, replica in enumerate(replicas):
            group = file.create_group(f"replica_{number:03d}")
            points = len(replica.kinetic)
            columns = {
                "time_ps": observe_ps * np.arange(1, points + 1),
                "temperature_K": 2 * replica.kinetic / (3 * n * KB),
                "kinetic": replica.kinetic,
                "potential": replica.total - replica.kinetic,
                "total": replica.total,
                "min_distance_A": replica.min_distance_A,
                "max_force": replica.max_force,
                "max_bond_deviation": replica.max_bond_deviation,
            }
            if replica.shares is not None:
                columns["kinetic_by_type"] = (replica.shares @ member) * replica.kinetic[:, None]
            for name, values in columns.items():
                group[name] = values
            group.attrs.update(
                steps_asked=round(length_ps * 1000 / timestep_fs),
                steps_done=replica.steps_done,
                survived=not replica.limit,
            )
            if replica.limit:
                group.attrs["limit"] = replica.limit
            write_dcd(folder / f"replica_{number:03d}.dcd", replica.positions)


def write_dcd(path: Path, positions: np.ndarray) -> None:
    """A DCD file of frames [F, N, 3]."""
    with DCDFile(str(path), "w") as file:
        file.write_header("test", positions.shape[1], 1, 1, 1.0, 0)
        for frame in np.asarray(positions, np.float32):
            file.write(frame, np.zeros(6, np.float32))


def _write_minimized(run: FakeRun, folder: Path) -> None:
    folder.mkdir(parents=True)
    with h5py.File(folder / "observables.h5", "w") as file:
        for number, end in enumerate(run.minimized):
            file.create_group(f"replica_{number:03d}").attrs.update(end)


def shortened(replica: FakeReplica, fraction: float, limit: str = "") -> FakeReplica:
    """The replica with only the first part of everything."""
    arrays = ("positions", "kinetic", "total", "min_distance_A", "max_force", "max_bond_deviation", "shares")
    given = {name: values for name in arrays if (values := getattr(replica, name)) is not None}
    cut = {name: values[: int(fraction * len(values))] for name, values in given.items()}
    return replace(replica, **cut, steps_done=int(fraction * replica.steps_done), limit=limit)
