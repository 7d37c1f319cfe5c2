"""The statistically optimal linear force map.

Krämer, Durumeric, Charron, Chen, Clementi, Noé, J. Phys. Chem. Lett. 14, 3970 (2023): among all linear maps that are
consistent with the coordinate map and with rigid bonds, the forces of each have the same conditional mean, the mean
force, and differ in noise only. The best one has the smallest mean squared force. With bead I at the CA of residue I,
consistent means: weight 1 on its own CA, 0 on every other bead's CA, one weight for all atoms of a rigid group.

How it is solved. With one coefficient per rigid group, Q the mean of products of group forces, and an l2 penalty on
the weights of atoms (a group of n atoms counts n times), bead I's map g minimises gᵀQg + λ Σ n_i g_i² with the groups
that hold a CA fixed. Fixing coefficients is the simplest equality constraint there is, and eliminating it leaves

    (Q_ff + λ n_f) G_f = −Q_fc        f: free groups, c: groups with a CA; one column per bead

whose matrix does not depend on the bead: ONE Cholesky factorisation gives every map. This is better conditioned than
factorising the KKT matrix, which is indefinite, needs pivoting, and whose condition is worse than that of either block;
Q_ff is a principal submatrix of Q, so that its condition is at most that of Q (Cauchy's interlacing theorem), the
constraints hold to the last bit instead of to the residual, and λ > 0 bounds the condition by λ_max / λ.

Few frames. Seen row by row this is a ridge regression of the CA groups' forces on the free groups' forces. With fewer
rows (three a frame) than free coefficients it would fit the noise of its frames perfectly. Two things prevent that:
λ is chosen by cross-validation, with λ = ∞ (no free group takes part) among the candidates, so that the map is never
worse than the sum over the CA's rigid group by more than chance; and frames that took part in the fit are later mapped
by the fit of the other folds (cross-fitting; Chernozhukov et al., Econom. J. 21, C1 (2018)). Without it a fraction
(free coefficients / rows) of the forces on these frames, mean force included, would be fitted away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cgloop.errors import UserError
from cgloop.prep.constraints import RigidGroups

RELATIVE_L2 = (1e-6, 1e-5, 1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2, 10**-1.5, 1e-1, 10**-0.5, 1.0, 10.0, np.inf)
"""Candidates for λ, in units of the mean squared force of a free atom's group."""


@dataclass(frozen=True, eq=False)
class Products:
    """Second moments of the forces on rigid groups, from some frames.

    Attributes:
        total: float64 [G, G], sum over rows of products of group forces, (kcal/mol/Å)².
        rows: three a frame.
    """

    total: np.ndarray
    rows: int


@dataclass(frozen=True, eq=False)
class OptimalFit:
    """The maps of all beads.

    Attributes:
        weights: float64 [N, A], from all frames of the fit.
        fold_weights: for each fold, [N, A] from the frames of the other folds.
        l2: the penalty λ, (kcal/mol/Å)²; inf where the free groups are of no use.
        held_out: mean squared component of the mapped force on the fold left out, (kcal/mol/Å)².
        fitted: the same on the frames of the fit itself; much smaller than `held_out` if frames are few.
        n_free: free coefficients a bead.
        rows: rows of the regression, three a frame.
    """

    weights: np.ndarray
    fold_weights: tuple[np.ndarray, ...]
    l2: float
    held_out: float
    fitted: float
    n_free: int
    rows: int


def force_products(forces: np.ndarray, groups: RigidGroups) -> Products:
    """Second moments of group forces, from atom forces [F, A, 3] in kcal/mol/Å."""
    order = np.argsort(groups.label, kind="stable")
    starts = np.cumsum(groups.sizes) - groups.sizes
    summed = np.add.reduceat(forces[:, order].astype(np.float64), starts, axis=1)
    rows = summed.transpose(0, 2, 1).reshape(-1, groups.n_groups)
    return Products(rows.T @ rows, len(rows))


