"""Single points through LAMMPS: the forces that it would integrate, and its potential energy, for given positions."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from cgloop.md.evaluate import Compiled, evaluate_graph
from cgloop.md.evaluation import Evaluate, Evaluation
from cgloop.md.inputs import write_data_file, write_script
from cgloop.md.session import Atoms, Session
from cgloop.model.graph import Graph, pad_graph


class Probe:
    """A LAMMPS instance with R replicas of N beads that evaluates frames; use as a context manager."""

    def __init__(self, types: np.ndarray, n_replicas: int, evaluate: Evaluate):
        """Args:
        types: int [N], residue types in the order of the atoms.
        n_replicas: R.
        evaluate: the model.
        """
        self._shape, self._evaluate = (n_replicas, len(types), 3), evaluate
        self.evaluation: Evaluation | None = None
        self._session = Session()
        with tempfile.TemporaryDirectory(prefix="cgloop-probe-") as folder:
            apart = 10.0 * np.arange(n_replicas * len(types) * 3, dtype=float).reshape(self._shape) % 1000.0
            write_data_file(Path(folder) / "system.data", types, apart, np.zeros(self._shape))
            values = {"data_file": "system.data", "timestep_fs": 1.0, "thermo_every": 1, "steps": 0}
            self._session.run_script(write_script("nve.in", values, Path(folder) / "nve.in"), self._force)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._session.close()

    def _force(self, _step: int, atoms: Atoms, forces: np.ndarray) -> float:
        self.evaluation = self._evaluate(atoms.unwrapped().reshape(self._shape))
        forces[:] = self.evaluation.forces.reshape(-1, 3)
        return float(self.evaluation.energies.sum())

    def __call__(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """LAMMPS's potential energy in kcal/mol and forces [R, N, 3] for unwrapped positions [R, N, 3] in Å."""
        self._session.place(positions.reshape(-1, 3))
        self._session.command("run 0 post no")
        return self._session.potential_energy(), self._session.total_forces().reshape(self._shape)


class GraphEvaluator:
    """Evaluates one replica on a graph of any making, padded to given sizes.

    Edges, bonds, angles and dihedrals are padded before beads are, so that their padding refers to a real bead: what
    leaks there is seen.
    """

    def __init__(self, compiled: Compiled, make_graph: Callable[[np.ndarray], Graph], sizes: dict[str, int]):
        """Args:
        compiled: the model.
        make_graph: centred positions [1, N, 3] Å to a graph in the same order of beads.
        sizes: keywords of `pad_graph`.
        """
        self._compiled, self._make_graph, self._sizes = compiled, make_graph, sizes

    def __call__(self, positions: np.ndarray) -> Evaluation:
        """Evaluate [1, N, 3] in Å."""
        centred = positions - positions.mean(axis=1, keepdims=True)
        outer = {name: self._sizes[name] for name in ("beads", "replicas") if name in self._sizes}
        inner = {name: size for name, size in self._sizes.items() if name not in outer}
        graph = pad_graph(pad_graph(self._make_graph(centred), **inner), **outer)
        return evaluate_graph(self._compiled, centred, graph, np.ones(len(graph.bonds), np.float32))
