"""How much the members of an ensemble disagree where the dynamics went, beside where they were trained to agree."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError

from cgloop.checks import jsonable
from cgloop.errors import UserError
from cgloop.export.bundle import read_trained
from cgloop.interrupt import check_stop
from cgloop.md.system import System
from cgloop.md.trajectory import read_evenly
from cgloop.model.graph import Graph, build_graph, pad_graph
from cgloop.model.hybrid import Params, energy_and_forces, ml_forces, unflatten_params
from cgloop.residues import RESIDUES
from cgloop.stages import write_json
from cgloop.train.checkpoints import read_tensors
from cgloop.train.ensemble import variance_over_members

log = logging.getLogger("cgloop.md")

MOST_FRAMES = 200
"""Of a protein; more frames of the same trajectories are hardly independent."""

FRAMES_AT_ONCE = 10

Forces = Callable[[np.ndarray, Graph], Any]
"""(positions f32 [n, 3], graph) -> forces [n, 3] in kcal/mol/Å."""


def write_uncertainty(train_dir: Path, systems: Mapping[str, System], out: Path) -> None:
    """Write `uncertainty.json` from the NVT frames in `out`; nothing if the training has one member only.

    Args:
        train_dir: with the model, `ensemble/` and `ensemble.json`.
        systems: proteins that were simulated.
        out: folder of the stage, with `<protein>/nvt/replica_*.dcd`.

    Raises:
        UserError: the ensemble is damaged.
        Interrupted: stopped on request.
    """
    if not (train_dir / "ensemble.json").is_file():
        return
    trained = _read_summary(train_dir)
    members, cutoff_A = _member_forces(train_dir, trained["members"])
    proteins = {}
    for name, system in systems.items():
        frames, replica = read_evenly(out / name / "nvt", system.n_beads, MOST_FRAMES)
        found = along_frames(members, system, frames, replica, cutoff_A)
        own = trained["per_protein"].get(name)
        usual = (own or trained)["disagreement"]
        comparable = found["disagreement"] is not None and bool(usual)
        proteins[name] = {
            **found,
            "validation": {"proteins": name if own else "all", "disagreement": usual},
            "ratio": found["disagreement"] / usual if comparable else None,
        }
        if comparable:
            log.info("%s: members disagree by %.3g kcal/mol/Å in NVT, %.3g on validation frames",
                     name, found["disagreement"], usual)  # fmt: skip
    result = {"members": trained["members"], "unit": "kcal/mol/Å", "stage": "nvt", "proteins": proteins}
    write_json(out / "uncertainty.json", jsonable(result))


def relative_disagreement(train_dir: Path, system: System) -> Callable[[np.ndarray], np.ndarray] | None:
    """Disagreement of an ensemble on single frames, as a multiple of that on validation frames of the protein.

    Args:
        train_dir: with the model, `ensemble/` and `ensemble.json`.
        system: the protein; one that was not validated is compared with all that were.

    Returns:
        a function of frames [F, N, 3] Å that gives [F], the root mean square over beads and components relative to that
        on validation frames (NaN if members agree there exactly); None if there is no ensemble.

    Raises:
        UserError: the ensemble is damaged.
    """
    if not (train_dir / "ensemble.json").is_file():
        return None
    trained = _read_summary(train_dir)
    members, cutoff_A = _member_forces(train_dir, trained["members"])
    usual = trained["per_protein"].get(system.name, trained)["disagreement"] or np.nan

    def ratio(frames: np.ndarray) -> np.ndarray:
        return np.sqrt(_variance(members, system, frames, cutoff_A).mean(axis=1)) / usual

    return ratio


def along_frames(
    members: Sequence[Forces], system: System, positions: np.ndarray, replica: np.ndarray, cutoff_A: float
) -> dict[str, Any]:
    """The disagreement of members on frames: see `train.ensemble.describe`.

    Args:
        members: forces of each.
        system: the protein.
        positions: [F, N, 3] Å.
        replica: int [F], which each frame is of.
        cutoff_A: of the pair list.

    Returns:
        `n_frames`, and root mean squares in kcal/mol/Å: `disagreement` over everything (None without frames),
        `per_bead` [N], `per_residue_type`, and `per_replica` with the number of frames of each.
    """
    variance = _variance(members, system, positions, cutoff_A)
    kinds = system.residue_type.astype(int)

    def rms(part: np.ndarray) -> float | None:
        return float(np.sqrt(part.mean())) if part.size else None

    return {
        "n_frames": len(positions),
        "disagreement": rms(variance),
        "per_bead": [rms(column) for column in variance.T],
        "per_residue_type": {RESIDUES[kind].name: rms(variance[:, kinds == kind]) for kind in np.unique(kinds)},
        "per_replica": [
            {"replica": one, "n_frames": int(np.sum(replica == one)), "disagreement": rms(variance[replica == one])}
            for one in np.unique(replica).tolist()
        ],
    }


def _variance(members: Sequence[Forces], system: System, positions: np.ndarray, cutoff_A: float) -> np.ndarray:
    """[F, N], (kcal/mol/Å)²: see `variance_over_members`; batches have one shape, so that members are compiled once."""
    n_frames, n_beads = len(positions), system.n_beads
    size = min(FRAMES_AT_ONCE, n_frames)
    centred = positions - positions.mean(axis=1, keepdims=True, dtype=np.float64)
    starts = range(0, n_frames, max(size, 1))
    batches = [centred[np.arange(start, start + size) % n_frames] for start in starts]
    graphs = [build_graph(system.residue_type, system.linked, batch, cutoff_A) for batch in batches]
    edges = max((len(graph.senders) for graph in graphs), default=0)
    found = np.empty((n_frames, n_beads))
    for start, batch, graph in zip(starts, batches, graphs, strict=True):
        check_stop()
        flat, padded = batch.reshape(-1, 3).astype(np.float32), pad_graph(graph, edges=edges)
        forces = np.stack([np.asarray(one(flat, padded)) for one in members])
        part = variance_over_members(forces).reshape(size, n_beads)
        found[start : start + size] = part[: n_frames - start]
    return found


def _member_forces(train_dir: Path, n_members: int) -> tuple[list[Forces], float]:
    """Compiled forces of the trained part of each member, the model's first, and the cutoff of their pair list.

    A prior that was trained, too, differs between members and counts.
    """
    model, first = read_trained(train_dir)
    paths = [train_dir / "ensemble" / f"member_{number:02d}.safetensors" for number in range(1, n_members)]
    try:
        others = [unflatten_params(read_tensors(path)[0]) for path in paths]
    except (OSError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"members cannot be read: {error}", where=train_dir / "ensemble", remedy="run `cgloop train` again"
        ) from None
    prior_too = (train_dir / "priors.yaml").is_file()

    @jax.jit
    def forces(params: Params, positions: jax.Array, graph: Graph) -> jax.Array:
        if prior_too:
            return energy_and_forces(model, params, positions, graph)[1]
        return ml_forces(model, params, positions, graph)

    return [partial(forces, one) for one in (first, *others)], model.cutoff_A


def _read_summary(train_dir: Path) -> dict[str, Any]:
    """Of `ensemble.json`: `members`, `disagreement` on validation frames and the same `per_protein`, kcal/mol/Å."""
    path = train_dir / "ensemble.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        per_protein = {str(name): {"disagreement": float(one["disagreement"])}
                       for name, one in content["per_protein"].items()}  # fmt: skip
        return {
            "members": int(content["members"]),
            "disagreement": float(content["disagreement"]),
            "per_protein": per_protein,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot be understood: {error}", where=path, remedy="run `cgloop train` again") from None
