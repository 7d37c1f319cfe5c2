"""Fourier series fitted to a potential, by weighted ridge least squares with linear inequalities."""

import numpy as np

VIOLATION = 1e-10
"""By how much an inequality of unit length may be violated."""

MOST_STEPS = 10_000
"""A few dozen are usual."""


def cosine_basis(angles: np.ndarray, order: int) -> np.ndarray:
    """cos nθ, [G, order + 1]."""
    return np.cos(np.outer(angles, np.arange(order + 1)))


def cosine_slopes(angles: np.ndarray, order: int) -> np.ndarray:
    """d/dθ cos nθ, [G, order + 1]."""
    n = np.arange(order + 1)
    return -n * np.sin(np.outer(angles, n))


def periodic_basis(angles: np.ndarray, order: int) -> np.ndarray:
    """cos nφ for n = 0 … order, then sin nφ for n = 1 … order: [G, 2 order + 1]."""
    return np.concatenate([cosine_basis(angles, order), np.sin(np.outer(angles, np.arange(1, order + 1)))], axis=1)


def harmonic_numbers(n_columns: int, order: int) -> np.ndarray:
    """n of each column of a basis above."""
    n = np.arange(order + 1)
    return n if n_columns == order + 1 else np.concatenate([n, n[1:]])


def fit_series(
    basis: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    harmonics: np.ndarray,
    ridge: float,
    lower: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """Coefficients c that minimize Σ_g w_g (basis_g·c − target_g)² + ridge Σ_n n⁴ c_n² under lower·c ≥ bounds.

    Solved as a least-distance problem: C. L. Lawson and R. J. Hanson, Solving Least Squares Problems, chapter 23
    (SIAM, 1995).

    Args:
        basis: [G, C]. target, weights: [G]. harmonics: [C], n of each column.
        ridge: weight of the curvature.
        lower: [M, C]. bounds: [M].

    Raises:
        ValueError: no coefficients fulfill the inequalities.
    """
    return fit_linear(basis, target, weights, np.diag(np.sqrt(ridge) * harmonics.astype(float) ** 2), lower, bounds)


def fit_linear(
    basis: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    penalty: np.ndarray,
    lower: np.ndarray,
    bounds: np.ndarray,
) -> np.ndarray:
    """As `fit_series`, with Σ (penalty·c)² in place of the weighted squares of the coefficients; penalty: [P, C]."""
    from scipy.linalg import solve_triangular

    root = np.sqrt(weights)
    tiny = 1e-9 * np.eye(basis.shape[1])
    rows = np.concatenate([basis * root[:, None], penalty, tiny])
    right = np.concatenate([target * root, np.zeros(len(penalty) + len(tiny))])
    q, r = np.linalg.qr(rows)
    free = q.T @ right
    if not len(lower):
        return solve_triangular(r, free)
    limits = solve_triangular(r, lower.T, trans="T").T
    return solve_triangular(r, free + _shortest(limits, bounds - limits @ free))


def _shortest(limits: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the shortest z [C] with limits·z ≥ bounds.

    Of thousands of inequalities at most C hold as equations. The one that is violated most joins those; each time the
    solution grows, so that none comes back for ever (the idea of D. Goldfarb and A. Idnani, Math. Program. 27, 1
    (1983)). Given all of them at once, non-negative least squares takes several times as long, and that of SciPy 1.17
    was seen to return wrong numbers, without a word, where many are nearly the same.

    Args:
        limits: [M, C]. bounds: [M].

    Raises:
        ValueError: no z fulfills the inequalities.
    """
    lengths = np.linalg.norm(limits, axis=1)
    possible = lengths > VIOLATION * lengths.max()
    if (bounds[~possible] > VIOLATION).any():
        raise ValueError("the inequalities contradict each other")
    limits, bounds = limits[possible] / lengths[possible, None], bounds[possible] / lengths[possible]
    z, active = np.zeros(limits.shape[1]), np.zeros(0, int)
    for _ in range(MOST_STEPS):
        missing = bounds - limits @ z
        worst = int(missing.argmax())
        if missing[worst] <= VIOLATION * max(1.0, float(np.abs(z).max())) or worst in active:
            return z
        active = np.append(active, worst)
        z, multipliers = _shortest_of_few(limits[active], bounds[active])
        active = active[multipliers > 0.0]
    raise ValueError(f"the inequalities are not fulfilled after {MOST_STEPS} steps")


def _shortest_of_few(limits: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z as of `_shortest`, and the multipliers of the inequalities."""
    from scipy.optimize import nnls

    system = np.concatenate([limits.T, bounds[None, :]])
    unit = np.zeros(len(system))
    unit[-1] = 1.0
    multipliers, _ = nnls(system, unit)
    residual = system @ multipliers - unit
    if np.linalg.norm(residual) < 1e-9:
        raise ValueError("the inequalities contradict each other")
    return -residual[:-1] / residual[-1], multipliers
