"""The optimal map as the package `aggforce` finds it, for comparison with our own (prep/optimal.py).

It needs the frames in memory and solves the programme bead by bead with an iterative solver.
"""

import numpy as np

from cgloop.errors import UserError
from cgloop.prep.constraints import RigidGroups
from cgloop.prep.projection import MatrixMap

L2_PER_ROW = 1e-4
"""Its penalty is not divided by the number of rows; this times the mean squared force is a usual choice."""


def aggforce_map(forces: np.ndarray, groups: RigidGroups, bead_atoms: np.ndarray, l2: float | None = None) -> MatrixMap:
    """The map that `aggforce.project_forces` gives.

    Args:
        forces: [F, A, 3], kcal/mol/Å.
        groups: rigid groups.
        bead_atoms: int [N].
        l2: penalty per row, (kcal/mol/Å)²; None takes `L2_PER_ROW` times the mean squared force.

    Raises:
        UserError: the package is not installed, or of a version with another interface.
    """
    try:
        import aggforce
    except ImportError as error:
        raise UserError(
            f"`projection: aggforce` needs the package aggforce: {error}",
            remedy="pip install git+https://github.com/noegroup/aggforce, or use `projection: optimal`",
        ) from None
    penalty = l2 if l2 is not None else L2_PER_ROW * float(np.mean(np.square(forces, dtype=np.float64)))
    try:
        found = aggforce.project_forces(
            # Positions only serve to find rigid bonds, which are given.
            coords=np.zeros_like(forces, np.float64),
            forces=np.asarray(forces, np.float64),
            coord_map=aggforce.LinearMap([[int(atom)] for atom in bead_atoms], n_fg_sites=forces.shape[1]),
            constrained_inds={frozenset((int(i), int(j))) for i, j in groups.pairs},
            l2_regularization=penalty * 3 * len(forces),
        )
        matrix = found["tmap"].force_map.standard_matrix
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"the installed aggforce has another interface: {type(error).__name__}: {error}",
            remedy="install its current version, or use `projection: optimal`",
        ) from None
    return MatrixMap(np.asarray(matrix, np.float64))