def fit_optimal(
    folds: Sequence[Products], groups: RigidGroups, bead_atoms: np.ndarray, l2: float | None = None
) -> OptimalFit:
    """The optimal map from the second moments of two or more folds of frames.

    Args:
        folds: frames far apart in time or from different trajectories, so that one tests what others have learnt.
        groups: rigid groups.
        bead_atoms: int [N], the atom that each bead sits on.
        l2: penalty in (kcal/mol/Å)²; None lets cross-validation choose.

    Raises:
        UserError: two beads in one rigid group (then no consistent linear map exists), or too few frames.
    """
    beads = _bead_groups(groups, bead_atoms)
    if len(folds) < 2 or any(fold.rows == 0 for fold in folds):
        raise UserError("too few frames to fit the optimal force map", remedy="use `projection: basic`")
    free = np.setdiff1d(np.arange(groups.n_groups), beads)
    problem = _Problem(beads, free, groups.sizes[free].astype(np.float64))
    rows = sum(fold.rows for fold in folds)
    if l2 == 0.0 and min(rows - fold.rows for fold in folds) < len(free):
        # Rounding would hide that the matrix is singular.
        raise _undetermined(l2)
    scale = sum(fold.total[free, free].sum() for fold in folds) / rows / max(problem.penalty.sum(), 1.0) or 1.0
    candidates = [relative * scale for relative in RELATIVE_L2] if l2 is None else [l2]
    scores = [_cross_validate(problem, folds, rows, candidate) for candidate in candidates]
    best = int(np.argmin(scores))
    chosen = candidates[best]
    weights = problem.solve(_moments(folds), chosen)
    parts = [problem.solve(_moments([other for other in folds if other is not fold]), chosen) for fold in folds]
    return OptimalFit(
        weights=weights[groups.label].T,
        fold_weights=tuple(part[groups.label].T for part in parts),
        l2=chosen,
        held_out=scores[best],
        fitted=sum(_mean_square(weights, fold.total) for fold in folds) / rows,
        n_free=len(free),
        rows=rows,
    )


def _bead_groups(groups: RigidGroups, bead_atoms: np.ndarray) -> np.ndarray:
    beads = groups.label[bead_atoms]
    values, counts = np.unique(beads, return_counts=True)
    if (counts > 1).any():
        shared = np.flatnonzero(beads == values[counts > 1][0])
        raise UserError(
            f"beads {shared[0]} and {shared[1]} are joined by rigid bonds: no linear force map is consistent with that",
            remedy="use `projection: slice`, or reference dynamics in which bonds between heavy atoms are flexible",
        )
    return beads


@dataclass(frozen=True, eq=False)
class _Problem:
    """Groups with a CA int [N], free groups int [R], and how many atoms each free group has [R]."""

    beads: np.ndarray
    free: np.ndarray
    penalty: np.ndarray

    def solve(self, moments: np.ndarray, l2: float) -> np.ndarray:
        """Weights of groups, float64 [G, N]; `moments` [G, G] in (kcal/mol/Å)²."""
        from scipy.linalg import cho_factor, cho_solve

        weights = np.zeros((len(moments), len(self.beads)))
        weights[self.beads, np.arange(len(self.beads))] = 1.0
        if np.isfinite(l2) and len(self.free):
            matrix = moments[np.ix_(self.free, self.free)]
            matrix[np.diag_indices_from(matrix)] += l2 * self.penalty
            try:
                factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
            except np.linalg.LinAlgError:
                raise _undetermined(l2) from None
            weights[self.free] = -cho_solve(factor, moments[np.ix_(self.free, self.beads)], check_finite=False)
        return weights


def _undetermined(l2: float) -> UserError:
    return UserError(
        f"the optimal force map is not determined by these frames with l2 = {l2:g}",
        remedy="leave `data.force_map.l2` out, or give more frames (`data.force_map.frames`)",
    )


def _moments(folds: Sequence[Products]) -> np.ndarray:
    """Mean over rows of products of group forces, [G, G]; summed in place: these matrices fill the memory."""
    moments = folds[0].total.copy()
    for fold in folds[1:]:
        moments += fold.total
    moments /= sum(fold.rows for fold in folds)
    return moments


def _cross_validate(problem: _Problem, folds: Sequence[Products], rows: int, l2: float) -> float:
    """Mean squared force on each fold under the map of the others, averaged over rows."""
    score = 0.0
    for fold in folds:
        weights = problem.solve(_moments([other for other in folds if other is not fold]), l2)
        score += _mean_square(weights, fold.total) / rows
    return score


def _mean_square(weights: np.ndarray, moments: np.ndarray) -> float:
    """Mean over beads of wᵀ M w."""
    return float(np.einsum("gn,gn->", weights, moments @ weights)) / weights.shape[1]
