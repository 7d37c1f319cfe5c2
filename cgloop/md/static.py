"""What can be said of a model without dynamics: `static.json`, made before anything is simulated.

Scans of every prior term through the very energy function of the model; forces against central differences, symmetries,
and whether beads that overlap come apart, in float64. Numbers only: what they must be, `cgloop.validate.static` says.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from cgloop.checks import jsonable
from cgloop.config import Config
from cgloop.data.dataset import DatasetReader
from cgloop.export.bundle import read_trained
from cgloop.interrupt import check_stop
from cgloop.md.parity import load_frames
from cgloop.md.parity_cases import compiled_reference
from cgloop.md.system import System
from cgloop.model.graph import Graph, build_graph, pad_graph
from cgloop.model.hybrid import Model, Params
from cgloop.model.topology import separation_matrix
from cgloop.priors.scans import scan_prior
from cgloop.stages import write_json
from cgloop.units import thermal_energy

STATIC = "static.json"

FRAMES = 3
DIRECTIONS = 12
STEP_A = 1e-4
"""Of the central difference: its own error, h²/6 of the third derivative, and rounding, 1e-16 E/h, are both far below
1e-5 of the force."""
MARGIN_A = 0.5
"""Pairs are listed so far beyond the cutoff: none comes or goes within a step of a difference."""
TRANSLATION_A = 50.0
OVERLAPS = 4
OVERLAP_A = 0.3
OVERLAP_SEPARATION = 3
MINIMIZER_STEPS, MINIMIZER_FORCE = 250, 1e-2
"""Steps at most, and the largest component of a force, kcal/mol/Å, at which beads are at rest."""

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""Positions [N, 3] in Å of one protein to its energy and forces [N, 3], kcal/mol and kcal/mol/Å."""


def static_stage(config: Config, train_dir: Path, priors_dir: Path, dataset_dir: Path, out: Path) -> dict[str, Any]:
    """Measure, and write `static.json` into `out`; returns its contents.

    Args:
        config: the temperature, and the seed.
        train_dir: the model.
        priors_dir: `curves.json`, the range of the data.
        dataset_dir: held-out frames.
        out: folder that exists.

    Raises:
        UserError: no trained model, or no frames.
        Interrupted: stopped on request.
    """
    model, params = read_trained(train_dir)
    frames = load_frames(config, DatasetReader.open(dataset_dir))[0]
    rng = np.random.default_rng(config.run.seed)
    chosen = frames.positions[np.unique(np.linspace(0, len(frames.positions) - 1, FRAMES).round().astype(int))]
    curves = json.loads((priors_dir / "curves.json").read_text(encoding="utf-8"))
    energy = Energy(model, params, frames.system)
    check_stop()
    result = {
        "protein": frames.system.name,
        "temperature_K": config.data.temperature_K,
        "kT_kcal_per_mol": thermal_energy(config.data.temperature_K),
        "energy": model.energy,
        "scans": scan_prior(model, params, curves) if model.has_prior else [],
        "gradient": gradient_error(energy.near, chosen, rng),
        "symmetry": symmetry_errors(energy, chosen, rng),
        "overlaps": separate_overlaps(energy.anywhere, frames.system, chosen, rng),
    }
    write_json(out / STATIC, jsonable(result))
    return result


class Energy:
    """A model in float64 for one protein, compiled for one number of pairs."""

    def __init__(self, model: Model, params: Params, system: System):
        self._params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        self._function = compiled_reference(model)
        self._system, self._reach = system, model.cutoff_A + MARGIN_A

    def graph(self, positions: np.ndarray) -> Graph:
        """With all pairs in reach, and room for all there could be."""
        system = self._system
        found = build_graph(system.residue_type, system.linked, positions, self._reach)
        return pad_graph(found, edges=max(1, system.n_beads * (system.n_beads - 1)))

    def on_graph(self, positions: np.ndarray, graph: Graph) -> tuple[float, np.ndarray]:
        with jax.enable_x64(True):
            energies, forces, _ = self._function(self._params, np.asarray(positions, np.float64), graph)
            return float(np.asarray(energies)[0]), np.asarray(forces)

    def anywhere(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """With the pairs of these positions."""
        return self.on_graph(positions, self.graph(positions))

    def near(self, positions: np.ndarray) -> Evaluate:
        """For positions that differ from these by less than the margin, with the pairs of these."""
        graph = self.graph(positions)
        return lambda moved: self.on_graph(moved, graph)


def gradient_error(
    near: Callable[[np.ndarray], Evaluate], frames: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """Forces against central differences of the energy along random directions of all coordinates.

    Args:
        near: gives an energy function for the neighbourhood of positions.
        frames: [F, N, 3] Å.
        rng: for the directions.

    Returns:
        `max_relative`: largest |F·d + (E(x + hd) − E(x − hd))/2h| for unit vectors d, over the RMS component of the
        force, which is what F·d is on average; and how it was found.
    """
    worst = 0.0
    for frame in frames:
        check_stop()
        evaluate = near(frame)
        _, forces = evaluate(frame)
        rms = float(np.sqrt(np.mean(forces**2)))
        for _ in range(DIRECTIONS):
            direction = rng.normal(size=frame.shape)
            direction /= np.linalg.norm(direction)
            ahead, behind = (evaluate(frame + sign * STEP_A * direction)[0] for sign in (1.0, -1.0))
            difference = float((forces * direction).sum()) + (ahead - behind) / (2.0 * STEP_A)
            worst = _larger(worst, abs(difference) / rms)
    return {"max_relative": worst, "frames": len(frames), "directions": DIRECTIONS, "step_A": STEP_A}


def symmetry_errors(energy: Energy, frames: np.ndarray, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Energy and forces of turned, shifted and renumbered frames against those of the frames themselves.

    Returns:
        By `rotation`, `translation`, `permutation`: `energy`, difference over the larger of |E| and the number of beads
        in kcal/mol; `forces`, largest difference of a component over the RMS component.
    """
    found: dict[str, dict[str, float]] = {}
    for frame in frames:
        check_stop()
        graph = energy.graph(frame)
        one = energy.on_graph(frame, graph)
        turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
        turned, turned_forces = energy.on_graph(frame @ turn.T, graph)
        place = rng.permutation(len(frame))
        mixed = np.empty_like(frame)
        mixed[place] = frame
        renumbered, renumbered_forces = energy.on_graph(mixed, renumber(graph, place, rng))
        cases = {
            "rotation": (turned, turned_forces @ turn),
            "translation": energy.on_graph(frame + TRANSLATION_A * rng.normal(size=3), graph),
            "permutation": (renumbered, renumbered_forces[place]),
        }
        for name, other in cases.items():
            errors = found.setdefault(name, {"energy": 0.0, "forces": 0.0})
            scale = max(abs(one[0]), float(len(frame)))
            errors["energy"] = _larger(errors["energy"], abs(other[0] - one[0]) / scale)
            rms = float(np.sqrt(np.mean(one[1] ** 2)))
            errors["forces"] = _larger(errors["forces"], float(np.abs(other[1] - one[1]).max()) / rms)
    return found


def renumber(graph: Graph, place: np.ndarray, rng: np.random.Generator) -> Graph:
    """The same graph with bead i called place[i], and its pairs in another order."""
    types = np.empty_like(graph.types)
    types[place] = graph.types
    order = rng.permutation(len(graph.senders))
    return graph._replace(
        types=types,
        senders=place[graph.senders][order].astype(np.int32),
        receivers=place[graph.receivers][order].astype(np.int32),
        edge_mask=graph.edge_mask[order],
        separation=graph.separation[order],
        bonds=place[graph.bonds].astype(np.int32),
        angles=place[graph.angles].astype(np.int32),
        dihedrals=place[graph.dihedrals].astype(np.int32),
    )


def separate_overlaps(
    evaluate: Evaluate, system: System, frames: np.ndarray, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """What minimisation makes of frames in which one bead was put onto another.

    Returns:
        Per case: the `beads`, their distance before and after, and the smallest distance of any two beads after that do
        not share a bond; Å.
    """
    apart = separation_matrix(system.linked)
    pairs = np.argwhere(np.triu(apart >= OVERLAP_SEPARATION))
    found = []
    for case in range(min(OVERLAPS, len(pairs))):
        check_stop()
        first, second = pairs[rng.integers(len(pairs))]
        frame = np.array(frames[case % len(frames)], float)
        nudge = rng.normal(size=3)
        frame[second] = frame[first] + OVERLAP_A * nudge / np.linalg.norm(nudge)
        end = _minimized(evaluate, frame)
        distances = np.linalg.norm(end[:, None] - end[None], axis=-1)
        found.append(
            {
                "beads": [int(first), int(second)],
                "before_A": float(np.linalg.norm(frame[first] - frame[second])),
                "after_A": float(distances[first, second]),
                "smallest_after_A": float(distances[apart > 1].min()),
            }
        )
    return found


def _minimized(evaluate: Evaluate, frame: np.ndarray) -> np.ndarray:
    def function(flat: np.ndarray) -> tuple[float, np.ndarray]:
        energy, forces = evaluate(flat.reshape(-1, 3))
        return energy, -forces.ravel()

    # Conjugate gradients need no linear algebra of small matrices, in which threads of BLAS would wait for each other.
    options = {"maxiter": MINIMIZER_STEPS, "gtol": MINIMIZER_FORCE}
    return minimize(function, frame.ravel(), jac=True, method="CG", options=options).x.reshape(-1, 3)


def _larger(one: float, other: float) -> float:
    """The larger; what is no number is larger than any."""
    return other if not other <= one else one
